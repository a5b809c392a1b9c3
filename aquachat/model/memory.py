"""The memory that training a model takes, by formula and without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aquachat.model.config import GPTConfig
from aquachat.model.loss_blocks import (
    CPU_BLOCK_ELEMENTS,
    DEVICE_BLOCK_ELEMENTS,
    MIN_BLOCK_POSITIONS,
)
from aquachat.model.scaling import count_parameters

CPU_ACTIVATIONS_PER_LAYER: Final = 14
"""Values kept for the backward pass per token, layer and channel: in attention 5 (normed input,
query, key, value, mixed values), in the MLP 9 (normed input, ReLU and its square, 4 each)."""
DEVICE_ACTIVATIONS_PER_LAYER: Final = 18
"""The same where torch's own norms run, which keep their input besides: 2 for the stream, 2 for
query and key."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes one process needs to train, apart from the interpreter and the allocator's slack."""

    weights_bytes: int
    """float32 masters, and the copies cast for the matrix products."""
    gradients_bytes: int
    optimizer_bytes: int
    """Two moments for AdamW, one for Muon, and Muon's working copies."""
    activations_bytes: int
    """What the backward pass needs of one micro-batch."""
    loss_bytes: int
    """One block of logits and its gradient."""

    @property
    def total_bytes(self) -> int:
        """The sum."""
        return (
            self.weights_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.loss_bytes
        )


def estimate_memory(
    config: GPTConfig, *, device_batch_tokens: int, dtype_bytes: int, device_type: str
) -> MemoryEstimate:
    """Training memory of one process, for micro-batches of `device_batch_tokens` tokens.

    `dtype_bytes` is the size of what matrices are multiplied in: 2 for bfloat16, 4 for float32.

    An estimate for choosing a device and a batch. On a CPU, rows of at most `MAX_SHORT_ROW` tokens
    also keep their attention weights, which are not counted: T / D more values per channel.
    """
    counts = count_parameters(config)
    adam = counts.total - counts.matrices
    cast = 0 if dtype_bytes == 4 else dtype_bytes * (counts.matrices + counts.unembedding)
    on_cpu = device_type == "cpu"
    block = CPU_BLOCK_ELEMENTS if on_cpu else DEVICE_BLOCK_ELEMENTS
    logits = max(block, MIN_BLOCK_POSITIONS * config.vocab_size)
    per_layer = CPU_ACTIVATIONS_PER_LAYER if on_cpu else DEVICE_ACTIVATIONS_PER_LAYER
    per_token = (per_layer * config.num_layers + 4) * config.hidden_size
    return MemoryEstimate(
        weights_bytes=4 * counts.total + cast,
        gradients_bytes=4 * counts.total,
        optimizer_bytes=8 * adam + (4 + 4) * counts.matrices,
        activations_bytes=device_batch_tokens * per_token * dtype_bytes,
        loss_bytes=3 * 4 * logits,
    )
