"""Rendered conversations as padded micro-batches.

Shapes: B rows, T time. A row is one conversation with padding on the right, which causal attention
never looks at, so no conversation sees another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from aquachat.data.loader import host_batch
from aquachat.model.batch import IGNORE, Batch
from aquachat.text.render import Rendered

TrainOn = Literal["assistant", "all"]
"""Which tokens are learned: the assistant's, or every token after the first."""

PADDING_ID = 0
"""Any id would do: no target and no attention reaches it."""


START_SHARE = 16
"""Starting a micro-batch is taken to cost as much as this part of a full one."""


def num_trained(rendered: Rendered, train_on: TrainOn) -> int:
    """How many targets an example has; one with none would divide zero by zero."""
    if train_on == "all":
        return max(0, len(rendered.ids) - 1)
    return sum(rendered.loss_mask[1:])


def grouped_by_length(
    lengths: Sequence[int], device_batch_tokens: int, pad_multiple: int
) -> list[list[int]]:
    """Indices of rows in micro-batches of at most `device_batch_tokens` positions, longest first.

    Of all ways to cut the rows, sorted by length, into micro-batches, the one with the fewest
    positions, where each micro-batch counts as `device_batch_tokens // START_SHARE` more for being
    started. Equal lengths keep their order, so the grouping is a function of the lengths alone. A
    row longer than `device_batch_tokens` gets its own micro-batch.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start_cost = device_batch_tokens // START_SHARE
    best_cost = [0] + [-1] * len(order)
    best_start = [0] * (len(order) + 1)
    for start, index in enumerate(order):
        width = padded(lengths[index], pad_multiple)
        most_rows = max(1, device_batch_tokens // max(width, 1))
        for end in range(start + 1, min(start + most_rows, len(order)) + 1):
            cost = best_cost[start] + start_cost + (end - start) * width
            if best_cost[end] < 0 or cost < best_cost[end]:
                best_cost[end], best_start[end] = cost, start
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[best_start[end] : end])
        end = best_start[end]
    return groups[::-1]


def padded(length: int, multiple: int) -> int:
    """`length` rounded up to a multiple."""
    return -(-length // multiple) * multiple


def pack(
    examples: Iterable[Rendered],
    *,
    train_on: TrainOn,
    device_batch_tokens: int,
    pad_multiple: int,
) -> list[Batch]:
    """The examples as micro-batches on the CPU, those without a target left out.

    The order is by length; see `grouped_by_length`.
    """
    kept = [example for example in examples if num_trained(example, train_on)]
    lengths = [len(example.ids) - 1 for example in kept]
    groups = grouped_by_length(lengths, device_batch_tokens, pad_multiple)
    return [_padded_batch([kept[i] for i in group], train_on, pad_multiple) for group in groups]


def _padded_batch(examples: Sequence[Rendered], train_on: TrainOn, pad_multiple: int) -> Batch:
    width = padded(max(len(example.ids) for example in examples) - 1, pad_multiple)
    inputs = np.full((len(examples), width), PADDING_ID, dtype=np.int64)
    targets = np.full((len(examples), width), IGNORE, dtype=np.int64)  # (B, T)
    for row, example in enumerate(examples):
        ids = np.asarray(example.ids, dtype=np.int64)
        length = len(ids) - 1
        inputs[row, :length] = ids[:-1]
        if train_on == "all":
            targets[row, :length] = ids[1:]
        else:
            learned = np.asarray(example.loss_mask[1:], dtype=bool)
            targets[row, :length] = np.where(learned, ids[1:], IGNORE)
    num_targets = sum(num_trained(example, train_on) for example in examples)
    return host_batch(inputs, targets, num_targets)
