"""A command that runs on a machine whether anybody is connected or not.

    start    once, however often it is asked for: in tmux, or detached where there is no tmux
    follow   the log from a byte on, over as many connections as it takes
    stop     asks the command to save and end, and kills it after a grace

On the machine a supervisor (`scripts/supervise.sh`) holds the command to its deadline and writes
its exit code. It knows nothing of the bill: `ending` ends machines, or `self_termination`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from aquachat.cloud.remote import COMMAND_S, RemoteMachine
from aquachat.cloud.shell_scripts import command, script
from aquachat.cloud.ssh_errors import (
    CommandError,
    DeadlineError,
    DroppedError,
    UnreachableError,
)
from aquachat.errors import DataError, RemoteError

GRACE_S: Final = 120.0
"""For a checkpoint to be written after SIGTERM; then SIGKILL."""
START_S: Final = 180.0
FOLLOW_S: Final = 25.0
"""One call of the remote loop; it ends by itself, so that none is left after a lost connection."""
ENDED: Final = 10
LOST: Final = 11
NOT_STARTED: Final = 12
STOP_POLL_S: Final = 0.5

Kind = Literal["none", "running", "ended", "lost"]


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands on its machine."""

    kind: Kind
    code: int | None = None
    """The exit code of an ended command; 128 + N where signal N ended it."""
    reason: str = ""
    """`ended` by itself, `stop` because it was asked to, `deadline` because its time was up."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of a job on a machine, relative to the home unless absolute."""

    work: str
    project: str

    @classmethod
    def of(cls, job: str, project: str | None = None) -> Place:
        """The usual place of a job.

        Example:
            Place.of("1a2b3c4d").work -> "aquachat/1a2b3c4d"
        """
        work = f"aquachat/{job}"
        return cls(work, project or f"{work}/project")

    def file(self, name: str) -> str:
        """A path below the work folder."""
        return str(PurePosixPath(self.work) / name)

    @property
    def session(self) -> str:
        """The name of the tmux session, and of its server."""
        return f"aquachat-{PurePosixPath(self.work).name}"


def start(
    machine: RemoteMachine,
    place: Place,
    words: Sequence[str],
    *,
    seconds: float | None = None,
    grace_s: float = GRACE_S,
) -> str:
    """Start the command, unless that was done; safe to repeat after a lost connection.

    Args:
        machine: where.
        place: its folders.
        words: the command, as an argument list.
        seconds: how long it may run; None for no limit on the machine.
        grace_s: how long it may take to end after SIGTERM.

    Returns:
        `tmux` or `setsid`: what it runs in.

    Raises:
        CommandError: it could not be started.
    """
    limit = "0" if seconds is None else str(max(1, int(seconds)))
    text = f"exec {shlex.join(words)}\n".encode("utf-8", "surrogateescape")
    options = (limit, str(int(grace_s)), script("supervise"), str(len(text)))
    words = command("start", place.work, place.project, *options)
    result = machine.persist(lambda: machine.check(words, stdin=text, deadline_s=START_S))
    return result.text.split(" ")[0].strip()


def state(machine: RemoteMachine, place: Place, *, deadline_s: float = COMMAND_S) -> JobState:
    """How the job stands.

    Raises:
        SshError: the machine could not be asked.
    """
    result = machine.check(command("state", place.work), deadline_s=deadline_s)
    return parse_state(result.text)


def parse_state(text: str) -> JobState:
    """What `state.sh` said.

    Example:
        parse_state("143 deadline") -> JobState("ended", 143, "deadline")

    Raises:
        RemoteError: it said something else.
    """
    words = text.split()
    match words:
        case ["none" | "running" | "lost" as kind]:
            return JobState(kind)
        case [code, reason] if code.isdigit():
            return JobState("ended", int(code), reason)
    raise RemoteError(
        f"the machine says of the job `{text.strip()[:50]}`, which cannot be read",
        hint="log in with `aquachat launch ssh` and look",
    )


def set_deadline(machine: RemoteMachine, place: Place, seconds: float) -> None:
    """Give the command other seconds from now on; safe to repeat."""
    words = command("limit", place.work, str(max(1, int(seconds))))
    machine.persist(lambda: machine.check(words))


def stop(
    machine: RemoteMachine, place: Place, *, grace_s: float = GRACE_S, margin_s: float = 30.0
) -> JobState:
    """Ask the command to save and end, and wait until it has.

    Returns:
        How it stands after that: still `running` if it did not end within the grace and a margin.
    """
    words = command("limit", place.work, "0")
    machine.persist(lambda: machine.check(words), grace_s)
    end = machine.now() + grace_s + margin_s
    while True:
        now = machine.persist(lambda: state(machine, place), grace_s)
        if now.kind != "running" or machine.now() >= end:
            return now
        machine.sleep(STOP_POLL_S)


class LogFollower:
    """Receives a job's log from a byte on; what was received is never asked for again."""

    def __init__(
        self,
        machine: RemoteMachine,
        place: Place,
        sink: Callable[[bytes], None],
        *,
        offset: int = 0,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            machine: where.
            place: of the job.
            sink: takes the bytes, in order, each once.
            offset: bytes that the sink has already.
            done: called when the log is complete.
        """
        self._machine = machine
        self._place = place
        self._sink = sink
        self._done = done
        self.offset = offset
        self.is_over = False
        """Whether the whole log was received and nothing will be added to it."""
        self.is_lost = False
        """Whether the job vanished without an exit code: a machine that was started again."""

    def step(self, seconds: float = FOLLOW_S) -> bool:
        """Receive for at most about `seconds`; True when the log is complete.

        Raises:
            DroppedError: the connection was lost; the next step goes on at the right byte.
            UnreachableError: there is no connection.
            DeadlineError: the machine went silent.
            CommandError: there is no such job.
            DataError: the sink did not take a block, which is asked for again.
        """
        seconds = max(1.0, min(seconds, FOLLOW_S))
        words = command("follow", self._place.work, str(self.offset), str(int(seconds)))
        with self._machine.opened(words, deadline_s=seconds + COMMAND_S) as channel:
            channel.end_input()
            while block := channel.read():
                self._sink(block)
                self.offset += len(block)
            result = channel.finish()
        if result.code < 0:
            raise DroppedError(
                f"{self._machine.target} ended what read the log, as when it shuts down",
                hint="see with `aquachat launch status` whether it still runs",
            )
        if result.code not in (0, ENDED, LOST):
            if result.code == NOT_STARTED:
                raise CommandError(
                    f"nothing was started in `{self._place.work}` on {self._machine.target}",
                    hint="see `aquachat launch status`",
                    code=NOT_STARTED,
                )
            raise self._machine.failure(words, result)
        self.is_lost = result.code == LOST
        self.is_over = result.code in (ENDED, LOST)
        if self.is_over:
            self._done()
        return self.is_over

    def try_step(self, seconds: float, say: Callable[[str], None]) -> bool:
        """`step`, where a lost connection or a full disk here is said and means "not over"."""
        try:
            return self.step(seconds)
        except (DroppedError, UnreachableError, DeadlineError, DataError) as error:
            say(f"{error.message}; going on at byte {self.offset}")
            self._machine.close()
            self._machine.sleep(min(1.0, seconds))
            return False
