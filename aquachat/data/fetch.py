"""A source that the user names, brought to this machine: a path, an address, or a bundle of either.

Downloads and unpacked bundles stay in a folder of their own, so that preparing again needs no
network. What cannot be right (a web page, an empty file, a bundle cut off) is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aquachat.data.addresses import HTTP_SCHEMES, check_address, local_place, scheme_of, shown_url
from aquachat.data.archives import (
    ARCHIVE_SUFFIXES,
    ArchiveLimits,
    DamagedArchiveError,
    is_archive,
    unpack,
)
from aquachat.data.download import Downloader, DownloadEvent, FetchedFile, RawFile
from aquachat.data.object_store import OpenFileSystem, fetch_objects, open_filesystem
from aquachat.data.partial_file import discard_download
from aquachat.data.sources import DATA_TOML, ROW_SUFFIXES
from aquachat.data.text_documents import TEXT_SUFFIXES
from aquachat.errors import DataError, MissingFileError, RemoteError
from aquachat.files import sha256_of

BUNDLES: Final = "bundles"
KNOWN_SUFFIXES: Final = tuple(sorted({*ROW_SUFFIXES, *TEXT_SUFFIXES, *ARCHIVE_SUFFIXES, ".yaml"}))

_PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A source as it lies here."""

    path: Path
    origin: str
    """What the user named, without secrets."""
    is_copy: bool
    """Whether `path` is a download or an unpacked bundle, to be searched however deep."""


@dataclass
class SourceFetcher:
    """Brings sources here, each once.

    Args:
        folder: where downloads and unpacked bundles are kept: `AQUACHAT_HOME/downloads`.
        downloader: for http and https.
        open_fs: for other addresses.
        on_event: told of the progress of the latter; a downloader has its own.
        limits: of bundles.
    """

    folder: Path
    downloader: Downloader = field(default_factory=Downloader)
    open_fs: OpenFileSystem = open_filesystem
    on_event: Callable[[DownloadEvent], None] | None = None
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    fetched: list[FetchedFile] = field(default_factory=list)
    """Every file that was downloaded, or was there from an earlier time."""

    def fetch(self, source: str) -> LocalSource:
        """Bring `source` here, unpacked if it is a bundle.

        Args:
            source: a path, an `http(s)://` address of a file, or a `gs://` or `s3://` address of a
                file or folder; the file may be a zip or tar file.

        Raises:
            ConfigError: no such kind of address, or what reads it is not installed.
            MissingFileError: there is no such path.
            RemoteError: it could not be downloaded, or is a web page.
            DataError: it is empty, damaged, or of no known kind, or the disk refused.
        """
        scheme = scheme_of(source)
        if scheme is None:
            return self._local(source)
        if scheme in HTTP_SCHEMES:
            place = local_place(self.folder, check_address(source))
            path = self._keep(self.downloader.fetch(RawFile(source, place)))
        else:
            path, files = fetch_objects(
                source, self.folder, open_fs=self.open_fs, on_event=self.on_event
            )
            self.fetched += files
        origin = shown_url(source)
        if path.is_dir():
            return LocalSource(path, origin, is_copy=True)
        try:
            _check_kind(path, origin)
        except (DataError, RemoteError):
            discard_download(path)
            raise
        if not is_archive(path):
            return LocalSource(path, origin, is_copy=True)
        try:
            return LocalSource(self._unpacked(path, origin), origin, is_copy=True)
        except DamagedArchiveError:
            discard_download(path)
            raise

    def fetch_all(self, files: list[RawFile]) -> list[FetchedFile]:
        """Download files whose addresses and places are known, several at a time."""
        fetched = self.downloader.fetch_all(files)
        self.fetched += fetched
        return fetched

    def _local(self, source: str) -> LocalSource:
        path = Path(source).expanduser()
        if not path.exists():
            raise MissingFileError(
                f"there is no file or folder `{source}`",
                hint="correct `--source`, or leave it out to use the hub",
            )
        if path.is_file() and path.stat().st_size and is_archive(path):
            return LocalSource(self._unpacked(path, source), source, is_copy=True)
        return LocalSource(path, source, is_copy=False)

    def _keep(self, file: FetchedFile) -> Path:
        self.fetched.append(file)
        return file.path

    def _unpacked(self, path: Path, name: str) -> Path:
        """The folder of an unpacked bundle, named after its hash: a changed one is another."""
        folder = self.folder / BUNDLES / sha256_of(path)[:16]
        if not folder.is_dir():
            unpack(path, folder, name=name, limits=self.limits)
        return folder


def _check_kind(path: Path, origin: str) -> None:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise DataError(f"`{origin}` is empty", hint="check the address")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE_STARTS):
        raise RemoteError(
            f"`{origin}` is a web page, not a file of data",
            hint="use the address of the file itself: on GitHub `Raw`, on the hub `resolve` "
            "instead of `blob`",
        )
    name = path.name.lower()
    if not name.endswith(KNOWN_SUFFIXES) and name != DATA_TOML and not is_archive(path):
        raise DataError(
            f"`{origin}` does not say what kind of file it is",
            hint=f"download it, give it a name that ends in {', '.join(KNOWN_SUFFIXES)}, and name "
            "it with `--source PATH`",
        )


__all__ = ["LocalSource", "SourceFetcher"]
