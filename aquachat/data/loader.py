"""Batches of running text, as a pure function of (seed, step).

Shapes: B rows, T time.

Documents become an endless sequence of rows (`text_rows`). Step s takes rows s * R to (s + 1) * R,
and the processes share them out, which decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquachat.data.corpus import Corpus
from aquachat.data.prefetch import Prefetcher
from aquachat.data.text_rows import Packing, make_rows
from aquachat.data.token_stream import TokenStream
from aquachat.errors import ConfigError
from aquachat.model.batch import IGNORE, Batch, JsonDict, Segments

VALIDATION_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class SourceUse:
    """What training took from one source of a corpus."""

    tokens: int
    """Without padding."""
    epochs: float
    """How often all of its tokens were seen."""
    share: float
    """Of all tokens taken; 0 before the first."""


class TextSource:
    """Training batches of running text; a `BatchSource` whose only state is the step.

    Args:
        corpus: the training split.
        tokens_per_step: positions of one optimizer step over all processes; a multiple of
            `seq_len`.
        seq_len: T.
        device_batch_size: rows of a micro-batch, at most.
        seed: decides the order of documents.
        rank: this process; `world_size`: how many there are.
        device: where the batches go.
        packing: how documents become rows; see `text_rows`.
        document_mask: whether attention stays inside a document.
        mixture: the share of rows of each source of the corpus; None for all documents alike.
        prefetch: steps that a background thread makes ahead, in pinned memory for a CUDA device; it
            changes no batch.

    Raises:
        ConfigError: `tokens_per_step` is not a multiple of `seq_len`, or a mixture that cannot be.
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
        packing: Packing = "stream",
        document_mask: bool = False,
        mixture: Mapping[str, float] | None = None,
        prefetch: int = 2,
    ) -> None:
        if tokens_per_step <= 0 or tokens_per_step % seq_len:
            raise ConfigError(
                f"tokens per step ({tokens_per_step:,}) is not a multiple of the sequence length "
                f"({seq_len:,})",
                hint=f"use {max(1, round(tokens_per_step / seq_len)) * seq_len:,} tokens per step",
            )
        self.rows_per_step = tokens_per_step // seq_len
        self._rows = make_rows(corpus, seq_len=seq_len, packing=packing, seed=seed, mixture=mixture)
        self._bos_id = int(corpus.document(0)[0])
        self._source_tokens = {name: c.tokens for name, c in corpus.sources.items()}
        self._seq_len = seq_len
        self._device_batch_size = device_batch_size
        self._rank, self._world_size = rank, world_size
        self._device = torch.device(device)
        self._document_mask = document_mask
        self._ahead = Prefetcher(self._host_step, prefetch, "text")

    def step_batches(self, step: int) -> Sequence[Batch]:
        """This process's micro-batches at `step`; none where there are fewer rows than ranks."""
        return [on_device(batch, self._device) for batch in self._ahead.get(step)]

    def step_metrics(self) -> dict[str, float]:
        """How long the last step waited for its batches, in seconds."""
        return {"train/data_wait_s": self._ahead.waited_s}

    def accounting(self, num_steps: int) -> dict[str, SourceUse]:
        """What the first `num_steps` took from each source, over all processes, exactly.

        Sources without a weight in the mixture are left out.
        """
        counts = self._rows.tokens_by_source(num_steps * self.rows_per_step).tolist()
        total = sum(counts)
        return {
            name: SourceUse(count, count / size, count / total if total else 0.0)
            for (name, size), count in zip(self._source_tokens.items(), counts, strict=True)
            if size
        }

    def state_dict(self) -> JsonDict:
        """Nothing: all is a function of the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def close(self) -> None:
        """End the background thread."""
        self._ahead.close()

    def _host_step(self, step: int) -> list[Batch]:
        first, end = share_of(self.rows_per_step, self._rank, self._world_size)
        base = step * self.rows_per_step
        batches = [
            self._host_batch(base + row, min(self._device_batch_size, end - row))
            for row in range(first, end, self._device_batch_size)
        ]
        return [pinned(batch) for batch in batches] if self._device.type == "cuda" else batches

    def _host_batch(self, row: int, num_rows: int) -> Batch:
        inputs = np.empty((num_rows, self._seq_len), dtype=np.int64)
        targets = np.empty_like(inputs)
        self._rows.fill(row, inputs, targets)
        batch = host_batch(inputs, targets, int(np.count_nonzero(targets != IGNORE)))
        return with_documents(batch, self._bos_id) if self._document_mask else batch


def validation_batches(
    corpus: Corpus,
    *,
    seq_len: int,
    device_batch_size: int,
    max_tokens: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    document_mask: bool = False,
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
        document_mask: whether attention stays inside a document, as it did in training.
    """
    bos_id = int(corpus.document(0)[0])
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
        batch = with_documents(batch, bos_id) if document_mask else batch
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


def with_documents(batch: Batch, bos_id: int) -> Batch:
    """The batch with segments: a new one from each `<|bos|>` on."""
    return replace(batch, segments=Segments((batch.inputs == bos_id).cumsum(dim=1)))


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`, on its way there asynchronously if that is a CUDA device."""
    if device.type == "cpu":
        return batch
    return (pinned(batch) if device.type == "cuda" else batch).to(device)


def pinned(batch: Batch) -> Batch:
    """The batch in pinned memory; tensors that are there already are not copied again."""

    def pin(tensor: Tensor) -> Tensor:
        return tensor if tensor.is_pinned() else tensor.pin_memory()

    segments = batch.segments and Segments(pin(batch.segments.document_ids))
    return replace(batch, inputs=pin(batch.inputs), targets=pin(batch.targets), segments=segments)
