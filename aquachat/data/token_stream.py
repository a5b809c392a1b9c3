"""The endless stream of a corpus: documents in a random order, end to end, epoch after epoch."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aquachat.data.corpus import Corpus
from aquachat.data.order import EpochOrders
from aquachat.errors import DataError


@dataclass(frozen=True, slots=True)
class _Epoch:
    order: NDArray[np.int64]
    """(documents,)"""
    starts: NDArray[np.int64]
    """(documents + 1,) where each document of `order` starts in the epoch."""


class TokenStream:
    """The endless stream of a corpus: any stretch of it in time O(log documents).

    Args:
        corpus: where the documents are.
        key: what decides their order in each epoch.
        documents: which of them; None for all.

    Raises:
        DataError: there is no document.
    """

    def __init__(self, corpus: Corpus, *key: int | str, documents: range | None = None) -> None:
        documents = range(corpus.num_documents) if documents is None else documents
        if not documents:
            raise DataError(f"the corpus `{corpus.directory}` is empty")
        self._corpus = corpus
        self._first = documents.start
        self._lengths = corpus.lengths[documents.start : documents.stop]
        self.tokens_per_epoch = int(self._lengths.sum())
        self._orders = EpochOrders(len(documents), *key)
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """(count,) the tokens from position `start` on."""
        tokens = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            epoch, offset = divmod(start + done, self.tokens_per_epoch)
            wanted = min(count - done, self.tokens_per_epoch - offset)
            self._read_in_epoch(self._epoch(epoch), offset, tokens[done : done + wanted])
            done += wanted
        return tokens

    def documents_before(self, position: int) -> tuple[int, NDArray[np.int64], int]:
        """What lies before a position: whole epochs, documents of the next, tokens of one more.

        The documents are (documents + 1,) numbers in the corpus, the last the one that is cut.
        """
        epoch, offset = divmod(position, self.tokens_per_epoch)
        current = self._epoch(epoch)
        place = int(np.searchsorted(current.starts, offset, side="right")) - 1
        return epoch, current.order[: place + 1] + self._first, offset - int(current.starts[place])

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            order = self._orders[epoch]
            starts = np.concatenate(([0], np.cumsum(self._lengths[order])))
            self._epochs[epoch] = _Epoch(order, starts)
            while len(self._epochs) > 2:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]

    def _read_in_epoch(self, epoch: _Epoch, offset: int, tokens: NDArray[np.int64]) -> None:
        place = int(np.searchsorted(epoch.starts, offset, side="right")) - 1
        skipped = offset - int(epoch.starts[place])
        done = 0
        while done < len(tokens):
            document = self._corpus.document(self._first + int(epoch.order[place]))
            piece = document[skipped : skipped + len(tokens) - done]
            tokens[done : done + len(piece)] = piece
            done += len(piece)
            place, skipped = place + 1, 0
