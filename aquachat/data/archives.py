"""Bundles: zip and tar files unpacked without letting them write where or as much as they like.

What is refused: names that leave the folder (`..`, absolute, with a drive), links, devices, names
that occur twice, encrypted members, and more bytes than a bundle of its size can honestly hold.
"""

from __future__ import annotations

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol

from aquachat.errors import DataError
from aquachat.files import staging_directory, sync_directory, sync_file, writing

ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COPY_BYTES: Final = 1 << 20
MAX_PADDING_BLOCKS: Final = 16
END_RECORD_BYTES: Final = 22 + 0xFFFF
"""The longest end record of a zip file, with its comment."""

_DRIVE = re.compile(r"[A-Za-z]:")
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # what `zipfile` raises for a method of compression it does not know
)


class DamagedArchiveError(DataError):
    """A bundle that cannot be read to its end: downloading it again may help."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What a bundle may unpack to."""

    max_bytes: int = 200 << 30
    max_files: int = 200_000
    max_ratio: float = 200.0
    """Times its own size. Rows of JSON shrink 5 to 20 times; bombs 1000 times and more."""
    free_bytes: int = 64 << 20
    """Not held against a small bundle, whatever its ratio."""

    def allowed_bytes(self, archive_bytes: int) -> int:
        """Bytes that an archive of this size may unpack to."""
        return min(self.max_bytes, max(self.free_bytes, int(self.max_ratio * archive_bytes)))


class _Member(Protocol):
    @property
    def name(self) -> str: ...

    def open(self) -> IO[bytes]: ...


@dataclass(frozen=True, slots=True)
class _ZipMember:
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def name(self) -> str:
        return self.info.filename

    def open(self) -> IO[bytes]:
        return self.archive.open(self.info)


@dataclass(frozen=True, slots=True)
class _TarMember:
    archive: tarfile.TarFile
    info: tarfile.TarInfo

    @property
    def name(self) -> str:
        return self.info.name

    def open(self) -> IO[bytes]:
        file = self.archive.extractfile(self.info)
        assert file is not None, "only regular files are opened"
        return file


def is_archive(path: Path) -> bool:
    """Whether a file is a bundle, by its name or its first bytes."""
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unpack(
    path: Path, folder: Path, *, name: str | None = None, limits: ArchiveLimits | None = None
) -> None:
    """Unpack a zip or tar file into the new folder `folder`, whole or not at all.

    Args:
        path: the archive.
        folder: does not exist yet.
        name: of the archive in messages; by default its path.
        limits: what it may unpack to.

    Raises:
        DamagedArchiveError: the archive is cut off, damaged or none.
        DataError: it holds what is refused, or the disk refused.
    """
    limits, name = limits or ArchiveLimits(), name or str(path)
    with staging_directory(folder.parent, folder.name) as staging:
        try:
            _unpack_members(path, staging, _Destination(name, folder), limits)
        except _DAMAGED as error:
            raise _damaged(name, error) from error
        with writing(folder):
            staging.replace(folder)
            sync_directory(folder.parent)


@dataclass(frozen=True, slots=True)
class _Destination:
    """How messages call the archive, and the folder that is to be."""

    archive: str
    folder: Path


def _unpack_members(path: Path, folder: Path, shown: _Destination, limits: ArchiveLimits) -> None:
    left = limits.allowed_bytes(path.stat().st_size)
    num_files = 0
    with _members(path, shown.archive) as members:
        for member in members:
            num_files += 1
            target = _target_of(shown.archive, member.name, folder)
            if num_files > limits.max_files or target.exists():
                what = "more files than can be right" if not target.exists() else "a file twice"
                raise _refused(shown.archive, f"it holds {what} (`{member.name}`)")
            with writing(shown.folder):
                target.parent.mkdir(parents=True, exist_ok=True)
            left = _copy(shown, member, target, left)


def _copy(shown: _Destination, member: _Member, target: Path, left: int) -> int:
    """Write one member, counting what really comes out; returns how much may still come."""
    with (
        _open(member, shown.archive) as source,
        writing(shown.folder),
        target.open("xb") as file,
    ):
        while block := _read(source, shown.archive):
            left -= len(block)
            if left < 0:
                raise _refused(
                    shown.archive, f"it unpacks to far more than its size (`{member.name}`)"
                )
            file.write(block)
    with writing(shown.folder):
        sync_file(target)
    return left


def _open(member: _Member, archive: str) -> IO[bytes]:
    try:
        return member.open()
    except OSError as error:  # a place in the archive that cannot be
        raise _damaged(archive, error) from error


def _read(source: IO[bytes], archive: str) -> bytes:
    try:
        return source.read(COPY_BYTES)
    except OSError as error:  # of gzip and bz2: the read failed, not the write
        raise _damaged(archive, error) from error


@contextmanager
def _members(path: Path, name: str) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(path) or path.name.lower().endswith(".zip"):
        with _open_zip(path) as archive:
            yield _zip_members(name, archive)
    else:
        with _open_tar(path) as tar:
            yield _tar_members(name, tar)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError) as error:  # a place in the archive, or a date, that cannot be
        raise zipfile.BadZipFile(str(error)) from error
    promised = _promised_members(path)
    if promised not in (None, len(archive.infolist())):
        archive.close()
        raise zipfile.BadZipFile(f"it lists {len(archive.infolist())} of {promised} members")
    return archive


def _promised_members(path: Path) -> int | None:
    """The members that the end record of a zip file counts, which `zipfile` does not compare.

    None for the 64-bit form, whose count is elsewhere (APPNOTE.TXT, section 4.3.16).
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END_RECORD_BYTES))
        tail = file.read()
    start = tail.rfind(b"PK\x05\x06")
    if start < 0 or len(tail) < start + 12:
        return None
    count = int.from_bytes(tail[start + 10 : start + 12], "little")
    return None if count == 0xFFFF else count


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:*")
    except OSError as error:
        raise tarfile.ReadError(str(error)) from error


def _zip_members(name: str, archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _refused(name, f"it holds a link or device (`{info.filename}`)")
        if info.flag_bits & 1:
            raise _refused(name, f"it is encrypted (`{info.filename}`)")
        yield _ZipMember(archive, info)


def _tar_members(name: str, archive: tarfile.TarFile) -> Iterator[_Member]:
    try:
        for info in archive:
            if info.isdir():
                continue
            if not info.isreg():
                raise _refused(name, f"it holds a link or device (`{info.name}`)")
            yield _TarMember(archive, info)
        _check_end(archive)
    except OSError as error:
        raise tarfile.ReadError(str(error)) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Make sure that a tar file ends with its end mark; `tarfile` takes any end for one.

    What follows is read as well (some kilobytes of zeros), so that gzip checks its sum.
    """
    assert archive.fileobj is not None
    if archive.fileobj.tell() != archive.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end")
    for _ in range(MAX_PADDING_BLOCKS):
        if not archive.fileobj.read(COPY_BYTES):
            return


def _target_of(archive: str, name: str, folder: Path) -> Path:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or _DRIVE.match(name) or ".." in parts.parts or not parts.parts:
        raise _refused(archive, f"it holds a file outside its folder (`{name}`)")
    return folder.joinpath(*parts.parts)


def _refused(archive: str, why: str) -> DataError:
    return DataError(
        f"`{archive}` is not unpacked: {why}",
        hint="if you trust it, unpack it yourself and name the folder with `--source`",
    )


def _damaged(archive: str, error: BaseException) -> DamagedArchiveError:
    return DamagedArchiveError(
        f"`{archive}` is cut off, damaged or no archive ({error or type(error).__name__})",
        hint="download it again, or unpack it yourself and name the folder",
    )
