"""What can go wrong over SSH, told apart by what a caller must do next.

HostKeyError      somebody else may be answering: stop, nothing was sent
AuthFailedError   the machine is there and refuses the key: a retry changes nothing
UnreachableError  no connection yet: worth another try while a machine boots
DroppedError      the connection was lost in the middle: look what was done, then go on
DeadlineError     the time allowed for a command ran out
CommandError      the machine did what was asked and it failed
"""

from __future__ import annotations

import re
from typing import Final

from aquachat.errors import RemoteError


class SshError(RemoteError):
    """Something on the way to a machine, or on it, failed."""


class HostKeyError(SshError):
    """The key of the machine is not the one that is pinned; nothing was sent to it."""


class AuthFailedError(SshError):
    """The machine does not let this user in with this key."""


class UnreachableError(SshError):
    """Nothing answers at the address, or what answers is no SSH server."""


class DroppedError(SshError):
    """The connection was lost while a command ran; what it did is not known."""


class DeadlineError(SshError, TimeoutError):
    """A command did not end within the time it was given."""


class CommandError(SshError):
    """A command on the machine ended with another code than 0."""

    def __init__(self, message: str, *, hint: str | None = None, code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.message, self.hint, self.code))


def _rebuild(message: str, hint: str | None, code: int) -> CommandError:
    return CommandError(message, hint=hint, code=code)


_KNOWN: Final = (
    (
        r"No space left on device|File too large|File size limit|Disk quota exceeded",
        "the disk of the machine is full",
        "rent a machine with a larger disk, or free some space on it",
    ),
    (
        r"sudo: (?:a password is required|command not found|no tty)|sudo: not found"
        r"|not in the sudoers file",
        "the user may not use sudo without a password",
        "log in as a user who may, or install what is missing by hand",
    ),
    (
        r"Permission denied|Operation not permitted",
        "the user lacks the permission",
        "log in as another user, or name a folder that this user owns",
    ),
    (
        r"Read-only file system",
        "the file system is read-only",
        "name another folder, or rent another machine",
    ),
)


def reason_of(stderr: str) -> tuple[str, str] | None:
    """The reason and the way out of a message that is known; None for any other.

    Example:
        reason_of("cat: write error: No space left on device")[0] -> "the disk ... is full"
    """
    for pattern, reason, hint in _KNOWN:
        if re.search(pattern, stderr, re.IGNORECASE):
            return reason, hint
    return None
