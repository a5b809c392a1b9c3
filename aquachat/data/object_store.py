"""Files of `gs://`, `s3://` and whatever else fsspec reads, copied here before they are used."""

from __future__ import annotations

import base64
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from aquachat.data.addresses import address_key, file_name_of, scheme_of, shown_url
from aquachat.data.download import (
    BLOCK_BYTES,
    DownloadEvent,
    DownloadEventKind,
    FetchedFile,
    RawFile,
)
from aquachat.data.partial_file import (
    RECORD_SUFFIX,
    DownloadRecord,
    PartialFile,
    complete_record,
    discard_download,
)
from aquachat.errors import ConfigError, DataError, RemoteError

EXTRA: Final = "cloud-storage"
MAX_OBJECTS: Final = 10_000
NOISY_LOGGERS: Final = ("gcsfs", "s3fs", "aiobotocore")
"""They write a traceback for what is also raised."""
FINGERPRINTS: Final = (
    "etag",
    "ETag",
    "generation",
    "md5Hash",
    "checksum",
    "mtime",
    "LastModified",
    "created",
)
"""What fsspec's backends tell of a version of a file; the first that is there is used."""

OpenFileSystem = Callable[..., tuple[Any, str]]
"""Like `open_filesystem`."""


def open_filesystem(address: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it; `options` are the backend's.

    Raises:
        ConfigError: no such kind of address, or what reads it is not installed.
    """
    import fsspec

    scheme = scheme_of(address)
    try:
        filesystem, path = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        raise ConfigError(
            f"`{shown_url(address)}` needs a package that is not installed ({error})",
            hint=f"run `pip install 'aquachat[{EXTRA}]'`",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"`{scheme}://` is no kind of address that can be read",
            hint="use https://, gs://, s3:// or a path",
        ) from error
    return filesystem, str(path)


def fetch_objects(
    address: str,
    folder: Path,
    *,
    open_fs: OpenFileSystem = open_filesystem,
    on_event: Callable[[DownloadEvent], None] | None = None,
) -> tuple[Path, list[FetchedFile]]:
    """Copy the file or folder at `address` to a folder of its own in `folder`.

    A file that was copied before and has not changed is kept; one that was cut off is resumed.

    Returns:
        Where the file or folder is now, and the files.

    Raises:
        ConfigError: see `open_filesystem`.
        RemoteError: there is no such file or folder, or it may not be read.
        DataError: the disk refused.
    """
    with remote_errors(address):
        filesystem, root, info = _find(address, open_fs)
        is_file = info["type"] == "file"
        found = {root: info} if is_file else _files_below(filesystem, root)
    place = folder / address_key(address)
    if not found:
        raise _nothing(address)
    if len(found) > MAX_OBJECTS:
        raise RemoteError(
            f"`{shown_url(address)}` holds {len(found):,} files",
            hint="name the folder with the files of the data set",
        )
    fetched = []
    for path, details in sorted(found.items()):
        below = file_name_of(address) if is_file else _below(root, path)
        url = shown_url(address) if is_file else f"{shown_url(address).rstrip('/')}/{below}"
        file = RawFile(url, place / below, details.get("size"))
        fetched.append(_fetch_object(address, filesystem, path, details, file, on_event))
    if is_file:
        return fetched[0].path, fetched
    _remove_others(place, {file.path for file in fetched})
    return place, fetched


def _files_below(filesystem: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """All files of a folder with their facts; the empty objects that stand for folders are none."""
    return {
        path: details
        for path, details in filesystem.find(root, detail=True).items()
        if details.get("type") == "file" and not path.endswith("/")
    }


def _remove_others(place: Path, kept: set[Path]) -> None:
    """Remove copies of files that the folder no longer holds."""
    for path in [path for path in place.rglob("*") if path.is_file()]:
        if path not in kept and not path.name.endswith(RECORD_SUFFIX):
            discard_download(path)


def _find(address: str, open_fs: OpenFileSystem) -> tuple[Any, str, Mapping[str, Any]]:
    """The file system, the path in it, and its facts; without a login where there is none."""
    filesystem, root = open_fs(address)
    try:
        return filesystem, root, filesystem.info(root)
    except _backend_errors() as error:
        if type(error).__name__ != "NoCredentialsError":
            raise
        filesystem, root = open_fs(address, anon=True)  # a public bucket of S3
        return filesystem, root, filesystem.info(root)


def _fetch_object(
    address: str,
    filesystem: Any,
    path: str,
    details: Mapping[str, Any],
    file: RawFile,
    on_event: Callable[[DownloadEvent], None] | None,
) -> FetchedFile:
    key = address_key(file.url)
    wanted = DownloadRecord(key, file.url, _fingerprint(details), None, file.num_bytes)
    record = complete_record(file.path, key)
    was_there = record is not None and record.is_of_the_same_file(wanted)
    if record is None or not was_there:
        with PartialFile(file.path, wanted) as partial:
            resumable = wanted.etag is not None and partial.record.is_of_the_same_file(wanted)
            partial.begin(wanted, partial.size if resumable else 0)
            _copy(address, filesystem, path, file, partial, on_event)
            record = partial.install(_checked(file, partial, details))
    assert record.sha256 is not None
    assert record.num_bytes is not None
    _tell(on_event, DownloadEventKind.DONE, file, record.num_bytes)
    return FetchedFile(file.url, file.path, record.num_bytes, record.sha256, was_there)


def _copy(
    address: str,
    filesystem: Any,
    path: str,
    file: RawFile,
    partial: PartialFile,
    on_event: Callable[[DownloadEvent], None] | None,
) -> None:
    with remote_errors(address):
        source = filesystem.open(path, "rb")
    with source:
        with remote_errors(address):
            source.seek(partial.size)
        while True:
            with remote_errors(address):
                block = source.read(BLOCK_BYTES * 16)
            if not block:
                return
            partial.write(block)
            _tell(on_event, DownloadEventKind.PROGRESS, file, partial.size)


def _checked(file: RawFile, partial: PartialFile, details: Mapping[str, Any]) -> str:
    """The sha256 of the whole copy, after its length and the MD5 of Google's storage agree."""
    if file.num_bytes is not None and partial.size != file.num_bytes:
        size = partial.size
        partial.begin(partial.record, 0)
        raise RemoteError(
            f"`{file.url}` has {file.num_bytes:,} bytes and {size:,} came",
            hint="run the same command again",
        )
    told = details.get("md5Hash")
    if isinstance(told, str):
        digest = hashlib.md5(usedforsecurity=False)
        with partial.path.open("rb") as copy:
            while block := copy.read(BLOCK_BYTES):
                digest.update(block)
        if base64.b64encode(digest.digest()).decode() != told:
            partial.begin(partial.record, 0)
            raise RemoteError(f"`{file.url}` came damaged", hint="run the same command again")
    return partial.sha256()


def _fingerprint(details: Mapping[str, Any]) -> str | None:
    for name in FINGERPRINTS:
        if details.get(name) is not None:
            return f"{name}={details[name]}"
    return None


def _below(root: str, path: str) -> str:
    parts = PurePosixPath(path).relative_to(PurePosixPath(root)).parts
    if not parts or ".." in parts:
        raise DataError(f"`{path}` lies outside `{root}`", hint="name a file instead of a folder")
    return "/".join(parts)


def _tell(
    on_event: Callable[[DownloadEvent], None] | None,
    kind: DownloadEventKind,
    file: RawFile,
    num_bytes: int,
) -> None:
    if on_event is not None:
        on_event(DownloadEvent(kind, file, num_bytes, file.num_bytes))


def _nothing(address: str) -> RemoteError:
    return RemoteError(
        f"there is no file or folder `{shown_url(address)}`", hint="check the address"
    )


@contextmanager
def remote_errors(address: str, doing: str = "read") -> Iterator[None]:
    """Tell what a backend raises, inside the block, as one sentence, and keep its own log out."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except (ConfigError, RemoteError):
        raise
    except FileNotFoundError as error:
        raise _nothing(address) from error
    except _backend_errors() as error:
        lines = str(error).strip().splitlines()
        raise RemoteError(
            f"could not {doing} `{shown_url(address)}`: "
            f"{lines[0] if lines else type(error).__name__}",
            hint="check the network and your login (`gcloud auth application-default login`, "
            "`aws configure`)",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _backend_errors() -> tuple[type[Exception], ...]:
    """What backends raise for a failure; those of the clouds share no base class."""
    names = (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("gcsfs.retry", "HttpError"),
        ("aiohttp", "ClientError"),
    )
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return (OSError, ValueError, RuntimeError, *(kind for kind in found if kind is not None))
