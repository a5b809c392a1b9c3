"""Names of folders on a machine: relative to the home of the user, and never more than asked."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Final

from aquachat.errors import ConfigError

MAX_PATH_CHARS: Final = 500
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_SYSTEM: Final = re.compile(
    r"/(?:bin|boot|dev|etc|home|lib|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var"
    r"|data|scratch|workspace)(?:/[^/]+)?"
)
"""Folders directly below these are refused too: `/home/ubuntu`, `/usr/local`."""


def check_remote_folder(folder: str, option: str = "--repo-dir") -> str:
    """Return the folder in its simplest form, if aquachat may replace all that is in it.

    Example:
        check_remote_folder("~/aquachat/") -> "aquachat"

    Raises:
        ConfigError: it is empty, the home, the root, a folder of the system, or holds `..`.
    """
    text = folder.strip().removeprefix("~/")
    path = PurePosixPath(text)
    is_whole = not path.parts or text.startswith("~") or str(path) in ("/", "//", ".")
    if (
        is_whole
        or ".." in path.parts
        or _SYSTEM.fullmatch(str(path)) is not None
        or text.startswith("//")
    ):
        raise ConfigError(
            f"`{folder}` cannot be the folder of a project on a machine",
            hint=f"name one of its own, for example `{option} aquachat`",
        )
    return check_remote_path(str(path), option)


def check_remote_path(path: str, option: str = "--send-file") -> str:
    """Return a file's or folder's name in its simplest form, without a leading `~/`.

    Raises:
        ConfigError: it is empty, too long, holds `..` or a control character, or names the home of
            another user.
    """
    text = path.strip().removeprefix("~/")
    pure = PurePosixPath(text)
    is_odd = len(text) > MAX_PATH_CHARS or not text.isprintable() or text.startswith(("~", "-"))
    if is_odd or not pure.name or ".." in pure.parts:
        raise ConfigError(
            f"`{path[:MAX_PATH_CHARS]!s}` cannot be a path on a machine",
            hint=f"name one below the home, for example `{option} keys.json:.config/keys.json`",
        )
    return str(pure)


def check_received_path(path: str) -> PurePosixPath:
    """Return a relative path that a machine named, if it stays below the folder it is put in.

    Raises:
        ValueError: it does not, or no file here can have this name.
    """
    pure = PurePosixPath(path)
    is_outside = pure.is_absolute() or ".." in pure.parts or not pure.name
    is_drive = _DRIVE.match(path) is not None or (":" in path and os.name == "nt")
    if is_outside or is_drive or not path.isprintable() or "\\" in path:
        raise ValueError(path)
    return pure
