"""The files of one split of a corpus, appended to; their state can be kept and taken up again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from aquachat.data.corpus import (
    DOCUMENTS_NAMES,
    OFFSET_DTYPE,
    SHARD_PREFIXES,
    CorpusSplit,
    SourceCount,
)
from aquachat.files import HASH_BLOCK_BYTES, writing

EMPTY: Final = SourceCount(0, 0, 0)


class HashedFile:
    """A file that is appended to, and whose hash is known at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")

    @classmethod
    def take_up(cls, path: Path, size_bytes: int, sha256: str) -> HashedFile | None:
        """Open a file again as it was at `size_bytes`, or None if its bytes are not those."""
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                left = size_bytes
                while left and (block := file.read(min(left, HASH_BLOCK_BYTES))):
                    digest.update(block)
                    left -= len(block)
        except FileNotFoundError:
            return None
        if left or digest.hexdigest() != sha256:
            return None
        self = cls.__new__(cls)
        self.path, self.size_bytes, self._digest = path, size_bytes, digest
        self._file = path.open("r+b")
        self._file.truncate(size_bytes)
        self._file.seek(size_bytes)
        return self

    def write(self, content: bytes) -> None:
        """Append bytes."""
        self._file.write(content)
        self._digest.update(content)
        self.size_bytes += len(content)

    def mark(self) -> FileMark:
        """The file as it is now, for `cut_back`."""
        return FileMark(self.size_bytes, self._digest.copy())

    def cut_back(self, mark: FileMark) -> None:
        """Remove what was written after a mark."""
        self._file.flush()
        self._file.truncate(mark.size_bytes)
        self._file.seek(mark.size_bytes)
        self.size_bytes, self._digest = mark.size_bytes, mark.digest.copy()

    def sync(self) -> None:
        """Make what was written durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, which then can only be described."""
        self._file.close()

    def describe(self) -> dict[str, Any]:
        """Name and hash, for the index."""
        return {"file": self.path.name, "sha256": self._digest.hexdigest()}


@dataclass(frozen=True, slots=True)
class FileMark:
    """How far a file goes, and the hash up to there."""

    size_bytes: int
    digest: hashlib._Hash


@dataclass(frozen=True, slots=True)
class _Before:
    """A split as it was before the document that is being appended."""

    source: str
    count: SourceCount | None
    num_tokens: int
    shard: FileMark | None
    """None where there was no file."""
    offsets: FileMark | None


class SplitTokens:
    """Appends documents to the shards and the offsets file of one split.

    Args:
        directory: where the files are made.
        split: which one.
        dtype: of the tokens.
        shard_tokens: a shard is closed by the document that reaches this many tokens.
    """

    def __init__(
        self, directory: Path, split: CorpusSplit, dtype: np.dtype[Any], shard_tokens: int
    ) -> None:
        self.num_tokens = 0
        self.num_documents = 0
        self.sources: dict[str, SourceCount] = {}
        self._directory = directory
        self._split = split
        self._dtype = dtype
        self._shard_tokens = shard_tokens
        self._closed: list[dict[str, Any]] = []
        self._shard: HashedFile | None = None
        self._offsets: HashedFile | None = None
        self._before: _Before | None = None
        """Of a document of which more parts are to come."""

    def add_empty(self, source: str) -> None:
        """Count a document without text."""
        counted = self.sources.get(source, EMPTY)
        self.sources[source] = counted + SourceCount(0, 0, 0, empty_documents=1)

    def add(
        self, source: str, ids: np.ndarray[Any, Any], text_bytes: int, *, starts: bool, ends: bool
    ) -> None:
        """Append a document, or the next part of one.

        Args:
            source: where it is from.
            ids: its tokens, `<|bos|>` included, in the dtype of the corpus.
            text_bytes: UTF-8 bytes of its text.
            starts: whether the document begins here.
            ends: whether it ends here, so that the shard may end too.

        Raises:
            DataError: the disk refused the write.
        """
        if ends:
            self._before = None
        elif starts:
            self._before = self._now(source)
        with writing(self._directory):
            if starts:
                self._offsets_file().write(np.asarray(self.num_tokens, OFFSET_DTYPE).tobytes())
            shard = self._open_shard()
            shard.write(ids.tobytes())
            if ends and shard.size_bytes >= self._shard_tokens * self._dtype.itemsize:
                self._close_shard()
        self.num_tokens += len(ids)
        self.num_documents += starts
        counted = self.sources.get(source, EMPTY)
        self.sources[source] = counted + SourceCount(int(starts), text_bytes, len(ids))

    def drop_document(self) -> None:
        """Remove the parts of the document that is not at its end; nothing where there are none.

        Raises:
            DataError: the disk refused the write.
        """
        before, self._before = self._before, None
        if before is None:
            return
        with writing(self._directory):
            self._shard = _cut_back(self._shard, before.shard)
            self._offsets = _cut_back(self._offsets, before.offsets)
        self.num_tokens = before.num_tokens
        self.num_documents -= 1
        if before.count is None:
            del self.sources[before.source]
        else:
            self.sources[before.source] = before.count

    def finish(self) -> dict[str, Any]:
        """Write the end offset and describe the split for the index.

        Raises:
            DataError: the disk refused the write.
        """
        with writing(self._directory):
            offsets = self._offsets_file()
            offsets.write(np.asarray(self.num_tokens, OFFSET_DTYPE).tobytes())
            self._close_shard()
            offsets.close()
        return {
            "documents": self.num_documents,
            "tokens": self.num_tokens,
            "offsets": offsets.describe(),
            "shards": self._closed,
            "sources": {name: asdict(count) for name, count in self.sources.items()},
        }

    def abandon(self) -> None:
        """Close what is still open after an error, which is the one to be told."""
        for file in (self._shard, self._offsets):
            if file is not None:
                with suppress(OSError):
                    file.close()

    def keep(self) -> dict[str, Any]:
        """Make what was written durable, and the state that `take_up` goes on from.

        Raises:
            DataError: the disk refused the write.
        """
        open_files = [file for file in (self._shard, self._offsets) if file is not None]
        with writing(self._directory):
            for file in open_files:
                file.sync()
        return {
            "tokens": self.num_tokens,
            "documents": self.num_documents,
            "sources": {name: asdict(count) for name, count in self.sources.items()},
            "closed": self._closed,
            "shard": _state_of(self._shard),
            "offsets": _state_of(self._offsets),
        }

    def take_up(self, state: Mapping[str, Any]) -> bool:
        """Go on from a state; False if the files are not as they were.

        Raises:
            DataError: the disk refused to cut off what was written after it.
        """
        itemsize = self._dtype.itemsize
        for shard in state["closed"]:
            path = self._directory / shard["file"]
            if not path.is_file() or path.stat().st_size != shard["tokens"] * itemsize:
                return False
        with writing(self._directory):
            self._shard = self._taken_up(state["shard"])
            self._offsets = self._taken_up(state["offsets"])
        if (state["shard"] and not self._shard) or (state["offsets"] and not self._offsets):
            self.abandon()
            return False
        self._closed = [dict(shard) for shard in state["closed"]]
        self.num_tokens, self.num_documents = state["tokens"], state["documents"]
        self.sources = {name: SourceCount(**count) for name, count in state["sources"].items()}
        return True

    def file_names(self) -> Sequence[str]:
        """The files that belong to the split as it is now."""
        kept = [shard["file"] for shard in self._closed]
        return kept + [f.path.name for f in (self._shard, self._offsets) if f is not None]

    def _now(self, source: str) -> _Before:
        return _Before(
            source,
            self.sources.get(source),
            self.num_tokens,
            None if self._shard is None else self._shard.mark(),
            None if self._offsets is None else self._offsets.mark(),
        )

    def _taken_up(self, state: Mapping[str, Any] | None) -> HashedFile | None:
        if state is None:
            return None
        path = self._directory / state["file"]
        return HashedFile.take_up(path, state["size_bytes"], state["sha256"])

    def _offsets_file(self) -> HashedFile:
        if self._offsets is None:
            self._offsets = HashedFile(self._directory / DOCUMENTS_NAMES[self._split])
        return self._offsets

    def _open_shard(self) -> HashedFile:
        if self._shard is None:
            name = f"{SHARD_PREFIXES[self._split]}_{len(self._closed):05d}.bin"
            self._shard = HashedFile(self._directory / name)
        return self._shard

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.sync()
            self._shard.close()
            tokens = self._shard.size_bytes // self._dtype.itemsize
            self._closed.append({**self._shard.describe(), "tokens": tokens})
            self._shard = None


def _cut_back(file: HashedFile | None, mark: FileMark | None) -> HashedFile | None:
    """The file as it was at a mark; None, and no file, where there was none."""
    if file is None:
        return None
    if mark is not None:
        file.cut_back(mark)
        return file
    file.close()
    file.path.unlink()
    return None


def _state_of(file: HashedFile | None) -> dict[str, Any] | None:
    return None if file is None else {**file.describe(), "size_bytes": file.size_bytes}
