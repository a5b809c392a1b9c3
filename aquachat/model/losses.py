"""Cross-entropy and log-probabilities without the (N, V) logits in memory.

Head, softcap and log-softmax are computed for a block of positions at a time, and only for
positions that have a target. The gradients are written out by hand; the tests compare them with
the plain formula.

Shapes: B batch, T time, N positions with a target, n positions of one block, V vocab, C hidden.

With z = h W^T, t = tanh(z / c) and capped logits l = c t: dl/dz = 1 - t^2. Since |l| <= c <= 60,
exp(l) neither overflows nor vanishes in float32, so cross-entropy subtracts no maximum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aquachat.model.batch import IGNORE
from aquachat.model.gpt import GPT
from aquachat.model.loss_blocks import (
    CPU_BLOCK_ELEMENTS,
    DEVICE_BLOCK_ELEMENTS,
    MIN_BLOCK_POSITIONS,
)

POSITIONS_MULTIPLE: Final = 128
"""Positions are made up to a multiple with ones that carry no loss. oneDNN keeps code and buffers
for every matrix shape it meets: without this the CPU's memory grew by 0.3 GB in 100 steps."""


def cross_entropy_sum(
    model: GPT,
    hidden: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    num_targets: int | None = None,
) -> Tensor:
    """The sum over targets of -log p, in nats: float32, 0-dim; 0 where there is no target.

    A sum and not a mean, so that micro-batches and ranks add up whatever their sizes; the caller
    divides by the targets of the whole step.

    Args:
        model: gives the head and the softcap.
        hidden: (B, T, C) from `model.forward`.
        targets: (B, T) int64, IGNORE where there is no loss.
        weights: (B, T) float32, a factor on each target's loss; not differentiated.
        num_targets: targets that are not IGNORE, if the host knows; saves a device synchronisation.
    """
    rows = _target_positions(targets, num_targets)
    wanted = _select(targets.flatten(), rows)
    factors = (wanted != IGNORE).float()
    if weights is not None:
        factors = factors * _select(weights.flatten(), rows)
    return _FusedCrossEntropy.apply(
        _select(hidden.flatten(0, -2), rows),
        model.lm_head.weight,
        wanted.clamp(min=0),
        factors,
        model.config.logit_softcap,
    )


def target_logprobs(
    model: GPT,
    hidden: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    num_targets: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each prediction, in nats.

    Both are differentiable: the backward computes the logits again, block by block.

    Args:
        model: gives the head and the softcap.
        hidden: (..., C) from `model.forward`.
        targets: (...) int64, IGNORE where nothing is asked.
        temperature: divides the capped logits, as in sampling.
        num_targets: as in `cross_entropy_sum`.

    Returns:
        (...) float32 each, over the full vocabulary; 0 where the target is IGNORE.
    """
    rows = _target_positions(targets, num_targets)
    wanted = _select(targets.flatten(), rows)
    logprobs, entropy = _FusedLogprobs.apply(
        _select(hidden.flatten(0, -2), rows),
        model.lm_head.weight,
        wanted.clamp(min=0),
        model.config.logit_softcap,
        temperature,
    )
    carries = wanted != IGNORE
    logprobs, entropy = (torch.where(carries, v, 0.0) for v in (logprobs, entropy))
    return _scatter(logprobs, rows, targets.shape), _scatter(entropy, rows, targets.shape)


def _target_positions(targets: Tensor, num_targets: int | None) -> Tensor | None:
    """(N,) flat positions: all that have a target, then some that have none up to the multiple.

    None where nothing need be moved.
    """
    has_target = targets.flatten() != IGNORE
    if num_targets is None:
        num_targets = int(has_target.sum())
    count = -(-num_targets // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE
    if count >= targets.numel():
        return None
    # A sort needs no answer from the device, `nonzero` does.
    return torch.argsort(has_target, descending=True, stable=True)[:count]


def _select(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values.index_select(0, rows)


def _scatter(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    if rows is not None:
        empty = values.new_zeros(shape.numel())
        values = empty.index_copy(0, rows, values)
    return values.view(shape)


def _blocks(num_positions: int, weight: Tensor) -> Iterator[slice]:
    """Slices of positions whose logits fit the block budget of the device."""
    on_cpu = weight.device.type == "cpu"
    budget = CPU_BLOCK_ELEMENTS if on_cpu else DEVICE_BLOCK_ELEMENTS
    size = max(MIN_BLOCK_POSITIONS, budget // weight.shape[0])
    return (slice(start, start + size) for start in range(0, num_positions, size))


def _block_tanh(hidden: Tensor, matrix: Tensor, cap: float) -> Tensor:
    """Uncapped logits over the cap, squashed, float32: (n, C), (V, C) -> (n, V)."""
    return torch.mm(hidden, matrix.t()).float().div_(cap).tanh_()


class _HeadGradients:
    """Gradients of the hidden states and of the head, gathered block by block."""

    def __init__(self, hidden: Tensor, weight: Tensor, matrix: Tensor, need: tuple[bool, bool]):
        self.matrix = matrix
        self.hidden = torch.empty_like(hidden) if need[0] else None
        self.weight = torch.zeros_like(weight) if need[1] else None

    def add(self, block: slice, hidden: Tensor, grad_logits: Tensor) -> None:
        """Take dLoss/dz of one block, (n, V) float32."""
        grad_logits = grad_logits.to(self.matrix.dtype)
        if self.hidden is not None:
            torch.mm(grad_logits, self.matrix, out=self.hidden[block])
        if self.weight is None:
            return
        if self.weight.dtype == grad_logits.dtype:
            self.weight.addmm_(grad_logits.t(), hidden)
        else:
            self.weight.add_(torch.mm(grad_logits.t(), hidden))


class _FusedCrossEntropy(torch.autograd.Function):
    """Sum of weighted -log p. The gradient is made in the forward, while a block is at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        weights: Tensor,
        cap: float,
    ) -> Tensor:
        matrix = weight.to(hidden.dtype)
        need = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        grads = _HeadGradients(hidden, weight, matrix, need)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for block in _blocks(hidden.shape[0], weight):
            tanh = _block_tanh(hidden[block], matrix, cap)
            target = targets[block].unsqueeze(1)  # (n, 1)
            target_tanh = tanh.gather(1, target)
            exponential = torch.mul(tanh, cap).exp_()
            normalizer = exponential.sum(1, keepdim=True)
            loss = normalizer.log() - cap * target_tanh
            scale = weights[block].unsqueeze(1)
            total += (loss * scale).sum()
            if any(need):
                probability = exponential.div_(normalizer)
                probability.scatter_add_(1, target, torch.full_like(target_tanh, -1.0))
                slope = tanh.square_().neg_().add_(1.0).mul_(scale)
                grads.add(block, hidden[block], probability.mul_(slope))
        ctx.grad_hidden, ctx.grad_weight = grads.hidden, grads.weight
        ctx.is_used = False
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.is_used:
            raise RuntimeError("cross_entropy_sum gave its gradient away: it has only one backward")
        ctx.is_used = True
        # In place, for the head's gradient is as large as the head.
        gradients = (ctx.grad_hidden, ctx.grad_weight)
        scaled = (None if gradient is None else gradient.mul_(grad_total) for gradient in gradients)
        ctx.grad_hidden = ctx.grad_weight = None
        return (*scaled, None, None, None)


class _FusedLogprobs(torch.autograd.Function):
    """Log p of each target and the entropies; the backward recomputes the logits.

    With temperature, l = (c / temperature) t, and dl/dz = (1 - t^2) / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, cap: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        matrix = weight.to(hidden.dtype)
        logprobs = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        entropies = torch.empty_like(logprobs)
        for block in _blocks(hidden.shape[0], weight):
            tanh = _block_tanh(hidden[block], matrix, cap)
            log_p = torch.log_softmax(tanh.mul_(cap / temperature), dim=1)  # (n, V)
            logprobs[block] = log_p.gather(1, targets[block].unsqueeze(1)).squeeze(1)
            entropies[block] = log_p.mul_(log_p.exp()).sum(1).neg_()
        ctx.save_for_backward(hidden, weight, targets, entropies)
        ctx.cap, ctx.temperature = cap, temperature
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs: Tensor | None, grad_entropies: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, entropies = ctx.saved_tensors
        matrix = weight.to(hidden.dtype)
        need = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        grads = _HeadGradients(hidden, weight, matrix, need)
        for block in _blocks(hidden.shape[0], weight):
            tanh = _block_tanh(hidden[block], matrix, ctx.cap)
            log_p = torch.log_softmax(tanh * (ctx.cap / ctx.temperature), dim=1)
            slope = tanh.square_().neg_().add_(1.0).div_(ctx.temperature)
            p = log_p.exp()
            grad_logits = torch.zeros_like(p)
            if grad_entropies is not None:  # dH/dl = -p (log p + H)
                centred = log_p.add_(entropies[block].unsqueeze(1)).mul_(p)
                grad_logits.addcmul_(centred, grad_entropies[block].unsqueeze(1), value=-1.0)
            if grad_logprobs is not None:  # d log p_target / dl = one-hot - p
                factor = grad_logprobs[block].unsqueeze(1)
                grad_logits.addcmul_(p, factor, value=-1.0)
                grad_logits.scatter_add_(1, targets[block].unsqueeze(1), factor)
            grads.add(block, hidden[block], grad_logits.mul_(slope))
        return grads.hidden, grads.weight, None, None, None
