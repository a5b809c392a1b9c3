"""A whole rental: order, check, send, train, pull, end.

Until the work has started, anything that goes wrong ends the machine at once. After that, whatever
ends the attendance (the work is done, a limit is near, Ctrl-C, SIGTERM, a closed terminal) stops
the work, pulls the results and then ends the machine; a second interruption skips the pulling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from aquachat.cloud.attending import Attended
from aquachat.cloud.base import Instance
from aquachat.cloud.booting import MAX_REROLLS, launch_ready
from aquachat.cloud.bootstrap import Environment
from aquachat.cloud.delivery import Delivery
from aquachat.cloud.ending import Ended, ended_on_error, terminate_and_confirm
from aquachat.cloud.host_key import HostKey
from aquachat.cloud.interrupts import raising_signals
from aquachat.cloud.jobs import Machine, MachineState
from aquachat.cloud.launching import LaunchPlan
from aquachat.cloud.pull import Pulled
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_job import GRACE_S, JobState, Place, set_deadline, start
from aquachat.cloud.self_termination import Order, arm, set_order
from aquachat.cloud.session import CloudSession, in_charge, mark_started
from aquachat.cloud.ssh_errors import AuthFailedError, UnreachableError
from aquachat.cloud.target import Target
from aquachat.cloud.transfer import Progress
from aquachat.cloud.watching import POLL_S, Verdict, watch
from aquachat.cloud.work import JobFolder, JobRecord, Work, with_command
from aquachat.errors import ConfigError, DataError, RemoteError
from aquachat.paths import Home

RESERVE_S: Final = 600.0
"""Of a job's time, kept for saving, pulling and ending."""
RESERVE_FRACTION: Final = 0.15
MIN_WORK_S: Final = 30.0
LOGIN_S: Final = 15.0
"""One try to log in to a machine that is still starting."""
REFUSED_S: Final = 180.0
"""How long a machine may refuse the key: images write `authorized_keys` after sshd is up."""
PULL_S: Final = 1800.0
"""How long results are tried for when the work is done, within the limits."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What happens around the work."""

    auto_start: bool = False
    """Else the machine is set up and kept for a person until its time is up."""
    keep: bool = False
    """Leave the machine running after the work, until its time is up."""
    detach: bool = False
    """Leave when the work has started; the machine ends itself."""
    self_terminate: bool = False
    key_file: Path | None = None
    user: str | None = None
    """To log in as; by default the one that the provider names."""
    port: int | None = None
    """Of SSH, in the same way."""
    host_key: HostKey | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a rental."""

    machine: Machine
    record: JobRecord
    state: JobState | None = None
    """How the work ended; None where it was not started, or could not be asked."""
    pulled: Pulled | None = None
    ended: Ended | None = None
    """None where the machine was left running on purpose."""
    limit: str = ""
    """The limit that was reached; empty where none was."""
    cost_usd: Decimal | None = None
    num_rerolls: int = 0


class Rental:
    """One job at one provider, from the order to the confirmed end."""

    def __init__(
        self,
        session: CloudSession,
        plan: LaunchPlan,
        work: Work,
        folder: JobFolder,
        home: Home,
        options: Options,
        *,
        environ: dict[str, str],
        show: Say,
        progress: Progress | None = None,
        max_rerolls: int = MAX_REROLLS,
        remote_options: dict[str, Any] | None = None,
    ) -> None:
        """Nothing is ordered yet.

        Args:
            session: the provider and the ledger.
            plan: what to order.
            work: what to do there.
            folder: of the job, here.
            home: where results can be used from.
            options: around the work.
            environ: holds the secrets that no message may show, and the key for
                `--self-terminate`.
            show: takes the lines of the training's log.
            progress: told of bytes sent and pulled.
            max_rerolls: how often a machine without a working GPU is replaced.
            remote_options: for `RemoteMachine`.
        """
        self._session, self._plan, self._work = session, plan, work
        self._folder, self._home, self._options = folder, home, options
        self._environ, self._show, self._progress = environ, show, progress
        self._max_rerolls = max_rerolls
        self._remote_options = remote_options or {}
        self._place = Place.of(plan.job, work.repo_dir)
        self._remote: RemoteMachine | None = None
        self._refused_since_s: float | None = None
        self._environment: Environment | None = None
        self._delivery = Delivery(
            work,
            self._place,
            folder.path.parent / "wheels",
            session.say,
            self._time_left,
            plan.want.count,
            progress,
        )

    def run(self) -> Outcome:
        """Rent, work, and end.

        Raises:
            AquachatError: as `launch_ready`, or what went wrong before the work started; nothing
                is running then unless the error says so.
            LeftRunningError: the machine may still be running.
        """
        session, job = self._session, self._plan.job
        self._delivery.make_wheel()
        with raising_signals(), in_charge(session, job):
            try:
                # around all of it: a signal may come between any two of these lines
                with ended_on_error(session, job):
                    ready = launch_ready(
                        session, self._plan, probe=self._probe, max_rerolls=self._max_rerolls
                    )
                    attended = self._begin(ready.machine)
                    outcome = Outcome(ready.machine, attended.record, num_rerolls=ready.num_rerolls)
                    if self._options.detach:
                        return outcome
                    return attend(session, outcome, attended)
            finally:
                if self._remote is not None:
                    self._remote.close()

    def _probe(self, instance: Instance) -> bool:
        """Log in and set up; False while the machine does not let anybody in yet."""
        remote = self._connected(instance)
        if remote is None:
            return False
        self._environment = self._delivery.prepare(remote)
        return True

    def _connected(self, instance: Instance) -> RemoteMachine | None:
        options, key = self._options, self._options.host_key
        target = Target(
            str(instance.ip),
            options.user or instance.ssh_user,
            options.port or instance.ssh_port,
            options.key_file,
            None if key is None else key.public,
        )
        if self._remote is None or self._remote.target != target:
            self._folder.path.mkdir(parents=True, exist_ok=True)
            self._remote = RemoteMachine(
                target,
                self._folder.path,
                secrets=self._environ,
                sent=self._work.secrets,
                **self._remote_options,
            )
            self._refused_since_s = None
        try:
            self._remote.connect(LOGIN_S)
        except UnreachableError as error:
            self._session.say(f"{error.message}; trying again")
            return None
        except AuthFailedError as error:
            self._check_patience(error)
            self._session.say(f"{error.message}; trying again")
            return None
        return self._remote

    def _check_patience(self, error: AuthFailedError) -> None:
        """Raise what no other machine would cure: the bill runs while a wrong key is tried."""
        now_s = self._session.clock.time()
        if self._refused_since_s is None:
            self._refused_since_s = now_s
        if now_s - self._refused_since_s >= REFUSED_S:
            raise error

    def _begin(self, machine: Machine) -> Attended:
        """Send and start; everything after this may go on without us."""
        session, options, remote = self._session, self._options, self._remote
        assert remote is not None
        assert self._environment is not None
        record = JobRecord(
            job=self._plan.job,
            provider=session.provider.name,
            host=remote.target.host,
            user=remote.target.user,
            port=remote.target.port,
            work=self._place.work,
            project=self._place.project,
            key_file=None if options.key_file is None else str(options.key_file.absolute()),
            host_key=remote.target.host_key,
            with_optimizer=self._work.with_optimizer,
            pull=self._work.pull,
            keep=options.keep,
            self_terminate=options.self_terminate,
            variables=tuple(sorted(self._work.secrets)),
        )
        self._folder.save(record)
        self._delivery.send(remote)
        if options.self_terminate:
            left_s = self._time_left()
            arm(remote, self._place, machine, self._environ, seconds=left_s, say=session.say)
        session.check_not_stopped(record.job)
        if options.auto_start:
            words = self._work.command(record.job, self._environment.num_gpus)
            left_s = self._time_left()
            seconds = left_s - reserve_s(left_s)
            if seconds < MIN_WORK_S:
                raise ConfigError(
                    f"the limits leave {max(0.0, seconds):.0f} s for training after the set-up",
                    hint="raise `--max-hours` or `--max-cost`",
                )
            record = with_command(record, words)
            self._folder.save(record)  # before the start: `watch` must know that something runs
            form = start(remote, self._place, words, seconds=seconds, grace_s=grace_of(left_s))
            session.say(f"started in {form}, for at most {seconds / 3600:.1f} hours: {words[0]}")
        mark_started(session, machine)
        return Attended(
            remote,
            self._folder,
            record,
            self._home,
            session.say,
            self._show,
            self._progress,
            self._work.secrets,
        )

    def _time_left(self) -> float:
        session = self._session
        job = session.job(self._plan.job)
        machines = job.live
        if not machines:
            return 3600.0 * self._plan.limits.max_hours
        return job.deadline_s(machines[-1]) - session.clock.time()


def reserve_s(left_s: float) -> float:
    """The part of the time left that is kept for saving, pulling and ending."""
    return min(RESERVE_S, RESERVE_FRACTION * left_s)


def grace_of(left_s: float) -> float:
    """How long the work may take to save, of that reserve."""
    return max(1.0, min(GRACE_S, reserve_s(left_s) / 2))


def attend(session: CloudSession, outcome: Outcome, attended: Attended) -> Outcome:
    """Follow the work until it ends or its time is nearly up; then pull and end the machine.

    Raises:
        LeftRunningError: the machine may still be running.
    """
    machine = outcome.machine
    try:
        verdict = _watch(session, machine, attended)
    except BaseException:  # Ctrl-C, SIGTERM and bugs too: the machine costs until it is ended
        session.say(
            f"interrupted: job {machine.job} is stopped, pulled and ended; interrupt again to end "
            "its machine without pulling"
        )
        _conclude(session, outcome, attended, Verdict("gone", "interrupted"))
        raise
    return _conclude(session, outcome, attended, verdict)


def _watch(session: CloudSession, machine: Machine, attended: Attended) -> Verdict:
    """Until the work is done and need not be kept, or the reserve of its time is reached."""
    has_work = bool(attended.record.command)
    follower = attended.follower() if has_work else None
    limit_s = [0.0]

    def is_done(seconds: float) -> bool:
        deadline_s = session.job(machine.job).deadline_s(machine)
        total_s = deadline_s - machine.ordered_at_s
        soft_s = deadline_s - reserve_s(total_s)
        if session.clock.time() >= soft_s:
            return True
        if limit_s[0] != deadline_s:  # also at first: a watcher may come with other limits
            _tell_limit(session, attended, machine, deadline_s, soft_s)
        limit_s[0] = deadline_s
        if follower is None or follower.is_over:
            return follower is not None and not attended.record.keep
        return follower.try_step(seconds, session.say) and not attended.record.keep

    verdict = watch(session, machine, is_done=is_done, poll_s=POLL_S)
    if verdict.kind == "done" and not (follower is not None and follower.is_over):
        deadline_s = session.job(machine.job).deadline_s(machine)
        return Verdict("limit", f"its time is up in {deadline_s - session.clock.time():.0f} s")
    return verdict


def _tell_limit(
    session: CloudSession, attended: Attended, machine: Machine, deadline_s: float, soft_s: float
) -> None:
    """Another command changed the limits: the timers on the machine must know."""
    remote, place, now_s = attended.remote, attended.record.place, session.clock.time()
    try:
        set_deadline(remote, place, soft_s - now_s)
        if attended.record.self_terminate:
            order = Order(machine.provider, machine.instance_id, deadline_s - now_s)
            set_order(remote, place, order)
    except RemoteError as error:
        session.say(f"the timers on the machine could not be changed: {error.message}")


def _conclude(
    session: CloudSession, outcome: Outcome, attended: Attended, verdict: Verdict
) -> Outcome:
    machine = outcome.machine
    is_over = verdict.kind == "gone" and verdict.reason != "interrupted"
    now: JobState | None = None
    pulled: Pulled | None = None

    def seconds() -> float:
        deadline_s = session.job(machine.job).deadline_s(machine)
        return min(PULL_S - (attended.remote.now() - began), deadline_s - session.clock.time())

    began = attended.remote.now()
    try:
        if not is_over:
            left_s = seconds()
            now = attended.end_work(grace_of(left_s) if left_s > 0 else 1.0)
            if left_s > 0:
                session.say("pulling the results")
                pulled = attended.pull_in_time(seconds)
        return replace(
            outcome,
            state=now,
            pulled=pulled,
            limit=verdict.reason if verdict.kind == "limit" else "",
            ended=terminate_and_confirm(session, machine, reason=verdict.reason),
            cost_usd=session.job(machine.job).cost_usd(session.clock.time()),
        )
    except BaseException as error:  # a second Ctrl-C: no more pulling, but the machine must end
        _end_if_running(session, machine, error)
        raise


def _end_if_running(session: CloudSession, machine: Machine, error: BaseException) -> None:
    try:
        known = session.job(machine.job).machines.get(machine.instance_id, machine)
    except DataError:  # a ledger that cannot be read must not keep a machine alive
        known = machine
    if known.state is not MachineState.ENDED and not known.is_left:
        session.say(f"ending machine `{machine.instance_id}` without pulling")
        terminate_and_confirm(session, machine, reason=f"{type(error).__name__} while pulling")


def check_options(options: Options) -> None:
    """Refuse what could leave a machine running with nobody to end it.

    Raises:
        ConfigError: `--detach` without `--self-terminate`.
    """
    if options.detach and not options.self_terminate:
        raise ConfigError(
            "with `--detach` nothing here holds the limits",
            hint="add `--self-terminate`, or stay: closing the terminal then ends the machine",
        )
