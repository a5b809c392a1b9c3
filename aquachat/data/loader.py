"""Batches of running text, as a pure function of (seed, step).

Shapes: B rows, T time.

The documents of an epoch, in a random order, are laid end to end, and epoch follows epoch without
a gap: one endless stream of tokens. Row g of training is the T + 1 tokens from position g * T, so
that each token is a target exactly once an epoch and none is lost. Step s takes rows s * R to
(s + 1) * R, and the processes share them out, which decides nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from aquachat.data.corpus import Corpus
from aquachat.data.order import EpochOrders
from aquachat.errors import ConfigError, DataError
from aquachat.model.batch import IGNORE, Batch, JsonDict

VALIDATION_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class _Epoch:
    order: NDArray[np.int64]
    """(documents,)"""
    starts: NDArray[np.int64]
    """(documents + 1,) where each document of `order` starts in the epoch."""


class TokenStream:
    """The endless stream of a corpus: any stretch of it in time O(log documents).

    Args:
        corpus: the documents.
        key: what decides their order in each epoch.
    """

    def __init__(self, corpus: Corpus, *key: int | str) -> None:
        if corpus.num_tokens == 0:
            raise DataError(f"the corpus `{corpus.directory}` is empty")
        self.tokens_per_epoch = corpus.num_tokens
        self._corpus = corpus
        self._lengths = corpus.lengths
        self._orders = EpochOrders(corpus.num_documents, *key)
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
            document = self._corpus.document(int(epoch.order[place]))
            piece = document[skipped : skipped + len(tokens) - done]
            tokens[done : done + len(piece)] = piece
            done += len(piece)
            place, skipped = place + 1, 0


class TextSource:
    """Training batches of running text; a `BatchSource` whose only state is the step.

    Args:
        corpus: the training split.
        tokens_per_step: targets of one optimizer step over all processes; a multiple of `seq_len`.
        seq_len: T.
        device_batch_size: rows of a micro-batch, at most.
        seed: decides the order of documents.
        rank: this process; `world_size`: how many there are.
        device: where the batches go.

    Raises:
        ConfigError: `tokens_per_step` is not a multiple of `seq_len`.
        DataError: the corpus is empty.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        tokens_per_step: int,
        seq_len: int,
        device_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if tokens_per_step <= 0 or tokens_per_step % seq_len:
            raise ConfigError(
                f"tokens per step ({tokens_per_step:,}) is not a multiple of the sequence length "
                f"({seq_len:,})",
                hint=f"use {max(1, round(tokens_per_step / seq_len)) * seq_len:,} tokens per step",
            )
        self.rows_per_step = tokens_per_step // seq_len
        self._stream = TokenStream(corpus, seed, "text")
        self._seq_len = seq_len
        self._device_batch_size = device_batch_size
        self._rank, self._world_size = rank, world_size
        self._device = torch.device(device)

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens of the corpus."""
        return self._stream.tokens_per_epoch

    def epochs_at(self, step: int) -> float:
        """How often the corpus has been seen before step `step`."""
        return step * self.rows_per_step * self._seq_len / self.tokens_per_epoch

    def step_batches(self, step: int) -> Sequence[Batch]:
        """This process's micro-batches at `step`; none where there are fewer rows than ranks."""
        first, end = share_of(self.rows_per_step, self._rank, self._world_size)
        base = step * self.rows_per_step
        return [
            self._batch(base + row, min(self._device_batch_size, end - row))
            for row in range(first, end, self._device_batch_size)
        ]

    def state_dict(self) -> JsonDict:
        """Nothing: all is a function of the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def _batch(self, row: int, num_rows: int) -> Batch:
        length = num_rows * self._seq_len
        tokens = self._stream.read(row * self._seq_len, length + 1)
        shape = (num_rows, self._seq_len)
        batch = host_batch(tokens[:-1].reshape(shape), tokens[1:].reshape(shape), length)
        return on_device(batch, self._device)


def validation_batches(
    corpus: Corpus,
    *,
    seq_len: int,
    device_batch_size: int,
    max_tokens: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """The rows of a validation split that this process scores.

    The union over the processes is the same for any number of them.

    Documents come in a fixed random order, so that the first `max_tokens` are a sample of every
    source. The last row is padded, with IGNORE as targets: nothing is lost.

    Args:
        corpus: the validation split.
        seq_len: T.
        device_batch_size: rows of a batch, at most.
        max_tokens: targets to score over all processes, rounded up to whole rows; None for all.
        rank: this process.
        world_size: how many processes there are.
        device: where the batches go.
    """
    stream = TokenStream(corpus, VALIDATION_SEED, "validation")
    num_targets = stream.tokens_per_epoch - 1
    num_rows = -(-num_targets // seq_len)
    if max_tokens is not None:
        num_rows = min(num_rows, -(-max_tokens // seq_len))
    first, end = share_of(num_rows, rank, world_size)
    for row in range(first, end, device_batch_size):
        rows = min(device_batch_size, end - row)
        start, length = row * seq_len, rows * seq_len
        present = min(length, num_targets - start)
        tokens = stream.read(start, present + 1)
        inputs = np.full(length, tokens[0], dtype=np.int64)
        targets = np.full(length, IGNORE, dtype=np.int64)
        inputs[:present], targets[:present] = tokens[:-1], tokens[1:]
        shape = (rows, seq_len)
        batch = host_batch(inputs.reshape(shape), targets.reshape(shape), present)
        yield on_device(batch, torch.device(device))


def share_of(count: int, rank: int, world_size: int) -> tuple[int, int]:
    """The half-open range of `count` things that process `rank` takes; sizes differ by at most 1.

    Example:
        [share_of(5, rank, 2) for rank in range(2)]   # [(0, 2), (2, 5)]
    """
    return count * rank // world_size, count * (rank + 1) // world_size


def host_batch(inputs: NDArray[np.int64], targets: NDArray[np.int64], num_targets: int) -> Batch:
    """A batch on the CPU from arrays of shape (B, T), without a copy where they are contiguous."""
    return Batch(
        inputs=torch.from_numpy(np.ascontiguousarray(inputs)),
        targets=torch.from_numpy(np.ascontiguousarray(targets)),
        num_targets=num_targets,
    )


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`, on its way there asynchronously if that is a CUDA device."""
    if device.type == "cpu":
        return batch
    if device.type == "cuda":
        inputs, targets = batch.inputs.pin_memory(), batch.targets.pin_memory()
        batch = Batch(inputs, targets, batch.num_targets)
    return batch.to(device)
