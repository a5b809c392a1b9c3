"""Runs and data sets in `gs://`, `s3://`, `file://` and whatever else fsspec writes.

    URI/runs/tiny/...          as in AQUACHAT_HOME
    URI/runs/tiny/artifacts.json   size and SHA-256 of every file that is whole there
    URI/data/aqua/...          the same for each data set

A file counts as being there only if `artifacts.json` says so, which is written after it. So an
upload that was cut off goes on with what is missing, and a download never takes half a file. An
upload deletes nothing: a checkpoint that was pruned here stays there.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from aquachat.data.addresses import scheme_of, shown_url
from aquachat.data.object_store import OpenFileSystem, open_filesystem, remote_errors
from aquachat.errors import ConfigError, DataError, MissingFileError, RemoteError
from aquachat.files import HASH_BLOCK_BYTES, atomic_writer, sha256_of
from aquachat.paths import Home, check_name

MANIFEST_FILE: Final = "artifacts.json"
RUNS, DATA = "runs", "data"
KINDS: Final = (RUNS, DATA)
SAVE_EVERY_BYTES: Final = 256 * 2**20
"""What is sent again at most after a kill, and the file that was being sent."""
_FORMAT: Final = 1
_CHECKPOINT: Final = re.compile(r"(?:^|/)step_\d+/")
_HINT: Final = "check the address, or see what is there with `aquachat artifacts list URI`"

OnFile = Callable[[str, int], None]
"""Told the path and the size of each file that is done."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a collection."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Collection:
    """A run or a data set, somewhere."""

    path: str
    """`runs/tiny`, `data/aqua`."""
    modified_s: float
    """Unix time of the newest change to it."""
    files: Mapping[str, Entry]
    """Path below it -> what is there."""

    @property
    def name(self) -> str:
        """Without its kind."""
        return self.path.partition("/")[2]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(entry.num_bytes for entry in self.files.values())


@dataclass(frozen=True, slots=True)
class Transfer:
    """What has to be copied of one collection, and what is there already."""

    collection: Collection
    todo: tuple[str, ...]
    done: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """To be copied."""
        return sum(self.collection.files[path].num_bytes for path in self.todo)

    def without_checkpoints(self) -> Transfer:
        """The same, but for what lies in `step_...` folders."""
        kept = [[n for n in names if not _CHECKPOINT.search(n)] for names in (self.todo, self.done)]
        return Transfer(self.collection, tuple(kept[0]), tuple(kept[1]))

    def to_json(self) -> dict[str, Any]:
        """An entry of the commands' documents."""
        return {
            "name": self.collection.path,
            "copy": list(self.todo),
            "unchanged": list(self.done),
            "bytes": self.num_bytes,
        }


class Store:
    """A place for artifacts."""

    def __init__(self, address: str, *, open_fs: OpenFileSystem = open_filesystem) -> None:
        """Open it.

        Raises:
            ConfigError: no such kind of address, or what writes it is not installed.
        """
        self.address = address.rstrip("/")
        with remote_errors(address):
            self._fs, root = open_fs(self.address)
        self._root = str(root).rstrip("/")
        self._has_folders = scheme_of(self.address) in (None, "file", "local")

    def collections(self) -> list[Collection]:
        """What is there, the newest first.

        Raises:
            RemoteError: it cannot be read.
            DataError: a manifest cannot be used.
        """
        found = []
        for kind in KINDS:
            for name in self._names(f"{self._root}/{kind}"):
                collection = self.read(f"{kind}/{name}")
                if collection is not None:
                    found.append(collection)
        return sorted(found, key=lambda each: (-each.modified_s, each.path))

    def read(self, path: str) -> Collection | None:
        """One collection, None where it is not there.

        Raises:
            RemoteError: it cannot be read.
            DataError: its manifest cannot be used.
        """
        place = f"{self._root}/{path}/{MANIFEST_FILE}"
        with remote_errors(f"{self.address}/{path}"):
            self._fs.invalidate_cache()
            if not self._fs.exists(place):
                return None
            content = self._fs.cat_file(place)
        return _parse_manifest(path, content, f"{shown_url(self.address)}/{path}/{MANIFEST_FILE}")

    def plan_upload(self, folder: Path, path: str) -> Transfer:
        """What of a local folder is not there yet.

        Raises:
            MissingFileError: there is no such folder, or it is empty.
        """
        local = scan(folder, path)
        there = self.read(path)
        known = {} if there is None else there.files
        done = tuple(name for name, entry in local.files.items() if known.get(name) == entry)
        todo = tuple(name for name in local.files if name not in done)
        return Transfer(local, todo, done)

    def upload(self, folder: Path, transfer: Transfer, on_file: OnFile | None = None) -> None:
        """Copy what has to be copied, the manifest last.

        Raises:
            RemoteError: the store refused; what was copied until then stays, and is not sent again.
            DataError: a file here changed while it was being copied.
        """
        wanted = transfer.collection
        there = self.read(wanted.path)
        files = dict({} if there is None else there.files)
        replaced = [name for name in transfer.todo if name in files]
        for name in replaced:  # between its old and its new content a file is in no manifest
            del files[name]
        if replaced:
            self._write_manifest(wanted, files)
        unsaved_bytes = 0
        for name in transfer.todo:
            entry = wanted.files[name]
            self._send(folder / name, f"{wanted.path}/{name}", entry)
            files[name] = entry
            unsaved_bytes += entry.num_bytes
            if unsaved_bytes >= SAVE_EVERY_BYTES:
                self._write_manifest(wanted, files)
                unsaved_bytes = 0
            if on_file is not None:
                on_file(name, entry.num_bytes)
        if transfer.todo:
            self._write_manifest(wanted, files)

    def plan_download(
        self, collection: Collection, folder: Path, *, overwrite: bool = False
    ) -> Transfer:
        """What of a collection is not in a local folder yet.

        Raises:
            ConfigError: a file there differs, and `overwrite` is not set.
        """
        todo, done = [], []
        for name, entry in collection.files.items():
            place = folder / name
            if not place.exists():
                todo.append(name)
            elif place.is_file() and _entry_of(place) == entry:
                done.append(name)
            elif overwrite and place.is_file():
                todo.append(name)
            else:
                raise ConfigError(
                    f"`{place}` is there and differs from `{collection.path}/{name}`",
                    hint="move it away, or replace such files with `--overwrite`",
                )
        return Transfer(collection, tuple(todo), tuple(done))

    def download(self, folder: Path, transfer: Transfer, on_file: OnFile | None = None) -> None:
        """Copy what has to be copied; each file takes its name when its hash is right.

        Raises:
            RemoteError: the store refused, or a file there is damaged.
            DataError: the disk refused.
        """
        for name in transfer.todo:
            entry = transfer.collection.files[name]
            self._receive(f"{transfer.collection.path}/{name}", folder / name, entry)
            if on_file is not None:
                on_file(name, entry.num_bytes)

    def _send(self, file: Path, path: str, entry: Entry) -> None:
        place = f"{self._root}/{path}"
        with remote_errors(f"{self.address}/{path}", "write"):
            if self._has_folders:
                self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(file), place)
            self._fs.invalidate_cache()
            size = int(self._fs.info(place)["size"])
        if size != entry.num_bytes or _entry_of(file) != entry:
            raise DataError(
                f"`{file}` changed while it was being copied",
                hint="wait until nothing writes to it, then run the same command again",
            )

    def _receive(self, path: str, place: Path, entry: Entry) -> None:
        digest, num_bytes = hashlib.sha256(), 0
        with remote_errors(f"{self.address}/{path}"):
            source = self._fs.open(f"{self._root}/{path}", "rb")
        with source, atomic_writer(place) as target:
            while True:
                with remote_errors(f"{self.address}/{path}"):
                    block = source.read(HASH_BLOCK_BYTES)
                if not block:
                    break
                digest.update(block)
                num_bytes += len(block)
                target.write(block)
            if Entry(num_bytes, digest.hexdigest()) != entry:
                raise RemoteError(
                    f"`{shown_url(self.address)}/{path}` is not what was uploaded "
                    f"({num_bytes:,} bytes of {entry.num_bytes:,}, or another SHA-256)",
                    hint="upload it again from where it is whole",
                )

    def _write_manifest(self, collection: Collection, files: Mapping[str, Entry]) -> None:
        document = {
            "format": _FORMAT,
            "name": collection.path,
            "modified_s": collection.modified_s,
            "files": {
                name: {"bytes": entry.num_bytes, "sha256": entry.sha256}
                for name, entry in sorted(files.items())
            },
        }
        place = f"{self._root}/{collection.path}/{MANIFEST_FILE}"
        content = json.dumps(document, indent=1).encode()
        if self._has_folders:
            with atomic_writer(Path(place)) as file:
                file.write(content)
            return
        with remote_errors(f"{self.address}/{collection.path}", "write"):
            self._fs.pipe_file(place, content)

    def _names(self, folder: str) -> Sequence[str]:
        with remote_errors(self.address):
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(folder, detail=True)
            except FileNotFoundError:
                return ()
        names = (str(entry["name"]).rstrip("/") for entry in entries)
        return sorted({name.rpartition("/")[2] for name in names if name != folder})


def scan(folder: Path, path: str) -> Collection:
    """The files of a local folder, without links and hidden ones (`.env`, half a checkpoint).

    Raises:
        MissingFileError: there is no such folder, or nothing is in it.
    """
    files = {name: _entry_of(folder / name) for name in _names_in(folder)}
    if not files:
        raise MissingFileError(f"there is nothing in `{folder}`", hint="see `aquachat runs`")
    newest = max((folder / name).stat().st_mtime for name in files)
    return Collection(path, min(newest, time.time()), files)


def local_collections(home: Home, run: str | None, *, with_data: bool) -> dict[str, Path]:
    """Path of a collection -> its folder: a run, and the prepared data sets."""
    found = {} if run is None else {f"{RUNS}/{check_name(run)}": home.run(run)}
    data = home.root / DATA
    if with_data and data.is_dir():
        found |= {f"{DATA}/{p.name}": p for p in sorted(data.iterdir()) if _names_in(p)}
    return found


def choose(
    collections: Sequence[Collection], address: str, run: str | None, *, with_data: bool
) -> list[Collection]:
    """A run (the newest where none is named), and all data sets.

    Raises:
        MissingFileError: there is no such run.
    """
    runs = [each for each in collections if each.path.startswith(f"{RUNS}/")]
    chosen = [each for each in runs if run is None or each.name == run][:1]
    if not chosen:
        named = f"run `{run}`" if run is not None else "run"
        there = ", ".join(each.name for each in runs)
        raise MissingFileError(
            f"there is no {named} in `{shown_url(address)}`",
            hint=f"there are {there}" if there else _HINT,
        )
    data = [each for each in collections if each.path.startswith(f"{DATA}/")] if with_data else []
    return [*chosen, *data]


def _names_in(folder: Path) -> list[str]:
    return sorted(_walk(folder, folder)) if folder.is_dir() else []


def _walk(folder: Path, root: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.is_symlink() or entry.name == MANIFEST_FILE:
            continue
        if entry.is_dir():
            yield from _walk(entry, root)
        elif entry.is_file():
            yield entry.relative_to(root).as_posix()


def _entry_of(file: Path) -> Entry:
    return Entry(file.stat().st_size, sha256_of(file))


def _parse_manifest(path: str, content: bytes, source: str) -> Collection:
    try:
        document = json.loads(content)
        if document["format"] != _FORMAT or document["name"] != path:
            raise ValueError(f"format {document['format']} of {document['name']!r}")
        files = {
            _checked_path(name): Entry(int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in document["files"].items()
        }
        return Collection(path, float(document["modified_s"]), files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"`{source}` cannot be used ({error})", hint="upload again from where the files are"
        ) from error


def _checked_path(name: str) -> str:
    parts = PurePosixPath(name).parts
    is_plain = parts and not PurePosixPath(name).is_absolute() and not set("\\:\0") & set(name)
    if not is_plain or any(part.startswith(".") for part in parts):
        raise ValueError(f"the path {name!r} is not one of a file below it")
    return name
