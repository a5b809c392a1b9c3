"""Being with a job until it is over: its log, its results, and nothing left of it on the machine.

What a job writes on its machine is AQUACHAT_HOME there. It comes back into `cloud/JOB/results`, and
each run in it can be used here by its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from aquachat.cloud.pull import Pulled, pull
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_job import GRACE_S, JobState, LogFollower, state, stop
from aquachat.cloud.ssh_errors import AuthFailedError, HostKeyError
from aquachat.cloud.transfer import Progress
from aquachat.cloud.work import JobFolder, JobRecord
from aquachat.errors import AquachatError, DataError, RemoteError
from aquachat.files import writing
from aquachat.log import redact
from aquachat.paths import Home

LEFT_THERE: Final = ("data/*", "corpora/*", "downloads/*")
"""What can be made again here, and is large."""
RETRY_S: Final = 30.0
MAX_LINE_BYTES: Final = 1 << 16
"""A longer line is not shown: a log without a line break must not fill the memory."""

Say = Callable[[str], None]


class LogLines:
    """Shows the lines of a log as they come."""

    def __init__(
        self, show: Say, secrets: Mapping[str, str] | None = None, *, is_cut: bool = False
    ) -> None:
        """Nothing is shown yet.

        Args:
            show: takes a line.
            secrets: values to hide beside those of the environment, by their names.
            is_cut: whether the first line has no beginning; it is left out then, since a part of a
                secret would not be known as one.
        """
        self._show = show
        self._secrets = dict(secrets or {})
        self._rest = b""
        self._is_long = False
        self._is_cut = is_cut

    def __call__(self, block: bytes) -> None:
        """Show the lines that end in this block."""
        *lines, rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._show_line(line)
        if len(rest) > MAX_LINE_BYTES:  # first goes what replaced itself: a progress bar
            kept = rest.rstrip(b"\r").rsplit(b"\r", 1)[-1]
            self._is_long = self._is_long or len(kept) > MAX_LINE_BYTES
            rest = b"" if self._is_long else kept
        self._rest = rest

    def close(self) -> None:
        """Show a last line that has no end."""
        if self._rest or self._is_long:
            self._show_line(self._rest)
        self._rest = b""

    def _show_line(self, line: bytes) -> None:
        if self._is_cut:
            self._is_cut = self._is_long = False
            return
        line = line.rstrip(b"\r").rsplit(b"\r", 1)[-1]
        if self._is_long or len(line) > MAX_LINE_BYTES:
            self._show(f"(a line of more than {MAX_LINE_BYTES:,} bytes; it is whole in the log)")
            self._is_long = False
        else:
            self._show(shown_line(line, self._secrets))


class LogCopy:
    """The log of a job here: its bytes in a file, its lines to a person."""

    def __init__(self, file: Path, show: Say, secrets: Mapping[str, str] | None = None) -> None:
        """Go on with a copy that was begun before."""
        self.file = file
        self.offset = file.stat().st_size if file.is_file() else 0
        begun = _last_line(file, self.offset)
        self._lines = LogLines(show, secrets, is_cut=begun is None)
        self._lines(begun or b"")

    def __call__(self, block: bytes) -> None:
        """Append bytes; whole lines are shown, without what could disturb a terminal.

        Raises:
            DataError: the disk refused it; then the same block may come again.
        """
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "ab", opener=_for_its_user) as file:
                if file.tell() > self.offset:  # a part of a block that did not fit on the disk
                    file.truncate(self.offset)
                file.write(block)
        self.offset += len(block)
        self._lines(block)

    def close(self) -> None:
        """Show a last line that has no end."""
        self._lines.close()


def _for_its_user(path: str, flags: int) -> int:
    """A log may hold what a training printed of its secrets."""
    return os.open(path, flags, 0o600)


def _last_line(file: Path, size: int) -> bytes | None:
    """What follows the last line break; None where that is too long to look for."""
    if size == 0:
        return b""
    with file.open("rb") as opened:
        opened.seek(max(0, size - MAX_LINE_BYTES))
        tail = opened.read()
    if b"\n" not in tail and size > MAX_LINE_BYTES:
        return None
    return tail.rsplit(b"\n", 1)[-1]


def shown_line(line: bytes, secrets: Mapping[str, str] | None = None) -> str:
    r"""A line of a log as it may be shown: what replaced itself by `\r` is left out, no secrets.

    Args:
        line: without its end.
        secrets: values to hide beside those of the environment, by their names.

    Example:
        shown_line(b"10%\r20%\x1b[0m") -> "20%[0m"
    """
    text = line.decode("utf-8", "replace").rstrip("\r").rsplit("\r", 1)[-1]
    text = redact(text, also=secrets)
    return redact("".join(c if c.isprintable() or c == "\t" else "" for c in text), also=secrets)


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
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values that no line may show, beside those of the environment, by their names."""

    def follower(self) -> LogFollower:
        """What receives the log from where the copy here ends."""
        copy = LogCopy(self.folder.log, self.show, self.secrets)
        place = self.record.place
        return LogFollower(self.remote, place, copy, offset=copy.offset, done=copy.close)

    def state(self) -> JobState | None:
        """How the job stands; None where the machine cannot be asked."""
        try:
            return self.remote.persist(lambda: state(self.remote, self.record.place), 30.0)
        except RemoteError as error:  # also an answer that cannot be read
            self.say(error.message)
            return None

    def end_work(self, grace_s: float = GRACE_S) -> JobState | None:
        """Ask the command to save and end, if it runs; then take the rest of the log."""
        now = self.state()
        if now is not None and now.kind == "running":
            self.say("asking the training to save and end")
            with suppress(RemoteError):
                now = stop(self.remote, self.record.place, grace_s=grace_s)
        if now is not None and now.kind != "none":
            follower = self.follower()
            try:
                self.remote.persist(lambda: follower.step(5.0), 30.0)
            except (RemoteError, DataError) as error:
                self.say(f"the end of the log did not come here: {error.message}")
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
            except (RemoteError, DataError) as error:
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
