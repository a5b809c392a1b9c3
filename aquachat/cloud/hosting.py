"""A machine that a person has already: set up, send, start, follow, pull. Nothing is ended there.

It is what the predecessor called manual set-up. There is no bill here, so Ctrl-C only stops
looking: the work goes on, and `launch logs`, `pull` and `stop` find it by its job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aquachat.cloud.attending import Attended
from aquachat.cloud.delivery import Delivery
from aquachat.cloud.pull import Pulled
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_job import FOLLOW_S, JobState, Place, start
from aquachat.cloud.target import Target
from aquachat.cloud.transfer import Progress
from aquachat.cloud.work import HOST, JobFolder, JobRecord, Work, with_command
from aquachat.paths import Home

READY_S: Final = 30.0
PULL_S: Final = 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Hosted:
    """What became of a job on one's own machine."""

    record: JobRecord
    state: JobState | None = None
    """None where nothing was started."""
    pulled: Pulled | None = None


def host(
    target: Target,
    work: Work,
    folder: JobFolder,
    home: Home,
    *,
    auto_start: bool,
    detach: bool = False,
    max_seconds: float | None = None,
    environ: Mapping[str, str],
    say: Say,
    show: Say,
    progress: Progress | None = None,
    **remote_options: Any,
) -> Hosted:
    """Set the machine up and, with `auto_start`, train there and bring the results here.

    Args:
        target: the machine.
        work: what to do.
        folder: of the job, here.
        home: where results can be used from.
        auto_start: else it is only set up.
        detach: leave once it has started.
        max_seconds: how long the work may run; a timer on the machine ends it.
        environ: its secret values are in no message.
        say: told what is done.
        show: takes the lines of the training's log.
        progress: told of bytes.
        remote_options: for `RemoteMachine`.

    Raises:
        SshError: the machine cannot be reached, or refused something.
        BootError: it has no GPU that computes.
    """
    place = Place.of(folder.job, work.repo_dir)
    delivery = Delivery(work, place, folder.path.parent / "wheels", say, progress=progress)
    delivery.make_wheel()
    record = JobRecord(
        job=folder.job,
        provider=HOST,
        host=target.host,
        user=target.user,
        port=target.port,
        work=place.work,
        project=place.project,
        key_file=None if target.key_file is None else str(target.key_file.absolute()),
        host_key=target.host_key,
        with_optimizer=work.with_optimizer,
        pull=work.pull,
        variables=tuple(sorted(work.secrets)),
    )
    with RemoteMachine(
        target, folder.path, secrets=environ, sent=work.secrets, **remote_options
    ) as remote:
        remote.wait_until_ready(READY_S)
        folder.save(record)
        environment = delivery.prepare(remote)
        delivery.send(remote)
        if not auto_start:
            return Hosted(record)
        words = work.command(folder.job, environment.num_gpus)
        record = with_command(record, words)
        folder.save(record)
        form = start(remote, place, words, seconds=max_seconds)
        say(f"started in {form}: {words[0]}")
        if detach:
            return Hosted(record)
        return attend_host(
            Attended(remote, folder, record, home, say, show, progress, work.secrets)
        )


def attend_host(attended: Attended) -> Hosted:
    """Follow the work to its end and pull its results."""
    follower = attended.follower()
    while not follower.try_step(FOLLOW_S, attended.say):
        pass
    now = attended.state()
    attended.say("pulling the results")
    return Hosted(attended.record, now, attended.pull(deadline_s=PULL_S))
