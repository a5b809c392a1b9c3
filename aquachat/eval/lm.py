"""Bits per byte: how well a model predicts text, whatever its vocabulary.

Shapes: B batch, T time, V vocab.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aquachat.model.batch import IGNORE, Batch
from aquachat.model.gpt import GPT
from aquachat.model.losses import target_logprobs
from aquachat.world import World


@dataclass(frozen=True, slots=True)
class TextLoss:
    """Sums over targets of all processes."""

    nats: float
    """Over all targets, special tokens included."""
    num_tokens: int
    """All targets."""
    text_nats: float
    """Over targets that stand for bytes of text."""
    num_bytes: int
    """The exact bytes of those targets."""

    @property
    def bits_per_byte(self) -> float:
        """Bits of information per byte of text; special tokens have no bytes and are left out."""
        return self.text_nats / math.log(2) / self.num_bytes if self.num_bytes else math.nan

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy over all targets."""
        return self.nats / self.num_tokens if self.num_tokens else math.nan

    def to_json(self) -> dict[str, float]:
        """The figures of an entry of `results`."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "nats_per_token": self.nats_per_token,
            "num_tokens": self.num_tokens,
            "num_bytes": self.num_bytes,
        }


@torch.no_grad()
def bits_per_byte(
    model: GPT, batches: Iterable[Batch], token_bytes: npt.NDArray[np.int32], world: World
) -> TextLoss:
    """Measure the model on this process's batches, and add up over processes.

    Args:
        model: any model with this vocabulary.
        batches: on the device; targets that are IGNORE count nothing.
        token_bytes: (V,), the bytes each token stands for, 0 for special tokens.
        world: its device and compute dtype are used.
    """
    lengths = torch.from_numpy(token_bytes.astype(np.int64)).to(world.device)
    sums = torch.zeros(4, dtype=torch.float64, device=_sum_device(world))
    for batch in batches:
        hidden = model(batch.inputs, segments=batch.segments, compute_dtype=world.dtype)
        logprobs, _ = target_logprobs(model, hidden, batch.targets, num_targets=batch.num_targets)
        sums += _sums(-logprobs, batch.targets, lengths).to(sums.device)
    world.all_reduce_sum(sums)
    nats, tokens, text_nats, num_bytes = sums.tolist()
    return TextLoss(nats, round(tokens), text_nats, round(num_bytes))


def _sums(nats: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """(4,) the fields of `TextLoss`."""
    has_target = targets != IGNORE
    num_bytes = torch.where(has_target, lengths[targets.clamp(min=0)], 0)  # (B, T)
    # A sum over a batch in float32 loses digits that 10,000 batches would add up.
    nats = nats.double() if nats.device.type != "mps" else nats
    text_nats = (nats * (num_bytes > 0)).sum()
    return torch.stack((nats.sum(), has_target.sum(), text_nats, num_bytes.sum()))


def _sum_device(world: World) -> torch.device:
    """Where float64 exists."""
    return torch.device("cpu") if world.device.type == "mps" else world.device
