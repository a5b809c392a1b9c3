"""Being with a job until it is over: its log, its results, and nothing left of it on the machine.

What a job writes on its machine is AQUACHAT_HOME there. It comes back into `cloud/JOB/results`, and
each run in it can be used here by its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from aquachat.cloud.pull import Pulled, pull
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_job import GRACE_S, JobState, LogFollower, state, stop
from aquachat.cloud.ssh_errors import AuthFailedError, HostKeyError, SshError
from aquachat.cloud.transfer import Progress
from aquachat.cloud.work import JobFolder, JobRecord
from aquachat.errors import AquachatError, DataError
from aquachat.files import writing
from aquachat.log import redact
from aquachat.paths import Home

LEFT_THERE: Final = ("data/*", "corpora/*", "downloads/*")
"""What can be made again here, and is large."""
RETRY_S: Final = 30.0

Say = Callable[[str], None]


class LogCopy:
    """The log of a job here: its bytes in a file, its lines to a person."""

    def __init__(self, file: Path, show: Say) -> None:
        """Go on with a copy that was begun before."""
        self.file = file
        self._show = show
        self._rest = b""
        self.offset = file.stat().st_size if file.is_file() else 0

    def __call__(self, block: bytes) -> None:
        """Append bytes; whole lines are shown, without what could disturb a terminal.

        Raises:
            DataError: the disk refused it.
        """
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                file.write(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._show(shown_line(line))

    def close(self) -> None:
        """Show a last line that has no end."""
        if self._rest:
            self._show(shown_line(self._rest))
            self._rest = b""


def shown_line(line: bytes) -> str:
    r"""A line of a log as it may be shown: what replaced itself by `\r` is left out, no secrets.

    Example:
        shown_line(b"10%\r20%\x1b[0m") -> "20%[0m"
    """
    text = line.decode("utf-8", "replace").rstrip("\r").rsplit("\r", 1)[-1]
    return redact("".join(c if c.isprintable() or c == "\t" else "" for c in text))


@dataclass(frozen=True, slots=True)
class Attended:
    """A job that was followed: its machine, its folders here and there, and its log."""

    remote: RemoteMachine
    folder: JobFolder
    record: JobRecord
    home: Home
    say: Say
    show: Say
    """Takes the lines of the log."""
    progress: Progress | None = None

    def follower(self) -> LogFollower:
        """What receives the log from where the copy here ends."""
        copy = LogCopy(self.folder.log, self.show)
        return LogFollower(self.remote, self.record.place, copy, offset=copy.offset)

    def state(self) -> JobState | None:
        """How the job stands; None where the machine cannot be asked."""
        try:
            return self.remote.persist(lambda: state(self.remote, self.record.place), 30.0)
        except SshError as error:
            self.say(error.message)
            return None

    def end_work(self, grace_s: float = GRACE_S) -> JobState | None:
        """Ask the command to save and end, if it runs; then take the rest of the log."""
        now = self.state()
        if now is not None and now.kind == "running":
            self.say("asking the training to save and end")
            with suppress(SshError):
                now = stop(self.remote, self.record.place, grace_s=grace_s)
        if now is not None and now.kind != "none":
            follower = self.follower()
            with suppress(SshError):
                self.remote.persist(lambda: follower.step(5.0), 30.0)
        return now

    def pull(self, *, deadline_s: float, with_optimizer: bool | None = None) -> Pulled:
        """Bring the results here, with checksums; safe to repeat.

        Raises:
            SshError: the machine could not be asked, or lost the connection for too long.
            DataError: they did not arrive whole, or the disk here is full.
        """
        record, results = self.record, self.folder.results
        optimizer = record.with_optimizer if with_optimizer is None else with_optimizer
        home = record.place.file("home")
        self.remote.persist(
            lambda: self.remote.script('cd && mkdir -p -- "$1"', home), deadline_s=deadline_s
        )
        pulled = pull(
            self.remote,
            home,
            results,
            with_optimizer=optimizer,
            exclude=LEFT_THERE,
            progress=self.progress,
            deadline_s=deadline_s,
        )
        for name in record.pull:
            source = str(PurePosixPath(record.project) / name)
            pull(self.remote, source, results / "project" / name, deadline_s=deadline_s)
        self._make_usable()
        return pulled

    def pull_in_time(self, seconds: Callable[[], float]) -> Pulled | None:
        """Pull, again and again until it works or the time is over.

        Args:
            seconds: how many are left.

        Returns:
            None where nothing could be brought here; why was said.
        """
        while True:
            try:
                return self.pull(deadline_s=max(5.0, seconds()))
            except (SshError, DataError) as error:
                self.say(f"the results could not be pulled: {error.message}")
                is_final = isinstance(error, HostKeyError | AuthFailedError)
                if is_final or seconds() <= RETRY_S:
                    return None
                self.say(f"trying again for {seconds() / 60:.0f} minutes; free space if need be")
                self.remote.sleep(RETRY_S)

    def runs(self) -> list[str]:
        """The names of the runs that came back."""
        folder = self.folder.results / "runs"
        return sorted(path.name for path in folder.glob("*") if path.is_dir())

    def _make_usable(self) -> None:
        """Let `--run NAME` find each pulled run; a run of that name that is here stays."""
        for name in self.runs():
            link, target = self.home.runs / name, self.folder.results / "runs" / name
            if link.exists() or link.is_symlink():
                continue
            with suppress(OSError):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)


def describe_end(now: JobState | None) -> AquachatError | None:
    """The error for a command that did not end well; None where it did.

    Example:
        describe_end(JobState("ended", 0, "ended")) -> None
    """
    if now is None or now.kind in ("none", "running"):
        return DataError(
            "how the training ended is not known, since its machine could not be asked",
            hint="look at the end of its log with `aquachat launch logs`",
        )
    if now.kind == "lost":
        return DataError(
            "the training vanished without an exit code, as when a machine is started again",
            hint="look at the end of its log with `aquachat launch logs`",
        )
    if now.code == 0:
        return None
    if now.reason != "ended":
        why = "its time was up" if now.reason == "deadline" else "it was asked to"
        return DataError(
            f"the training was ended before it was done, because {why}",
            hint="its checkpoints were pulled; go on with `--max-hours` or `--max-cost` raised",
        )
    killed = " (killed, most often because memory ran out)" if now.code == 137 else ""
    return DataError(
        f"the training ended with code {now.code}{killed}",
        hint="see why at the end of `aquachat launch logs`",
    )
