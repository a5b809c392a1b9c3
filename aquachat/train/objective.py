"""What is minimised: a sum over targets and what to divide it by.

The trainer divides by the denominator of the whole step, summed over micro-batches and processes
before the first backward pass, so the gradient does not depend on how a step is split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from aquachat.model.batch import Batch
from aquachat.model.gpt import GPT
from aquachat.model.losses import cross_entropy_sum


@dataclass(frozen=True, slots=True)
class LossSum:
    """A differentiable sum, and sums to be logged divided by the same denominator."""

    value: Tensor
    """() float32, a sum over targets: not yet divided."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """() float32 sums without gradient, for example the entropy."""


class Objective(Protocol):
    """Base, mid and SFT share one objective; reinforcement learning brings another."""

    def denominator(self, batch: Batch) -> float:
        """What this micro-batch adds to the divisor, known on the host before any computation."""
        ...

    def __call__(self, model: GPT, batch: Batch, dtype: torch.dtype) -> LossSum:
        """The sum over this micro-batch."""
        ...


class NextToken:
    """Cross-entropy of the next token, in nats per target."""

    def denominator(self, batch: Batch) -> float:
        """The number of targets."""
        return float(batch.num_targets)

    def __call__(self, model: GPT, batch: Batch, dtype: torch.dtype) -> LossSum:
        """Sum of -log p(target) over the targets of the batch."""
        hidden = model(batch.inputs, segments=batch.segments, compute_dtype=dtype)
        return LossSum(
            cross_entropy_sum(model, hidden, batch.targets, num_targets=batch.num_targets)
        )
