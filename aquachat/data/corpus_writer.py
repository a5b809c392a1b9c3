"""Turning documents into a corpus: a stream in, token shards and an index out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np

from aquachat.data.corpus import (
    DOCUMENTS_NAMES,
    FORMAT,
    INDEX_NAME,
    OFFSET_DTYPE,
    SHARD_PREFIXES,
    VERSION,
    CorpusSplit,
    SourceCount,
)
from aquachat.errors import DataError
from aquachat.files import (
    encode_text,
    install_directory,
    staging_directory,
    write_json,
    writing,
)
from aquachat.text.render import BOS

DEFAULT_SHARD_TOKENS: Final = 50_000_000
"""100 MB at two bytes a token."""
BATCH_BYTES: Final = 1 << 20
"""Text that is encoded at once: with its ids as Python integers it bounds the memory."""
HASH_RANGE: Final = 1 << 64

Progress = Callable[[int], object]
"""Called with the number of documents that were read since the last call."""


class CorpusTokenizer(Protocol):
    """What writing a corpus needs of a tokenizer."""

    @property
    def n_vocab(self) -> int:
        """How many ids there are, special tokens included."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the ids of a text."""
        ...

    def special_id(self, name: str) -> int:
        """The id of a special token such as `<|bos|>`."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; strings that look like special tokens are plain text."""
        ...


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What was written, by split and source."""

    directory: Path
    splits: Mapping[CorpusSplit, Mapping[str, SourceCount]]

    @property
    def sources(self) -> dict[str, SourceCount]:
        """The counts of each source over both splits."""
        total: dict[str, SourceCount] = {}
        for counts in self.splits.values():
            for name, count in counts.items():
                total[name] = total.get(name, SourceCount(0, 0, 0)) + count
        return total

    def num_tokens(self, split: CorpusSplit) -> int:
        """Tokens of a split; 0 where the corpus lacks it."""
        return sum(count.tokens for count in self.splits.get(split, {}).values())


def write_corpus(
    directory: Path,
    sources: Mapping[str, Iterable[str]],
    tokenizer: CorpusTokenizer,
    *,
    shard_tokens: int = DEFAULT_SHARD_TOKENS,
    validation_fraction: float = 0.0,
    validation_sources: Mapping[str, Iterable[str]] | None = None,
    progress: Progress | None = None,
) -> CorpusReport:
    """Write every document of every source as tokens, replacing the corpus in `directory`.

    The corpus takes its name only when it is complete; until then the old one stays. Same
    documents and tokenizer, same bytes.

    Args:
        directory: `corpora/<name>`.
        sources: documents by source name, streamed; names are kept in the index.
        tokenizer: its fingerprint is kept in the index.
        shard_tokens: a shard is closed by the document that reaches this many tokens.
        validation_fraction: share of the documents of `sources` that go to validation, chosen by a
            hash of the text, so that equal documents are never on both sides.
        validation_sources: documents for validation.
        progress: called after each batch of documents.

    Raises:
        DataError: there is no document for training, or the disk refused a write.
    """
    dtype = np.dtype("<u2") if tokenizer.n_vocab <= 1 << 16 else np.dtype("<u4")
    with staging_directory(directory.parent, directory.name) as staging:
        writers: dict[CorpusSplit, _SplitWriter] = {
            split: _SplitWriter(staging, split, dtype, shard_tokens)
            for split in ("train", "validation")
        }
        encoder = _Encoder(tokenizer, writers, validation_fraction, progress)
        try:
            encoder.write_sources(sources, only_validation=False)
            encoder.write_sources(validation_sources or {}, only_validation=True)
            index = _index(tokenizer, dtype, writers)
        finally:
            for writer in writers.values():
                writer.abandon()
        if "train" not in index["splits"]:
            raise DataError(
                f"no source has a document for training ({', '.join(sources) or 'no source'})",
                hint="run `aquachat prepare` for a text set first",
            )
        write_json(staging / INDEX_NAME, index)
        install_directory(staging, directory)
    return CorpusReport(directory, {name: dict(writers[name].sources) for name in index["splits"]})


def _index(
    tokenizer: CorpusTokenizer, dtype: np.dtype[Any], writers: Mapping[CorpusSplit, _SplitWriter]
) -> dict[str, Any]:
    """Close the files of each split that has documents, and describe them."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": dtype.str,
        "tokenizer": tokenizer.fingerprint,
        "splits": {name: writer.finish() for name, writer in writers.items() if writer.num_tokens},
    }


@dataclass
class _Encoder:
    tokenizer: CorpusTokenizer
    writers: Mapping[CorpusSplit, _SplitWriter]
    validation_fraction: float
    progress: Progress | None

    def write_sources(self, sources: Mapping[str, Iterable[str]], *, only_validation: bool) -> None:
        """Encode and write the documents of each source, a batch at a time."""
        for name, documents in sources.items():
            self._write_source(name, documents, only_validation)

    def _write_source(self, name: str, documents: Iterable[str], only_validation: bool) -> None:
        bos_id = self.tokenizer.special_id(BOS)
        for batch in _batches(documents):
            encoded = self.tokenizer.encode_batch([text for _, text in batch])
            for (content, _), ids in zip(batch, encoded, strict=True):
                writer = self._writer_of(content, only_validation)
                writer.add(name, [bos_id, *ids], len(content))
            if self.progress is not None:
                self.progress(len(batch))

    def _writer_of(self, content: bytes, only_validation: bool) -> _SplitWriter:
        if only_validation:
            return self.writers["validation"]
        if self.validation_fraction <= 0.0:
            return self.writers["train"]
        place = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        in_validation = place < self.validation_fraction * HASH_RANGE
        return self.writers["validation" if in_validation else "train"]


class _HashedFile:
    """A new file whose hash is known when the last byte is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)

    def close(self) -> None:
        self._file.close()

    def describe(self) -> dict[str, Any]:
        return {"file": self.path.name, "sha256": self._digest.hexdigest()}


class _SplitWriter:
    """Appends documents to the shards and the offsets file of one split."""

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
        self._tokens_by_shard: list[int] = []
        self._shards: list[_HashedFile] = []
        self._offsets: _HashedFile | None = None

    def add(self, source: str, ids: Sequence[int], text_bytes: int) -> None:
        """Append a document; one without text is only counted."""
        count = self.sources.get(source, SourceCount(0, 0, 0))
        if text_bytes == 0:
            self.sources[source] = count + SourceCount(0, 0, 0, empty_documents=1)
            return
        with writing(self._directory):
            self._write(np.asarray(ids, dtype=self._dtype).tobytes())
        self.num_tokens += len(ids)
        self.num_documents += 1
        self._tokens_by_shard[-1] += len(ids)
        self.sources[source] = count + SourceCount(1, text_bytes, len(ids))

    def finish(self) -> dict[str, Any]:
        """Write the end offset and describe the split for the index."""
        assert self._offsets is not None, "a split without a document has no files"
        with writing(self._directory):
            self._offsets.write(np.asarray(self.num_tokens, dtype=OFFSET_DTYPE).tobytes())
            self._close()
        return {
            "documents": self.num_documents,
            "tokens": self.num_tokens,
            "offsets": self._offsets.describe(),
            "shards": [
                {**shard.describe(), "tokens": tokens}
                for shard, tokens in zip(self._shards, self._tokens_by_shard, strict=True)
            ],
            "sources": {name: asdict(count) for name, count in self.sources.items()},
        }

    def abandon(self) -> None:
        """Close what is still open after an error, which is the one to be told."""
        with suppress(OSError):
            self._close()

    def _close(self) -> None:
        for file in self._shards[-1:]:
            file.close()
        if self._offsets is not None:
            self._offsets.close()

    def _write(self, tokens: bytes) -> None:
        if self._offsets is None:
            self._offsets = _HashedFile(self._directory / DOCUMENTS_NAMES[self._split])
        if not self._shards or self._tokens_by_shard[-1] >= self._shard_tokens:
            for file in self._shards[-1:]:
                file.close()
            name = f"{SHARD_PREFIXES[self._split]}_{len(self._shards):05d}.bin"
            self._shards.append(_HashedFile(self._directory / name))
            self._tokens_by_shard.append(0)
        self._offsets.write(np.asarray(self.num_tokens, dtype=OFFSET_DTYPE).tobytes())
        self._shards[-1].write(tokens)


def _batches(documents: Iterable[str]) -> Iterator[list[tuple[bytes, str]]]:
    """Documents as (UTF-8, text) by about `BATCH_BYTES`; without a visible character, as empty."""
    batch: list[tuple[bytes, str]] = []
    size_bytes = 0
    for document in documents:
        content = encode_text(document) if document and not document.isspace() else b""
        batch.append((content, content.decode()))
        size_bytes += len(content)
        if size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
