"""Rows of running text by number: row g of an endless sequence, whoever asks and in what order.

Shapes: R rows, T time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aquachat.data.bos_packing import count_rows, pack_documents
from aquachat.data.corpus import Corpus
from aquachat.data.mixture import cycle_shares, interleave, occurrences
from aquachat.data.order import EpochOrders, generator_for
from aquachat.data.token_stream import TokenStream
from aquachat.errors import ConfigError
from aquachat.model.batch import IGNORE

PLAN_DOCUMENTS: Final = 1 << 17
"""Documents that are packed together: a plan of them takes some ten megabytes and 0.1 s."""

Packing = Literal["stream", "bos"]
"""Rows of one endless stream, or rows that begin with `<|bos|>` and hold whole documents."""

Key = Sequence[int | str]


class TextRows(Protocol):
    """Where the rows of a `TextSource` come from."""

    def fill(self, first: int, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Write the rows from `first` on into two (R, T) arrays."""
        ...

    def tokens_by_source(self, num_rows: int) -> NDArray[np.int64]:
        """(sources of the corpus,) their tokens in the first `num_rows`, padding left out."""
        ...


def make_rows(
    corpus: Corpus,
    *,
    seq_len: int,
    packing: Packing,
    seed: int,
    mixture: Mapping[str, float] | None = None,
) -> TextRows:
    """The rows of a corpus, or of a mixture of its sources.

    Args:
        corpus: the documents.
        seq_len: T.
        packing: how documents become rows.
        seed: decides the order of documents.
        mixture: the share of rows of each source of the corpus; None for all documents, each once
            an epoch.

    Raises:
        ConfigError: the mixture names no source of the corpus, or a weight that is not above 0; or
            rows too short to be packed.
        DataError: the corpus is empty.
    """
    if packing == "bos" and seq_len < 2:
        raise ConfigError(
            "rows that begin with `<|bos|>` need at least 2 tokens", hint="raise `--seq-len`"
        )
    kind = BosRows if packing == "bos" else StreamRows
    if not mixture:
        return kind(corpus, seq_len, (seed, "text"), range(corpus.num_documents))
    ranges = corpus.source_ranges()
    for name, weight in mixture.items():
        if name not in ranges:
            raise ConfigError(
                f"the corpus `{corpus.directory.name}` has no source `{name}`",
                hint=f"`base.mixture` can weigh {', '.join(ranges)}",
            )
        if not ranges[name]:
            raise ConfigError(
                f"the source `{name}` of the corpus `{corpus.directory.name}` has no document",
                hint="take it out of `base.mixture`",
            )
        if not weight > 0:
            raise ConfigError(
                f"the source `{name}` has weight {weight}", hint="use a number above 0"
            )
    parts = [kind(corpus, seq_len, (seed, "text", name), ranges[name]) for name in mixture]
    return MixedRows(parts, cycle_shares(list(mixture.values())))


class StreamRows:
    """Row g is the T + 1 tokens of a `TokenStream` from position g T on.

    Each token is a target exactly once an epoch. A row begins anywhere in a document.
    """

    def __init__(self, corpus: Corpus, seq_len: int, key: Key, documents: range) -> None:
        self._stream = TokenStream(corpus, *key, documents=documents)
        self._counter = _SourceCounter(corpus, documents)
        self._seq_len = seq_len

    def fill(self, first: int, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Write the rows from `first` on into two (R, T) arrays."""
        tokens = self._stream.read(first * self._seq_len, inputs.size + 1)
        inputs[:] = tokens[:-1].reshape(inputs.shape)
        targets[:] = tokens[1:].reshape(targets.shape)

    def tokens_by_source(self, num_rows: int) -> NDArray[np.int64]:
        """(sources of the corpus,) their tokens in the first `num_rows`."""
        epoch, documents, rest = self._stream.documents_before(num_rows * self._seq_len)
        count = self._counter
        whole = epoch * count.per_epoch + count.of_documents(documents[:-1])
        return whole + count.of_tokens(documents[-1:], np.array([rest]))


@dataclass(frozen=True, slots=True)
class _Plan:
    """The rows of a block of documents, in the order in which they are trained on."""

    row_starts: NDArray[np.int64]
    """(rows + 1,) the first piece of each row."""
    documents: NDArray[np.int64]
    """(pieces,) numbers in the corpus."""
    starts: NDArray[np.int64]
    """(pieces,) the first token of the piece in its document."""
    num_tokens: NDArray[np.int64]
    """(pieces,)"""


class BosRows:
    """Rows that begin with `<|bos|>` and hold documents as whole as they can be; see `bos_packing`.

    Each token is an input exactly once an epoch, and its successor (behind the last token of a
    document, `<|bos|>`) a target exactly once. A document that is cut goes on behind another
    `<|bos|>`, which has no target. What is left of a row is padded with `<|bos|>`, without targets.

    The documents of an epoch are packed in blocks in their random order, and the rows of a block
    shuffled, so a row is a function of the key and its number.
    """

    def __init__(
        self,
        corpus: Corpus,
        seq_len: int,
        key: Key,
        documents: range,
        *,
        plan_documents: int = PLAN_DOCUMENTS,
    ) -> None:
        self._corpus = corpus
        self._seq_len = seq_len
        self._key = key
        self._documents = documents
        self._plan_documents = plan_documents
        self._blocks_per_epoch = -(-len(documents) // plan_documents)
        self._orders = EpochOrders(len(documents), *key)
        self._counter = _SourceCounter(corpus, documents)
        self._bos_id = int(corpus.document(documents.start)[0])
        self._rows_before = [0]
        """Of each block that was counted, and of the next."""
        self._plans: OrderedDict[int, _Plan] = OrderedDict()

    def fill(self, first: int, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Write the rows from `first` on into two (R, T) arrays."""
        inputs[:] = self._bos_id
        targets[:] = IGNORE
        for index in range(len(inputs)):
            block, row = self._place_of(first + index)
            self._fill_row(self._plan(block), row, inputs[index], targets[index])

    def tokens_by_source(self, num_rows: int) -> NDArray[np.int64]:
        """(sources of the corpus,) their tokens in the first `num_rows`."""
        block, row = self._place_of(num_rows)
        epoch, number = divmod(block, self._blocks_per_epoch)
        count, plan = self._counter, self._plan(block)
        before = self._ordered(epoch)[: number * self._plan_documents]
        end = int(plan.row_starts[row])
        partial = count.of_tokens(plan.documents[:end], plan.num_tokens[:end])
        return epoch * count.per_epoch + count.of_documents(before) + partial

    def _fill_row(
        self, plan: _Plan, row: int, inputs: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> None:
        place = 0
        for piece in range(int(plan.row_starts[row]), int(plan.row_starts[row + 1])):
            tokens = self._corpus.document(int(plan.documents[piece]))
            start, count = int(plan.starts[piece]), int(plan.num_tokens[piece])
            place += start > 0  # behind a `<|bos|>`, which is there already
            inputs[place : place + count] = tokens[start : start + count]
            following = tokens[start + 1 : start + count + 1]
            targets[place : place + len(following)] = following
            place += count
            if len(following) < count:
                targets[place - 1] = self._bos_id

    def _place_of(self, row: int) -> tuple[int, int]:
        """The block of a row, and the row's number in it."""
        while self._rows_before[-1] <= row:
            documents = self._documents_of(len(self._rows_before) - 1)
            num_rows = count_rows(self._corpus.lengths_of(documents), self._seq_len)
            self._rows_before.append(self._rows_before[-1] + num_rows)
        block = bisect_right(self._rows_before, row) - 1
        return block, row - self._rows_before[block]

    def _ordered(self, epoch: int) -> NDArray[np.int64]:
        return self._orders[epoch] + self._documents.start

    def _documents_of(self, block: int) -> NDArray[np.int64]:
        epoch, number = divmod(block, self._blocks_per_epoch)
        first = number * self._plan_documents
        return self._orders[epoch][first : first + self._plan_documents] + self._documents.start

    def _plan(self, block: int) -> _Plan:
        if block not in self._plans:
            self._plans[block] = self._make_plan(block)
            while len(self._plans) > 2:
                self._plans.popitem(last=False)
        return self._plans[block]

    def _make_plan(self, block: int) -> _Plan:
        documents = self._documents_of(block)
        lengths = self._corpus.lengths_of(documents)
        pieces, row_of, num_rows = pack_documents(lengths, self._seq_len)
        row_of = generator_for(*self._key, "rows", block).permutation(num_rows)[row_of]
        by_row = np.argsort(row_of, kind="stable")
        return _Plan(
            np.searchsorted(row_of[by_row], np.arange(num_rows + 1)),
            documents[pieces.document[by_row]],
            pieces.start[by_row],
            pieces.num_tokens[by_row],
        )


class MixedRows:
    """Rows of several parts in turn, as even as whole rows allow; see `mixture`.

    Args:
        parts: their rows.
        shares: how many rows of each part a cycle has.
    """

    def __init__(self, parts: Sequence[TextRows], shares: Sequence[int]) -> None:
        self._parts = parts
        self._shares = shares
        self._cycle = interleave(shares)
        self._before = occurrences(self._cycle)

    def fill(self, first: int, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Write the rows from `first` on into two (R, T) arrays."""
        for index in range(len(inputs)):
            cycles, offset = divmod(first + index, len(self._cycle))
            part = int(self._cycle[offset])
            row = cycles * self._shares[part] + int(self._before[offset])
            only = slice(index, index + 1)
            self._parts[part].fill(row, inputs[only], targets[only])

    def tokens_by_source(self, num_rows: int) -> NDArray[np.int64]:
        """(sources of the corpus,) their tokens in the first `num_rows`."""
        cycles, rest = divmod(num_rows, len(self._cycle))
        extra = np.bincount(self._cycle[:rest], minlength=len(self._parts))
        counts = [
            part.tokens_by_source(cycles * share + int(more))
            for part, share, more in zip(self._parts, self._shares, extra, strict=True)
        ]
        total: NDArray[np.int64] = np.sum(counts, axis=0)
        return total


class _SourceCounter:
    """Counts tokens by the source of their document."""

    def __init__(self, corpus: Corpus, documents: range) -> None:
        self._corpus = corpus
        self._ends = np.array([r.stop for r in corpus.source_ranges().values()], dtype=np.int64)
        self.per_epoch = np.zeros(len(self._ends), dtype=np.int64)
        """(sources,) tokens of `documents`."""
        for index, owned in enumerate(corpus.source_ranges().values()):
            common = range(max(owned.start, documents.start), min(owned.stop, documents.stop))
            if common:
                self.per_epoch[index] = corpus.tokens_in(common)

    def of_documents(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """(sources,) tokens of whole documents."""
        return self.of_tokens(documents, self._corpus.lengths_of(documents))

    def of_tokens(
        self, documents: NDArray[np.int64], num_tokens: NDArray[Any]
    ) -> NDArray[np.int64]:
        """(sources,) so many tokens of each document."""
        source = np.searchsorted(self._ends, documents, side="right")
        counts = np.bincount(source, weights=num_tokens, minlength=len(self._ends))
        return counts.astype(np.int64)  # exact below 2**53
