"""The shell scripts that run on a machine: POSIX, readable, one file each in `scripts/`."""

from __future__ import annotations

from importlib.resources import files

from aquachat.cloud.remote import script_command


def script(name: str) -> str:
    """The text of `scripts/NAME.sh`."""
    return files("aquachat.cloud").joinpath("scripts", f"{name}.sh").read_text("utf-8")


def command(name: str, *arguments: str) -> list[str]:
    """The argument list that runs a script with these arguments on a machine."""
    return script_command(script(name), *arguments)
