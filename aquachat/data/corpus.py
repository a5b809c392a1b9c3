"""Token shards on disk: written as a stream, read as memory-mapped documents.

    corpora/<name>/index.json              format, dtype, tokenizer fingerprint, splits, hashes
    corpora/<name>/shard_00000.bin         training tokens, little-endian uint16 or uint32
    corpora/<name>/documents.bin           int64: where each training document starts, and the end
    corpora/<name>/validation_00000.bin    the same for validation
    corpora/<name>/validation_documents.bin

Every document starts with `<|bos|>` and lies in one shard. Documents keep the order they were
written in, source after source; the loader shuffles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from aquachat.errors import DataError, MissingFileError
from aquachat.files import sha256_of

FORMAT: Final = "aquachat-corpus"
VERSION: Final = 1
INDEX_NAME: Final = "index.json"
OFFSET_DTYPE: Final = np.dtype("<i8")

CorpusSplit = Literal["train", "validation"]
DOCUMENTS_NAMES: Final[dict[CorpusSplit, str]] = {
    "train": "documents.bin",
    "validation": "validation_documents.bin",
}
SHARD_PREFIXES: Final[dict[CorpusSplit, str]] = {"train": "shard", "validation": "validation"}

_REWRITE = "write the corpus again with `aquachat tokenize`"


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What one source gave to one split."""

    documents: int
    text_bytes: int
    """UTF-8 bytes of text."""
    tokens: int
    """The `<|bos|>` of each document included."""
    empty_documents: int = 0
    """Documents without a visible character, left out."""

    @property
    def bytes_per_token(self) -> float:
        """Compression: text bytes per token of text (without `<|bos|>`); 0 without text."""
        text_tokens = self.tokens - self.documents
        return self.text_bytes / text_tokens if text_tokens else 0.0

    def __add__(self, other: SourceCount) -> SourceCount:
        return SourceCount(
            self.documents + other.documents,
            self.text_bytes + other.text_bytes,
            self.tokens + other.tokens,
            self.empty_documents + other.empty_documents,
        )


class Corpus:
    """One split of a corpus, memory-mapped: nothing is read before it is asked for."""

    def __init__(
        self,
        directory: Path,
        *,
        shards: Sequence[NDArray[np.unsignedinteger[Any]]],
        offsets: NDArray[np.int64],
        tokenizer_fingerprint: str,
        sources: dict[str, SourceCount],
    ) -> None:
        """Use `Corpus.open`.

        Args:
            directory: for messages.
            shards: the token arrays, in order.
            offsets: (documents + 1,) where each document starts in the shards laid end to end.
            tokenizer_fingerprint: of the tokenizer that wrote the tokens.
            sources: counts by source, in the order in which they were written.
        """
        self.directory = directory
        self.tokenizer_fingerprint = tokenizer_fingerprint
        self.sources = sources
        self._shards = shards
        self._offsets = offsets
        self._shard_starts = np.cumsum([0, *(len(shard) for shard in shards)])

    @classmethod
    def open(
        cls,
        directory: Path,
        split: CorpusSplit = "train",
        *,
        tokenizer_fingerprint: str | None = None,
    ) -> Corpus:
        """Open a split.

        Args:
            directory: a folder that `write_corpus` made.
            split: `train` or `validation`.
            tokenizer_fingerprint: of the tokenizer in use; None to take whatever is there.

        Raises:
            MissingFileError: there is no corpus, or it lacks this split.
            DataError: it was written with another tokenizer, or a file is damaged.
        """
        index = read_index(directory)
        written_with = str(index["tokenizer"])
        if tokenizer_fingerprint is not None and tokenizer_fingerprint != written_with:
            raise DataError(
                f"the corpus `{directory}` was written with tokenizer {written_with[:12]}, "
                f"and the one in use is {tokenizer_fingerprint[:12]}",
                hint=f"use the same tokenizer, or {_REWRITE}",
            )
        if split not in index["splits"]:
            raise MissingFileError(f"the corpus `{directory}` has no {split} split", hint=_REWRITE)
        entry = index["splits"][split]
        dtype = np.dtype(index["dtype"])
        shards = [
            _map_file(directory / shard["file"], dtype, shard["tokens"])
            for shard in entry["shards"]
        ]
        offsets = _map_file(
            directory / DOCUMENTS_NAMES[split], OFFSET_DTYPE, entry["documents"] + 1
        )
        return cls(
            directory,
            shards=shards,
            offsets=offsets,
            tokenizer_fingerprint=written_with,
            sources={name: SourceCount(**count) for name, count in entry["sources"].items()},
        )

    @property
    def num_documents(self) -> int:
        """How many documents there are."""
        return len(self._offsets) - 1

    @property
    def num_tokens(self) -> int:
        """How many tokens there are, the `<|bos|>` of each document included."""
        return int(self._offsets[-1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(documents,) tokens in each document."""
        return np.diff(self._offsets)

    def lengths_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """(documents,) tokens in each of these documents."""
        return np.asarray(self._offsets[documents + 1] - self._offsets[documents])

    def tokens_in(self, documents: range) -> int:
        """Tokens of documents that lie beside each other."""
        return int(self._offsets[documents.stop] - self._offsets[documents.start])

    def source_ranges(self) -> dict[str, range]:
        """The documents of each source, which lie beside each other."""
        ends = np.cumsum([count.documents for count in self.sources.values()]).tolist()
        return {
            name: range(end - count.documents, end)
            for (name, count), end in zip(self.sources.items(), ends, strict=True)
        }

    def document(self, index: int) -> NDArray[np.unsignedinteger[Any]]:
        """The tokens of a document, a read-only view that starts with `<|bos|>`."""
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        shard = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        base = int(self._shard_starts[shard])
        return self._shards[shard][start - base : end - base]


def read_index(directory: Path) -> dict[str, Any]:
    """The contents of `index.json`.

    Raises:
        MissingFileError: there is no corpus in `directory`.
        DataError: it is not an index that this version can read.
    """
    path = directory / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"there is no corpus in `{directory}`", hint="run `aquachat tokenize`"
        ) from error
    except ValueError as error:
        raise DataError(f"`{path}` is not JSON ({error})", hint=_REWRITE) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise DataError(f"`{path}` is not the index of a corpus", hint=_REWRITE)
    if index.get("version") != VERSION:
        raise DataError(
            f"`{path}` has version {index.get('version')}, and this program reads {VERSION}",
            hint=_REWRITE,
        )
    return index


def verify_corpus(directory: Path) -> None:
    """Check the hash of every file of a corpus.

    Raises:
        MissingFileError: a file is not there.
        DataError: a file is not what was written.
    """
    for entry in read_index(directory)["splits"].values():
        for file in (*entry["shards"], entry["offsets"]):
            path = directory / file["file"]
            if not path.is_file():
                raise MissingFileError(f"the corpus lacks `{path}`", hint=_REWRITE)
            if sha256_of(path) != file["sha256"]:
                raise DataError(f"`{path}` is not what was written", hint=_REWRITE)


def _map_file(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise MissingFileError(f"the corpus lacks `{path}`", hint=_REWRITE) from error
    if size_bytes != count * dtype.itemsize:
        raise DataError(
            f"`{path}` has {size_bytes:,} bytes, not {count * dtype.itemsize:,}", hint=_REWRITE
        )
    if count == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,))
