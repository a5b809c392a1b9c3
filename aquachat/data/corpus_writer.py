"""Turning documents into a corpus: a stream in, token shards and an index out.

What is written is a function of the documents, the tokenizer and the settings. Every few million
tokens the files are made durable and `unfinished` notes how far they go, so that a start after an
interruption reads again what was read, checks that it is the same, and encodes only the rest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aquachat.data.corpus import FORMAT, INDEX_NAME, VERSION, CorpusSplit, SourceCount
from aquachat.data.document_hygiene import ContaminationReport, DocumentPolicy, DocumentWatch
from aquachat.data.document_stream import Batch, DocumentStream, Piece, Place
from aquachat.data.encoding_pool import EncodingPool
from aquachat.data.encoding_worker import Encoded, TextEncoder
from aquachat.data.split_tokens import EMPTY, SplitTokens
from aquachat.data.unfinished import Unfinished, unfinished_corpus
from aquachat.errors import DataError
from aquachat.files import write_json
from aquachat.text.render import BOS

DEFAULT_SHARD_TOKENS: Final = 50_000_000
"""100 MB at two bytes a token."""
BATCH_BYTES: Final = 1 << 19
"""Text that is encoded at once: with what waits for each process it bounds the memory."""
KEEP_TOKENS: Final = 8_000_000
"""Tokens after which progress is kept: some seconds of work."""
HASH_RANGE: Final = 1 << 64
SPLITS: Final[tuple[CorpusSplit, ...]] = ("train", "validation")

Progress = Callable[[int], object]
"""Called with the number of documents that were read since the last call."""


class CorpusTokenizer(TextEncoder, Protocol):
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


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What was written, by split and source."""

    directory: Path
    splits: Mapping[CorpusSplit, Mapping[str, SourceCount]]
    contamination: ContaminationReport | None = None
    """None where no source was searched."""

    @property
    def sources(self) -> dict[str, SourceCount]:
        """The counts of each source over both splits."""
        total: dict[str, SourceCount] = {}
        for counts in self.splits.values():
            for name, count in counts.items():
                total[name] = total.get(name, EMPTY) + count
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
    policy: DocumentPolicy | None = None,
    num_workers: int = 1,
    progress: Progress | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> CorpusReport:
    """Write every document of every source as tokens, replacing the corpus in `directory`.

    The corpus takes its name only when it is complete; until then the old one stays. Same
    documents and tokenizer, same bytes, whatever the number of processes and of interruptions.

    Args:
        directory: `corpora/<name>`.
        sources: documents by source name, streamed, long ones in `Continued` parts; names are kept
            in the index.
        tokenizer: its fingerprint is kept in the index.
        shard_tokens: a shard is closed by the document that reaches this many tokens.
        validation_fraction: share of the documents of `sources` that go to validation, chosen by a
            hash of the text (of its first part), so that equal documents are never on both sides.
        validation_sources: documents for validation.
        policy: what is done about training documents with words of evaluation questions; None to
            search none. Documents for validation stay.
        num_workers: processes that encode; 0 for one a core, 1 for this one alone.
        progress: called after each batch of documents.
        note: told where an interrupted corpus goes on.

    Raises:
        DataError: there is no document for training, another process writes this corpus, or the
            disk refused a write.
    """
    dtype = np.dtype("<u2") if tokenizer.n_vocab <= 1 << 16 else np.dtype("<u4")
    key = {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer.fingerprint,
        "shard_tokens": shard_tokens,
        "validation_fraction": validation_fraction,
        "sources": [*sources],
        "validation_sources": [*(validation_sources or {})],
        **({} if policy is None else {"contamination": policy.key()}),
    }
    stream = DocumentStream(
        sources, validation_sources or {}, () if policy is None else policy.sources
    )
    with unfinished_corpus(directory) as unfinished:
        state = _State(unfinished, key, tokenizer.special_id(BOS), dtype, shard_tokens)
        state.validation_fraction = validation_fraction
        state.watch = None if policy is None else DocumentWatch(policy)
        try:
            _take_up(state, stream, progress, note)
            with EncodingPool[Batch](
                tokenizer,
                dtype.str,
                num_workers or _num_cores(),
                None if policy is None else policy.guard,
            ) as pool:
                for batch, encoded in pool.encode(stream.batches(BATCH_BYTES)):
                    state.add(batch, encoded)
                    if progress is not None:
                        progress(batch.num_documents)
            index = state.index()
        finally:
            state.abandon()
        if "train" not in index["splits"]:
            unfinished.begin_anew()
            raise DataError(
                f"no source has a document for training ({', '.join(sources) or 'no source'})",
                hint="run `aquachat prepare` for a text set first",
            )
        write_json(unfinished.files / INDEX_NAME, index)
        unfinished.install()
    writers = state.writers
    return CorpusReport(
        directory,
        {split: dict(writers[split].sources) for split in index["splits"]},
        None if state.watch is None else state.watch.report(),
    )


def _take_up(
    state: _State,
    stream: DocumentStream,
    progress: Progress | None,
    note: Callable[[str], object],
) -> None:
    """Go on from what an interrupted start kept, if it is of the same documents."""
    place = state.take_up()
    if place is None:
        return
    note(f"going on after {place.documents:,} documents that are in the corpus already")
    if stream.skip_to(place):
        if progress is not None:
            progress(place.documents)
        return
    state.begin_anew()
    if not stream.rewind():
        raise DataError(
            f"the documents are not those of the unfinished corpus `{state.name}`",
            hint="give the command again: it now begins anew",
        )
    note("the documents are no longer the same: the corpus begins anew")


def _num_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class _State:
    """The files of both splits as they grow, and the place in the documents that they reached."""

    def __init__(
        self,
        unfinished: Unfinished,
        key: Mapping[str, Any],
        bos_id: int,
        dtype: np.dtype[Any],
        shard_tokens: int,
    ) -> None:
        self.validation_fraction = 0.0
        self.watch: DocumentWatch | None = None
        self._unfinished = unfinished
        self._key = key
        self._bos_id = bos_id
        self._dtype = dtype
        self._shard_tokens = shard_tokens
        self._tokens_since_kept = 0
        self._split: CorpusSplit = "train"
        """Of the document that is not at its end."""
        self.writers = self._new_writers()

    @property
    def name(self) -> str:
        """The name of the corpus."""
        return self._unfinished.name

    def take_up(self) -> Place | None:
        """Go on from what was kept; None, and an empty folder, where that cannot be."""
        kept = self._unfinished.progress(self._key)
        if kept is not None and all(
            self.writers[split].take_up(kept["splits"][split]) for split in SPLITS
        ):
            names = {name for writer in self.writers.values() for name in writer.file_names()}
            for path in self._unfinished.files.iterdir():
                if path.name not in names:
                    path.unlink()
            if self.watch is not None:
                self.watch.take_up(kept["contaminated"])
            return Place(**kept["place"])
        self.begin_anew()
        return None

    def begin_anew(self) -> None:
        """Remove all that was written."""
        self.abandon()
        self.writers = self._new_writers()
        if self.watch is not None:
            self.watch.begin_anew()
        self._unfinished.begin_anew()

    def add(self, batch: Batch, encoded: Encoded) -> None:
        """Append the documents of a batch, and keep the progress where it is time."""
        pieces = batch.pieces
        starts = np.array([piece.starts and piece.content != b"" for piece in pieces], dtype=bool)
        ends = np.cumsum(encoded.lengths)
        firsts = ends - encoded.lengths
        ids = np.insert(encoded.ids, firsts[starts], self._bos_id)
        ends += np.cumsum(starts)
        begin = 0
        for place, (piece, end) in enumerate(zip(pieces, ends.tolist(), strict=True)):
            self._add_piece(piece, ids[begin:end], encoded.found.get(place))
            begin = end
        self._tokens_since_kept += len(ids)
        if self._tokens_since_kept >= KEEP_TOKENS and pieces[-1].ends:
            self._keep(batch.place)

    def index(self) -> dict[str, Any]:
        """Close the files of each split that has documents, and describe them."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "dtype": self._dtype.str,
            "tokenizer": self._key["tokenizer"],
            "splits": {
                split: writer.finish()
                for split, writer in self.writers.items()
                if writer.num_tokens
            },
            **({} if self.watch is None else {"contamination": self.watch.report().to_json()}),
        }

    def abandon(self) -> None:
        """Close what is open."""
        for writer in self.writers.values():
            writer.abandon()

    def _new_writers(self) -> dict[CorpusSplit, SplitTokens]:
        files = self._unfinished.files
        return {s: SplitTokens(files, s, self._dtype, self._shard_tokens) for s in SPLITS}

    def _add_piece(self, piece: Piece, ids: NDArray[Any], found: str | None) -> None:
        if piece.starts:
            self._split = self._split_of(piece)
        writer = self.writers[self._split]
        if piece.starts and piece.ends and not piece.content:
            writer.add_empty(piece.source)
            return
        is_watched = piece.is_searched and self._split == "train"
        if is_watched and self.watch is not None and self.watch.leaves_out(piece, found):
            writer.drop_document()
            return
        size = len(piece.content)
        writer.add(piece.source, ids, size, starts=piece.starts, ends=piece.ends)

    def _split_of(self, piece: Piece) -> CorpusSplit:
        if piece.only_validation:
            return "validation"
        if self.validation_fraction <= 0.0:
            return "train"
        place = int.from_bytes(hashlib.blake2b(piece.content, digest_size=8).digest())
        return "validation" if place < self.validation_fraction * HASH_RANGE else "train"

    def _keep(self, place: Place) -> None:
        splits = {split: self.writers[split].keep() for split in SPLITS}
        progress = {"place": asdict(place), "splits": splits}
        if self.watch is not None:
            progress["contaminated"] = self.watch.report().to_json()["found"]
        self._unfinished.keep(self._key, progress)
        self._tokens_since_kept = 0
