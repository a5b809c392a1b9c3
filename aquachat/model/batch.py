"""One micro-batch on the device, and where batches come from.

Shapes: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

IGNORE: Final = -100
"""The target of a position that carries no loss."""

JsonDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Segments:
    """Which document each position belongs to; attention stays inside a document."""

    document_ids: Tensor
    """(B, T) int64, increasing along T; equal ids attend to each other causally."""


@dataclass(frozen=True, slots=True)
class RolloutFields:
    """What reinforcement learning needs beside tokens. All (B, T), aligned with `targets`."""

    advantages: Tensor
    """float32, 0 where `targets` is IGNORE."""
    old_logprobs: Tensor
    """float32, nats under the policy that was sampled from."""
    reference_logprobs: Tensor | None = None
    """float32, nats under the frozen start; None where no KL term is asked for."""
    weights: Tensor | None = None
    """float32, a factor on each token's loss; None is 1 everywhere."""
    group_ids: Tensor | None = None
    """(B,) int64, the prompt each row was sampled for."""
    letter_sites: Tensor | None = None
    """(B,) int64, the position whose target is the answer letter, -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch, on the device."""

    inputs: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64, IGNORE where there is no loss."""
    num_targets: int
    """Targets that are not IGNORE, counted on the host: no device synchronisation."""
    segments: Segments | None = None
    rollout: RolloutFields | None = None

    @property
    def num_tokens(self) -> int:
        """Positions computed, padding included."""
        return self.inputs.numel()

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device, copied asynchronously where memory is pinned."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        ids = move(self.segments.document_ids if self.segments else None)
        segments = None if ids is None else Segments(ids)
        rollout = self.rollout
        if rollout is not None:
            rollout = RolloutFields(
                advantages=rollout.advantages.to(device, non_blocking=True),
                old_logprobs=rollout.old_logprobs.to(device, non_blocking=True),
                reference_logprobs=move(rollout.reference_logprobs),
                weights=move(rollout.weights),
                group_ids=move(rollout.group_ids),
                letter_sites=move(rollout.letter_sites),
            )
        return Batch(
            inputs=self.inputs.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            num_targets=self.num_targets,
            segments=segments,
            rollout=rollout,
        )


class BatchSource(Protocol):
    """Base text, chat and rollouts all fit."""

    def step_batches(self, step: int) -> Sequence[Batch]:
        """The micro-batches of this rank at optimizer step `step` (0-based).

        A pure function of (seed, step) for data sources.
        """
        ...

    def state_dict(self) -> JsonDict:
        """Only what is not a function of the step, for example pending rollouts."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...
