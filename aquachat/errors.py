"""The errors a user can meet, and the exit code of each.

A known failure is an `AquachatError`: one sentence that holds the offending value, and a hint that
holds a command. Each class is also the standard exception a Python caller would expect, so library
users can write `except ValueError`. Anything else that escapes is a bug (exit code 70).
"""

from __future__ import annotations


class AquachatError(Exception):
    """A known failure: `message` is one sentence without a full stop, `hint` names the way out.

    Example:
        raise AquachatError("no checkpoint in `a/sft`", hint="run `aquachat train sft --run a`")
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[AquachatError], message: str, hint: str | None) -> AquachatError:
    return cls(message, hint=hint)


class ConfigError(AquachatError, ValueError):
    """A flag, preset or TOML key that cannot be used."""

    exit_code = 2


class DataError(AquachatError, ValueError):
    """A file whose contents cannot be used."""


class MissingFileError(AquachatError, FileNotFoundError):
    """A file, split, run or checkpoint that is not there."""


class TrainingError(AquachatError, RuntimeError):
    """Training cannot go on, for example because the loss is not finite."""


class PreflightError(AquachatError, RuntimeError):
    """A doctor or preflight check failed."""

    exit_code = 3


class RemoteError(AquachatError, ConnectionError):
    """A remote service refused or could not be reached."""

    exit_code = 4


class TryLaterError(AquachatError, RuntimeError):
    """Nothing is wrong, but there is no capacity now."""

    exit_code = 75


class Interrupted(AquachatError):
    """Ctrl-C or SIGTERM, raised after the state was saved. `exit_code` is 130 or 143."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 130) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_interrupted, (self.message, self.hint, self.exit_code))


def _rebuild_interrupted(message: str, hint: str | None, exit_code: int) -> Interrupted:
    return Interrupted(message, hint=hint, exit_code=exit_code)
