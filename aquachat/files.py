"""Files that are whole or not there: atomic writes, hashes, and the patterns of `data.toml`."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from aquachat.errors import AquachatError, DataError, MissingFileError

HASH_BLOCK_BYTES: Final = 1 << 20
_FULL: Final = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def storage_error(path: Path, error: OSError) -> DataError:
    """One sentence for a write that failed; `path` is what was to be written."""
    reason = _FULL.get(error.errno or 0, error.strerror or str(error))
    return DataError(
        f"cannot write `{path}`: {reason}",
        hint="free some space or check the permissions; what was there before is unchanged",
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell of a write that the system refuses, inside the block, as a `storage_error`.

    The block should only write: any OSError that is not one of ours is taken for a failed write.
    """
    try:
        yield
    except AquachatError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success it takes the name, on failure it is removed.

    The bytes and the name are on disk (fsync) when the block ends, which should only write; see
    `writing`.

    Raises:
        DataError: the system refused a write; the old file, if any, is as it was.
    """
    temporary = _name_beside(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; see `atomic_writer`."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 atomically; lone surrogates become U+FFFD."""
    write_bytes(path, encode_text(content))


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON document atomically, with its final newline."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def encode_text(text: str) -> bytes:
    """UTF-8, with lone surrogates (which JSON can hold and UTF-8 cannot) as U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def json_line(row: Any) -> bytes:
    """One line of JSON in UTF-8, with its newline; what JSON does not know (dates) as a string."""
    return encode_text(json.dumps(row, ensure_ascii=False, default=str)) + b"\n"


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sync_directory(path: Path) -> None:
    """Make renames inside `path` durable; Windows cannot open folders and needs no such call."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staging_directory(parent: Path, name: str) -> Iterator[Path]:
    """An empty hidden folder in `parent`, removed at the end with what is left in it.

    `parent` is created where it is missing, and removed again if it stayed empty. Stage in the
    destination for `install_files` (which may be a mount point), beside it for
    `install_directory`.
    """
    staging = _name_beside(parent / name)
    parent_was_there = parent.is_dir()
    with writing(parent / name):
        staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not parent_was_there:
            with suppress(OSError):
                parent.rmdir()


def install_files(staging: Path, destination: Path, stale: Iterable[str] = ()) -> None:
    """Move every file of `staging` into `destination`, or none.

    Old files are first set aside in `staging`, and put back if any rename fails. Files of
    `destination` that are neither replaced nor in `stale` are left alone.

    Args:
        staging: a folder of finished files; see `staging_directory`.
        destination: created where it is missing.
        stale: names in `destination` that the new set replaces without a successor.

    Raises:
        DataError: the system refused; `destination` is as it was.
    """
    names = sorted(path.name for path in staging.iterdir())
    backup = staging / ".replaced"
    done: list[tuple[Path, Path]] = []
    try:
        for name in names:
            sync_file(staging / name)
        destination.mkdir(parents=True, exist_ok=True)
        backup.mkdir()
        moves = [(destination / name, backup / name) for name in (*names, *stale)]
        moves = [(source, target) for source, target in moves if source.exists()]
        moves += [(staging / name, destination / name) for name in names]
        for source, target in moves:
            source.replace(target)
            done.append((source, target))
        sync_directory(destination)
    except OSError as error:
        for source, target in reversed(done):
            target.replace(source)
        raise storage_error(destination, error) from error


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def install_directory(staging: Path, destination: Path) -> None:
    """Put the folder `staging` in the place of `destination`, which is removed if it exists.

    Raises:
        DataError: the system refused; `destination` is as it was.
    """
    old = staging.with_name(staging.name + ".old")
    replaced = False
    try:
        for path in staging.rglob("*"):
            (sync_directory if path.is_dir() else sync_file)(path)
        sync_directory(staging)
        if destination.exists():
            destination.replace(old)
            replaced = True
        staging.replace(destination)
        sync_directory(destination.parent)
    except OSError as error:
        if replaced and not destination.exists():
            old.replace(destination)
        raise storage_error(destination, error) from error
    finally:
        if destination.exists():
            shutil.rmtree(old, ignore_errors=True)


def expand_patterns(folder: Path, patterns: Sequence[str], *, origin: str) -> list[Path]:
    """The files that `patterns` name, relative to `folder`, in order and each once.

    Args:
        folder: where relative patterns start.
        patterns: file names, or shell patterns such as `shard_0000[0-6].parquet` (sorted).
        origin: where the patterns stand, for messages: `data.toml, [text] train`.

    Raises:
        MissingFileError: a file is not there, or a pattern matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        exact = folder / pattern
        if exact.is_file():
            found[exact] = None
            continue
        matches = sorted(glob.glob(pattern, root_dir=folder, recursive=True))
        files = [folder / match for match in matches if (folder / match).is_file()]
        if not files:
            is_pattern = glob.escape(pattern) != pattern
            what = f"no file matches `{pattern}`" if is_pattern else f"there is no `{pattern}`"
            raise MissingFileError(
                f"{what} in `{folder}` ({origin})", hint=f"correct {origin}, or add the file"
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
