"""A download in the making: `NAME.partial`, and `NAME.download`, which says what it is part of.

Bytes are appended to `NAME.partial` without a buffer, so whatever ends the program leaves a prefix
of the file. Before the first byte `NAME.download` records the address and the server's validators
(ETag, Last-Modified); the next attempt asks only for the rest, and only if these still hold. The
final name appears by a rename of the whole, checked, synced file.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Self

from aquachat.errors import DataError
from aquachat.files import sha256_of, storage_error, sync_directory, write_json, writing

PARTIAL_SUFFIX: Final = ".partial"
RECORD_SUFFIX: Final = ".download"


@dataclass(frozen=True, slots=True)
class DownloadRecord:
    """What `NAME.download` holds."""

    key: str
    """See `address_key`."""
    url: str
    """See `shown_url`."""
    etag: str | None = None
    last_modified: str | None = None
    num_bytes: int | None = None
    """Of the whole file, where the server says it."""
    sha256: str | None = None
    """None until the whole file is there and checked."""
    mtime_ns: int | None = None

    @property
    def validator(self) -> str | None:
        """For `If-Range`: a strong ETag, else a date (RFC 9110, section 13.1.5)."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified if self.etag is None else None

    def is_of_the_same_file(self, other: DownloadRecord) -> bool:
        """Whether nothing that both records say differs."""
        pairs = (
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
            (self.num_bytes, other.num_bytes),
        )
        return self.key == other.key and all(
            a == b for a, b in pairs if a is not None and b is not None
        )


def record_path(path: Path) -> Path:
    """The record beside a downloaded file."""
    return path.with_name(path.name + RECORD_SUFFIX)


def read_record(path: Path) -> DownloadRecord | None:
    """The record of `path`; None where there is none that can be read."""
    try:
        return DownloadRecord(**json.loads(record_path(path).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def complete_record(path: Path, key: str) -> DownloadRecord | None:
    """The record of a whole file that still is what was downloaded from `key`, else None.

    A file of the recorded size and time is taken to be unchanged; of another time it is hashed.
    """
    record = read_record(path)
    if record is None or record.key != key or record.sha256 is None or not path.is_file():
        return None
    state = path.stat()
    if state.st_size != record.num_bytes:
        return None
    if state.st_mtime_ns == record.mtime_ns or sha256_of(path) == record.sha256:
        return record
    return None


class PartialFile:
    """The growing file of one download, locked against other processes while it is open.

    Args:
        path: the final name.
        record: what is known of the file before the server was asked: its address.

    Raises:
        DataError: the disk refused, or another program downloads the same file.
    """

    def __init__(self, path: Path, record: DownloadRecord) -> None:
        self.final = path
        self.path = path.with_name(path.name + PARTIAL_SUFFIX)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(  # noqa: SIM115 - closed by `close`
                self.path, "ab", buffering=0
            )
        try:
            _lock(self._file, self.final)
            self.size = os.fstat(self._file.fileno()).st_size
            earlier = read_record(path)
            resumable = earlier is not None and earlier.key == record.key
            self.record = earlier if earlier is not None and resumable else record
            if not resumable:
                self.begin(record, 0)
        except BaseException:  # Ctrl-C too: an open file would keep its lock
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def resume_offset(self) -> int:
        """The first byte to ask for.

        The last byte of a file that seems complete is asked for again, so that the server says
        whether it still is the same file.
        """
        total = self.record.num_bytes
        return self.size if total is None else max(0, min(self.size, total - 1))

    def begin(self, record: DownloadRecord, offset: int) -> None:
        """Keep `offset` bytes and note what they are part of, before more is written."""
        with writing(self.path):
            if offset != self.size:
                os.ftruncate(self._file.fileno(), offset)
                self.size = offset
            record = replace(record, sha256=None, mtime_ns=None)
            if record != self._recorded():
                write_json(record_path(self.final), asdict(record))
        self.record = record

    def _recorded(self) -> DownloadRecord | None:
        return read_record(self.final)

    def write(self, block: bytes) -> None:
        """Append some bytes."""
        view = memoryview(block)
        try:
            while view:
                written = self._file.write(view)
                self.size += written
                view = view[written:]
        except OSError as error:
            raise storage_error(self.final, error) from error

    def sha256(self) -> str:
        """The hash of what is there."""
        return sha256_of(self.path)

    def install(self, sha256: str) -> DownloadRecord:
        """Give the file its final name; it is whole and on disk before it has it."""
        with writing(self.final):
            os.fsync(self._file.fileno())
            record = replace(
                self.record,
                num_bytes=self.size,
                sha256=sha256,
                mtime_ns=os.fstat(self._file.fileno()).st_mtime_ns,
            )
            write_json(record_path(self.final), asdict(record))
            if os.name == "nt":  # Windows cannot rename an open file
                self._file.close()
            self.path.replace(self.final)
            sync_directory(self.final.parent)
        return record

    def close(self) -> None:
        """Let go of the file; what was not installed stays, to be resumed, unless it is empty."""
        is_empty = not self._file.closed and self.size == 0
        self._file.close()
        if is_empty:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                if not self.final.exists():
                    record_path(self.final).unlink(missing_ok=True)
                    self.final.parent.rmdir()


def discard_download(path: Path) -> None:
    """Remove a downloaded file, its record and what there is of a new one."""
    for name in (path, path.with_name(path.name + PARTIAL_SUFFIX), record_path(path)):
        with suppress(OSError):
            name.unlink(missing_ok=True)


def _lock(file: BinaryIO, final: Path) -> None:
    """Make sure that one process at a time appends; where locks do not exist, hope."""
    try:
        import fcntl
    except ImportError:  # Windows, which lets no other program rename what is open
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"another program is downloading `{final}`",
            hint="wait until it is done, or end it, and run the same command again",
        ) from error
    except OSError:  # a network file system without locks
        return
