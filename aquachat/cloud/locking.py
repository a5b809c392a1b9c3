"""File locks that the system lets go of when a process dies, however it dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from aquachat.cloud.clock import Clock
from aquachat.errors import DataError
from aquachat.files import writing

POLL_S: Final = 0.05


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open(path: Path) -> int:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


@contextmanager
def locked(path: Path, *, clock: Clock, wait_s: float, holder: str) -> Iterator[None]:
    """Hold the lock of `path` inside the block.

    Raises:
        DataError: it is not free within `wait_s`; `holder` says who may have it.
    """
    handle = _open(path)
    try:
        waited_s = 0.0
        while not _try_lock(handle):
            if waited_s >= wait_s:
                raise DataError(
                    f"`{path}` is in use by {holder}", hint="wait for it to end, then try again"
                )
            clock.sleep(POLL_S)
            waited_s += POLL_S
        yield
    finally:
        with suppress(OSError):
            os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of `path`."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)
