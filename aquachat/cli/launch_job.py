"""Looking at a job, taking its results, and looking after it again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aquachat.cli.command import Command, execute
from aquachat.cli.launch_options import LIMITS_PANEL, dollars, flag, option, text
from aquachat.cli.launch_order import show_outcome
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError

if TYPE_CHECKING:
    from aquachat.cloud.attending import Attended
    from aquachat.cloud.jobs import Machine
    from aquachat.cloud.remote import RemoteMachine
    from aquachat.cloud.session import CloudSession
    from aquachat.cloud.work import JobFolder, JobRecord

JOB_PANEL = "The job"
JOB = Argument(
    str | None, None, typer.Argument(metavar="[JOB]", help="By default the one begun last")
)
PULL_S = 3600.0
TAIL_BYTES = 20_000
BLOCK_BYTES = 1 << 16


def register(launch: typer.Typer) -> None:
    """Add the commands to the group `launch`."""
    launch.command("logs")(logs)
    launch.command("attach")(attach)
    launch.command("ssh")(ssh)
    launch.command("pull")(pull)
    launch.command("watch")(watch)


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "job": JOB,
        "follow": option(
            bool, False, "--follow", "-f", help="Go on until the training ends", panel=JOB_PANEL
        ),
        "all_": flag("--all", "From the beginning, not only the end", JOB_PANEL),
    },
)
def logs(settings: Settings) -> None:
    """Show a job's log, also when its machine is gone.

    Examples:
        aquachat launch logs --follow

        aquachat launch logs 1a2b3c4d --all
    """
    execute(settings, _logs)


def _logs(command: Command) -> None:
    from aquachat.cloud.attending import LogLines
    from aquachat.cloud.remote_job import FOLLOW_S, LogFollower
    from aquachat.cloud.ssh_errors import CommandError, SshError

    folder, record = _found(command)
    settings = command.settings
    secrets = _secrets(command, record)
    show = LogLines(command.output.text, secrets)
    try:
        with _machine(command, folder, record) as remote:
            offset = 0 if settings["all_"] else _tail_offset(remote, record)
            show = LogLines(command.output.text, secrets, is_cut=offset > 0)
            follower = LogFollower(remote, record.place, show, offset=offset)
            is_over = follower.step(1.0)
            while settings["follow"] and not is_over:
                is_over = follower.try_step(FOLLOW_S, command.output.note)
    except CommandError:
        raise
    except SshError as error:
        if not folder.log.is_file():
            raise
        command.output.warn(f"{error.message}; this is the copy here")
        offset = 0 if settings["all_"] else max(0, folder.log.stat().st_size - TAIL_BYTES)
        show = LogLines(command.output.text, secrets, is_cut=offset > 0)
        _show_copy(folder.log, show, offset)
    show.close()
    command.output.result({"job": folder.job, "log": str(folder.log)})
    command.output.next_command(f"aquachat launch pull {folder.job}")


def _show_copy(log: Path, show: Callable[[bytes], None], offset: int) -> None:
    with log.open("rb") as file:
        file.seek(offset)
        while block := file.read(BLOCK_BYTES):
            show(block)


def _tail_offset(remote: RemoteMachine, record: JobRecord) -> int:
    """Where the last bytes begin; the first line there is seldom whole."""
    log = record.place.file("job/training.log")
    size = remote.script('cd && wc -c <"$1" 2>/dev/null || echo 0', log).text.strip()
    return max(0, int(size or 0) - TAIL_BYTES)


@recipe_command(common=OUTPUT_OPTIONS, arguments={"job": JOB})
def attach(settings: Settings) -> None:
    """Sit in front of the training: its tmux session, or its log where there is no tmux.

    Leave with Ctrl-B D; Ctrl-C asks the training to save and end.

    Examples:
        aquachat launch attach

        aquachat launch attach 1a2b3c4d
    """
    execute(settings, _attach)


_ATTACH = (
    'if [ "$(cat "$1/job/session" 2>/dev/null)" = tmux ] && tmux -L "$2" has-session -t "$2" '
    '2>/dev/null; then exec tmux -L "$2" attach -t "$2"; fi; '
    'exec tail -n 100 -f "$1/job/training.log"'
)


def _attach(command: Command) -> None:
    from aquachat.cloud.remote import script_command

    folder, record = _found(command)
    place = record.place
    words = script_command(f"cd && {_ATTACH}", place.work, place.session)
    _become(command, folder, record, words)


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "job": JOB,
        "words": Argument(
            list[str] | None,
            None,
            typer.Argument(metavar="[-- COMMAND...]", help="Run this there", show_default=False),
        ),
    },
)
def ssh(settings: Settings) -> None:
    """Log in to a job's machine with your own ssh, trusting only its pinned key.

    Examples:
        aquachat launch ssh

        aquachat launch ssh 1a2b3c4d -- nvidia-smi
    """
    execute(settings, _ssh)


def _ssh(command: Command) -> None:
    folder, record = _found(command)
    _become(command, folder, record, command.settings["words"] or [])


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "job": JOB,
        "with_optimizer": flag("--with-optimizer", "Also optimizer states", JOB_PANEL),
    },
)
def pull(settings: Settings) -> None:
    """Bring a job's results here, with checksums; also while it trains, and again.

    Examples:
        aquachat launch pull

        aquachat launch pull 1a2b3c4d --with-optimizer
    """
    execute(settings, _pull)


def _pull(command: Command) -> None:
    folder, record = _found(command)
    with _machine(command, folder, record) as remote:
        attended = _attended(command, remote, folder, record)
        wants = command.settings["with_optimizer"] or record.with_optimizer
        pulled = attended.pull(deadline_s=PULL_S, with_optimizer=wants)
    runs = attended.runs()
    command.output.result(
        {
            "job": folder.job,
            "results": str(folder.results),
            "runs": runs,
            "files": len(pulled.files),
            "bytes": sum(file.num_bytes for file in pulled.files),
            "bytes_received": pulled.num_bytes_received,
        }
    )
    command.output.text(
        f"{len(pulled.files)} files, {pulled.num_bytes_received:,} bytes received, in "
        f"`{folder.results}`"
    )
    command.output.next_command(
        f"aquachat report --run {runs[-1]}" if runs else f"aquachat launch logs {folder.job}"
    )


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "job": JOB,
        "max_hours": option(
            float | None, None, "--max-hours", help="Change the limit", panel=LIMITS_PANEL
        ),
        "max_cost": text("--max-cost", "USD", "Change the limit", LIMITS_PANEL),
    },
)
def watch(settings: Settings) -> None:
    """Look after a job whose launcher is gone: follow, hold its limits, pull, end its machine.

    Examples:
        aquachat launch watch

        aquachat launch watch 1a2b3c4d --max-hours 8
    """
    execute(settings, _watch)


def _watch(command: Command) -> None:
    from aquachat.cloud.attending import describe_end
    from aquachat.cloud.hosting import attend_host
    from aquachat.cloud.interrupts import raising_signals
    from aquachat.cloud.providers import open_session
    from aquachat.cloud.renting import Outcome, attend
    from aquachat.cloud.session import in_charge
    from aquachat.cloud.work import HOST

    folder, record = _found(command)
    if record.provider == HOST:
        with _machine(command, folder, record) as remote:
            done = attend_host(_attended(command, remote, folder, record))
        problem = describe_end(done.state)
        command.output.result({"job": folder.job, "results": str(folder.results)})
        if problem is not None:
            raise problem
        command.output.next_command(f"aquachat launch logs {folder.job}")
        return
    session = open_session(
        record.provider, environ=command.environ, home=command.home, say=command.output.note
    )
    with raising_signals(), in_charge(session, folder.job):
        _change_limits(command, session, folder.job)
        machine = _live_machine(session, folder.job)
        with _machine(command, folder, record) as remote:
            outcome = attend(
                session, Outcome(machine, record), _attended(command, remote, folder, record)
            )
    show_outcome(command, folder, outcome)


def _change_limits(command: Command, session: CloudSession, job: str) -> None:
    from dataclasses import replace

    from aquachat.cloud.session import change_limits

    hours = command.settings["max_hours"]
    cost = dollars(command.settings["max_cost"], "--max-cost")
    if hours is None and cost is None:
        return
    limits = session.job(job).limits
    if hours is not None:
        limits = replace(limits, max_hours=hours)
    if cost is not None:
        limits = replace(limits, max_cost_usd=cost)
    change_limits(session, job, limits)


def _live_machine(session: CloudSession, job: str) -> Machine:
    live = session.job(job).live
    if not live:
        raise ConfigError(
            f"no machine of job {job} runs any more",
            hint=f"its log and results: `aquachat launch logs {job}`",
        )
    return live[-1]


def stop_work(command: Command, job: str, *, now: bool) -> bool:
    """Let a job that can be reached save and bring its results here, before its machine ends.

    Args:
        command: the call.
        job: a job, or the id of a machine, of which nothing is known here.
        now: only end.

    Returns:
        True for a job on a machine of one's own: there is nothing more to end.

    Raises:
        SshError: such a machine could not be reached.
    """
    from aquachat.cloud.naming import is_job
    from aquachat.cloud.work import HOST, RECORD, job_folder

    if not is_job(job) or not (command.home.cloud / job / RECORD).is_file():
        return False
    folder = job_folder(command.home, job)
    record = folder.load()
    with _machine(command, folder, record) as remote:
        attended = _attended(command, remote, folder, record)
        if record.provider == HOST:
            _stop_hosted(command, attended, now=now)
            return True
        if not now:
            _save_before_end(command, attended)
    return False


def _stop_hosted(command: Command, attended: Attended, *, now: bool) -> None:
    from aquachat.cloud.remote_job import GRACE_S, stop

    state = stop(attended.remote, attended.record.place, grace_s=1.0 if now else GRACE_S)
    pulled = None if now else attended.pull(deadline_s=PULL_S)
    folder = attended.folder
    command.output.result(
        {
            "job": folder.job,
            "end": state.reason or state.kind,
            "code": state.code,
            "results": None if pulled is None else str(folder.results),
        }
    )
    command.output.text(f"job {folder.job} on {attended.remote.target}: {state.kind}")
    command.output.next_command(f"aquachat launch logs {folder.job}")


def _save_before_end(command: Command, attended: Attended) -> None:
    """Nothing that goes wrong here may keep the machine from being ended."""
    from aquachat.cloud.locking import is_locked
    from aquachat.cloud.providers import open_session
    from aquachat.cloud.stopping import leave_to_watcher, save_and_pull

    record = attended.record
    session = open_session(
        record.provider, environ=command.environ, home=command.home, say=command.output.note
    )
    if not session.job(record.job).live:
        return
    lock = session.ledger.job_lock(record.job)
    # a launcher that keeps the machine would not notice that the work has ended
    if is_locked(lock) and record.command and not record.keep:
        leave_to_watcher(session, attended, lambda: is_locked(lock))
    else:
        save_and_pull(attended)


def _found(command: Command) -> tuple[JobFolder, JobRecord]:
    from aquachat.cloud.work import find_job

    folder = find_job(command.home, command.settings["job"])
    return folder, folder.load()


def _machine(command: Command, folder: JobFolder, record: JobRecord) -> RemoteMachine:
    from aquachat.cloud.remote import RemoteMachine

    sent = _secrets(command, record)
    return RemoteMachine(record.target, folder.path, secrets=command.environ, sent=sent)


def _secrets(command: Command, record: JobRecord) -> dict[str, str]:
    """What the variables that were sent are set to here."""
    return {name: command.environ[name] for name in record.variables if name in command.environ}


def _attended(
    command: Command, remote: RemoteMachine, folder: JobFolder, record: JobRecord
) -> Attended:
    from aquachat.cloud.attending import Attended

    note = command.output.note
    secrets = _secrets(command, record)
    return Attended(remote, folder, record, command.home, note, note, secrets=secrets)


def _become(
    command: Command,
    folder: JobFolder,
    record: JobRecord,
    words: list[str],
    call: Callable[[list[str]], int] = subprocess.call,
) -> None:
    """Run the person's own ssh in this terminal, and end with its code."""
    from aquachat.cloud.target import KNOWN_HOSTS

    ssh_words = record.target.command(folder.path / KNOWN_HOSTS, remote=words)
    if command.output.json:
        command.output.result({"job": folder.job, "command": ssh_words})
        return
    try:
        if sys.platform == "win32":
            raise SystemExit(call(ssh_words))
        sys.stdout.flush()
        os.execvp(ssh_words[0], ssh_words)
    except FileNotFoundError:
        raise ConfigError(
            "there is no `ssh` on this computer",
            hint="install OpenSSH, or see the log with `aquachat launch logs --follow`",
        ) from None
