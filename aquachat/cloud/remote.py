"""A machine at the other end of SSH: commands with deadlines of our own, and lost connections.

paramiko's own waits cannot be trusted with a deadline (`recv_exit_status` ignores time-outs,
paramiko issues 1815 and 2308), so every wait here polls against the clock of this machine.
Commands are argument lists, quoted for the shell that sshd starts; values that are secret travel
on standard input, never on a command line.
"""

from __future__ import annotations

import logging
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from aquachat.cloud.ssh_errors import (
    AuthFailedError,
    CommandError,
    DeadlineError,
    DroppedError,
    HostKeyError,
    SshError,
    UnreachableError,
    reason_of,
)
from aquachat.cloud.target import KNOWN_HOSTS, PinnedKeys, PinOnFirstSight, Target
from aquachat.log import redact

CONNECT_S: Final = 20.0
COMMAND_S: Final = 60.0
KEEP_ALIVE_S: Final = 15
DEAD_AFTER_S: Final = 60
"""A peer that acknowledges nothing for so long is gone (TCP_USER_TIMEOUT of tcp(7))."""
MAX_OUTPUT_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 1 << 15
POLL_S: Final = 0.005
LAST_WORDS_S: Final = 1.0
"""For output that comes after the exit code, or never because a child holds the pipe."""
MAX_QUOTED_CHARS: Final = 300

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    """-1 if a signal ended it."""
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    """Whether more came than was kept."""

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")


class RemoteMachine:
    """A machine that one is, or was, connected to; connects by itself when it must.

    Example:
        with RemoteMachine(target, home.cloud / job) as machine:
            machine.check(["uname", "-m"]).text
    """

    def __init__(
        self,
        target: Target,
        folder: Path,
        *,
        secrets: Mapping[str, str] | None = None,
        sent: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is sent yet.

        Args:
            target: where it is.
            folder: of the job, for its `known_hosts`.
            secrets: an environment whose secret values no error message may show.
            sent: values that it may not show either, whatever their names.
            now: seconds, never going back.
            sleep: how to wait.
        """
        self.target = target
        self.keys = PinnedKeys(folder / KNOWN_HOSTS)
        self._secrets = dict(secrets or {})
        self._sent = dict(sent or {})
        self.now = now
        self.sleep = sleep
        self._client: Any = None
        self.connections = 0
        """How often a connection was made."""
        self.channels = 0
        """How many channels were opened."""

    def __enter__(self) -> RemoteMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what runs on the machine goes on."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that nobody has found broken yet."""
        transport = None if self._client is None else self._client.get_transport()
        return transport is not None and bool(transport.is_active())

    def connect(self, deadline_s: float = CONNECT_S) -> None:
        """Log in once, unless that is done.

        Raises:
            HostKeyError: another key than the pinned one; the log-in was not tried.
            AuthFailedError: the key is not accepted.
            UnreachableError: no SSH server answers there in time.
        """
        if self.is_connected:
            return
        self.close()
        if self.target.host_key is not None:
            self.keys.pin(self.target.known_name, self.target.host_key)
        self._client = self._logged_in(deadline_s)
        self._client.get_transport().set_keepalive(KEEP_ALIVE_S)
        self.connections += 1

    def wait_until_ready(self, deadline_s: float) -> None:
        """Try to log in until it works, for a machine that is still starting.

        Raises:
            HostKeyError: as in `connect`; at once.
            AuthFailedError: the key is not accepted, also not for the last half minute: images
                write `authorized_keys` a while after sshd is up.
            UnreachableError: nothing answered by then.
        """
        end = self.now() + deadline_s
        wait_s = 1.0
        while True:
            try:
                return self.connect(min(CONNECT_S, max(1.0, end - self.now())))
            except (UnreachableError, AuthFailedError) as error:
                if self.now() + wait_s >= end:
                    raise
                _LOG.debug("%s; trying again", error.message)
            self.sleep(wait_s)
            wait_s = min(2 * wait_s, 10.0)

    def persist(self, action: Callable[[], T], deadline_s: float = 300.0) -> T:
        """Do `action`, again after each lost connection, until `deadline_s` have gone.

        `action` must be safe to repeat.
        """
        end = self.now() + deadline_s
        while True:
            try:
                return action()
            except (DroppedError, UnreachableError) as error:
                if self.now() >= end:
                    raise
                _LOG.info("%s; connecting again", error.message)
                self.close()
                self.sleep(min(1.0, max(0.0, end - self.now())))

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        deadline_s: float = COMMAND_S,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> Result:
        """Run a command to its end, whatever its code.

        Args:
            command: an argument list; it is quoted, so nothing in it is expanded or executed.
            stdin: what it reads.
            deadline_s: how long it may take; then its channel is closed.
            max_output_bytes: kept of each of its outputs; what is beyond is read and dropped.

        Raises:
            DeadlineError: it took longer.
            DroppedError: the connection was lost.
        """
        with self.opened(command, deadline_s=deadline_s) as channel:
            channel.write(stdin)
            channel.end_input()
            return channel.finish(max_output_bytes)

    def check(self, command: Sequence[str], **options: Any) -> Result:
        """`run`, for a command that must succeed.

        Raises:
            CommandError: it ended with another code than 0.
        """
        result = self.run(command, **options)
        if result.code != 0:
            raise self.failure(command, result)
        return result

    def script(self, text: str, *arguments: str, **options: Any) -> Result:
        """Run a POSIX shell script that must succeed, with `$1`, `$2`... as given."""
        return self.check(script_command(text, *arguments), **options)

    def failure(self, command: Sequence[str], result: Result) -> CommandError:
        """The error for a command that ended badly; secrets are taken out."""
        stderr = result.stderr.decode("utf-8", "replace")
        known = reason_of(stderr + result.text[-1000:])
        said = self.shown(stderr)[-MAX_QUOTED_CHARS:].strip()
        how = f"with code {result.code}" if result.code >= 0 else "by a signal"
        name = self.shown(command[0]) if command[:2] != ["sh", "-c"] else "a script"
        if known is not None:
            return CommandError(
                f"{known[0]} of {self.target}: {said}", hint=known[1], code=result.code
            )
        return CommandError(
            f"{name} ended {how} on {self.target}: {said or 'it said nothing'}",
            hint="log in with `aquachat launch ssh` and look",
            code=result.code,
        )

    def shown(self, text: str) -> str:
        """`text` as one line that may be shown: without secrets or control characters."""
        text = redact(text, self._secrets, self._sent)
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())

    @contextmanager
    def opened(self, command: Sequence[str], *, deadline_s: float) -> Iterator[Channel]:
        """A running command, to write to and read from; closed at the end of the block."""
        end = self.now() + deadline_s
        self.connect(min(CONNECT_S, max(1.0, deadline_s)))
        try:
            raw = self._client.get_transport().open_session(timeout=max(1.0, end - self.now()))
            self.channels += 1
            raw.settimeout(max(1.0, end - self.now()))
            raw.exec_command(shlex.join(command))
        except _ssh_exceptions() as error:
            self.close()
            raise self._dropped() from error
        try:
            yield Channel(self, raw, end, deadline_s)
        except _broken() as error:  # also raised by reads, which tell the peer of free room
            raise self._dropped() from error
        finally:
            with suppress(*_ssh_exceptions()):
                raw.close()

    def _dropped(self) -> DroppedError:
        return DroppedError(
            f"the connection to {self.target} was lost", hint="check the network and try again"
        )

    def _logged_in(self, deadline_s: float) -> Any:
        import paramiko

        client = paramiko.SSHClient()
        if self.keys.file.exists():
            client.load_host_keys(str(self.keys.file))
        client.set_missing_host_key_policy(PinOnFirstSight(self.keys))
        key_file = self.target.key_file
        try:
            client.connect(
                self.target.host,
                self.target.port,
                self.target.user,
                key_filename=None if key_file is None else str(key_file.expanduser()),
                allow_agent=key_file is None,
                look_for_keys=key_file is None,
                sock=self._socket(deadline_s),
                timeout=deadline_s,
                banner_timeout=deadline_s,
                auth_timeout=deadline_s,
                channel_timeout=deadline_s,
            )
        except BaseException as error:  # Ctrl-C too: paramiko's thread would keep the process alive
            client.close()
            if isinstance(error, _ssh_exceptions()):
                raise self._connect_error(error) from error
            raise
        return client

    def _socket(self, deadline_s: float) -> socket.socket:
        connection = socket.create_connection((self.target.host, self.target.port), deadline_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            option = socket.TCP_USER_TIMEOUT
            connection.setsockopt(socket.IPPROTO_TCP, option, 1000 * DEAD_AFTER_S)
        return connection

    def _connect_error(self, error: BaseException) -> SshError:
        import paramiko

        if isinstance(error, SshError):
            return error
        if isinstance(error, paramiko.BadHostKeyException):
            return self.keys.changed(self.target.known_name, error.key.get_base64())
        if isinstance(error, paramiko.PasswordRequiredException):
            return AuthFailedError(
                f"the key `{self.target.key_file}` needs a passphrase",
                hint="add it to an agent with `ssh-add`, and name no key file",
            )
        if isinstance(error, paramiko.AuthenticationException):
            key = f"the key `{self.target.key_file}`" if self.target.key_file else "any key tried"
            return AuthFailedError(
                f"{self.target} does not accept {key}",
                hint="name the private key that belongs to this machine, and its user",
            )
        if isinstance(error, FileNotFoundError):
            return AuthFailedError(
                f"there is no key `{self.target.key_file}`", hint="name the private key's file"
            )
        return UnreachableError(
            f"cannot reach {self.target}: {self.shown(str(error)) or type(error).__name__}",
            hint="check the address and the port; a machine that just started needs a minute",
        )


class Channel:
    """A command that runs on a machine, within a deadline."""

    def __init__(self, machine: RemoteMachine, raw: Any, end: float, deadline_s: float) -> None:
        self._machine = machine
        self._raw = raw
        self._end = end
        self._deadline_s = deadline_s
        self._errors = bytearray()

    def write(self, data: bytes) -> bool:
        """Send to standard input; False if the command does not read any more.

        That is no error here: its exit code says what happened.
        """
        view = memoryview(data)
        while view and not self._raw.closed and not self._raw.exit_status_ready():
            if not self._raw.send_ready():
                self._wait()
                continue
            try:
                view = view[self._raw.send(bytes(view[:BLOCK_BYTES])) :]
            except (OSError, EOFError):
                break
        return not view

    def end_input(self) -> None:
        """Tell the command that nothing more will come."""
        with suppress(*_ssh_exceptions()):
            self._raw.shutdown_write()

    def read(self) -> bytes:
        """The next bytes of standard output, as soon as there are any; empty at its end."""
        while True:
            if self._raw.recv_ready():
                return bytes(self._raw.recv(BLOCK_BYTES))
            self._drain_errors()
            if self._raw.eof_received or self._raw.closed:
                return bytes(self._raw.recv(BLOCK_BYTES)) if self._raw.recv_ready() else b""
            self._wait()

    def read_line(self) -> bytes:
        """One line of standard output without its newline, at most 4096 bytes."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < 4096:
            while not self._raw.recv_ready():
                self._drain_errors()
                if self._raw.eof_received or self._raw.closed:
                    if self._raw.recv_ready():
                        break
                    return bytes(line)
                self._wait()
            line += self._raw.recv(1)
        return bytes(line).rstrip(b"\n")

    def finish(self, max_output_bytes: int = MAX_OUTPUT_BYTES) -> Result:
        """Read what is left and wait for the exit code."""
        out = bytearray()
        truncated = False
        ended_at: float | None = None
        while True:
            self._drain_errors()
            while self._raw.recv_ready():
                block = self._raw.recv(BLOCK_BYTES)
                room = max(0, max_output_bytes - len(out))
                truncated = truncated or len(block) > room
                out += block[:room]
            if self._raw.exit_status_ready():
                ended_at = self._machine.now() if ended_at is None else ended_at
                quiet = not (self._raw.recv_ready() or self._raw.recv_stderr_ready())
                is_over = self._raw.eof_received or self._raw.closed
                if quiet and (is_over or self._machine.now() - ended_at > LAST_WORDS_S):
                    break
            self._wait()
        code = int(self._raw.recv_exit_status())
        if code == -1 and not self._is_alive():
            raise self._machine._dropped()
        return Result(code, bytes(out), bytes(self._errors), truncated)

    def _is_alive(self) -> bool:
        """Whether the connection still is, a moment after a channel ended without a code."""
        end = self._machine.now() + LAST_WORDS_S
        transport = self._raw.get_transport()
        while transport.is_active() and self._machine.now() < end:
            self._machine.sleep(0.05)
        return bool(transport.is_active())

    def _drain_errors(self) -> None:
        while self._raw.recv_stderr_ready():
            block = self._raw.recv_stderr(BLOCK_BYTES)
            self._errors += block[: max(0, MAX_OUTPUT_BYTES - len(self._errors))]

    def _wait(self) -> None:
        if not self._raw.get_transport().is_active() and not self._raw.exit_status_ready():
            raise self._machine._dropped()
        if self._machine.now() >= self._end:
            raise DeadlineError(
                f"a command on {self._machine.target} did not end within {self._deadline_s:g} s",
                hint="log in with `aquachat launch ssh` and look, or allow more time",
            )
        self._machine.sleep(POLL_S)


def script_command(text: str, *arguments: str) -> list[str]:
    """The argument list that runs a POSIX shell script with `$1`, `$2`... as given."""
    return ["sh", "-c", text, "sh", *arguments]


def _broken() -> tuple[type[BaseException], ...]:
    import paramiko

    return (paramiko.SSHException, EOFError)


def _ssh_exceptions() -> tuple[type[BaseException], ...]:
    import paramiko

    return (paramiko.SSHException, OSError, EOFError, HostKeyError)
