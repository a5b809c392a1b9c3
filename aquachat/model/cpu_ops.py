"""Two operations written out for a CPU, where torch's own are slow: norm, attention of short rows.

On two cores (bfloat16, 4,096 tokens, forward and backward) the norm takes half the time of
`F.rms_norm`, and attention over rows of 128 to 256 a half to a third of the time of
`F.scaled_dot_product_attention`; at 512 there is nothing to gain. Under `torch.compile` and on
other devices the torch operations are used.

Shapes: B batch, T time, H query heads, G key-value heads, Q = H / G, D head dim.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_SHORT_ROW: Final = 256
"""Longest row for which the whole (T, T) score matrix is made."""
MAX_SHORT_SCORES: Final = 1 << 25
"""Most scores made at once: 128 MB in float32."""


def wants_cpu_ops(x: Tensor) -> bool:
    """Whether `x` lies on a CPU and is not being traced by a compiler."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def has_short_rows(query: Tensor) -> bool:
    """Whether the scores of (B, T, H, D) queries over their own rows are few enough to keep."""
    batch, length, heads, _ = query.shape
    return length <= MAX_SHORT_ROW and batch * heads * length**2 <= MAX_SHORT_SCORES


def cpu_rms_norm(x: Tensor, eps: float) -> Tensor:
    """Divide the last dimension by its root mean square, summed in float32."""
    if not torch.is_grad_enabled():
        return x * _norm_scale(x, eps)
    return _RMSNorm.apply(x, eps)


def short_row_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Causal attention with scores in float32, (B, T, H, D) -> (B, T, H, D).

    Args:
        query: (B, T, H, D).
        key: (B, T, G, D); each head serves the H / G query heads beside each other.
        value: (B, T, G, D).
        mask: (B, 1, T, T), added to the scores, causal itself; None is plain causal.
    """
    return _ShortRowAttention.apply(query, key, value, mask)


def _norm_scale(x: Tensor, eps: float) -> Tensor:
    """(..., 1) one over the root mean square."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        scale = _norm_scale(x, eps)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, scale = ctx.saved_tensors
        along = (grad * y).sum(-1, keepdim=True, dtype=torch.float32).div_(y.shape[-1])
        return torch.addcmul(grad, y, along.to(y.dtype), value=-1.0).mul_(scale), None


class _ShortRowAttention(torch.autograd.Function):
    """The query heads that share a key are put behind each other: (B G, Q T, D) x (B G, D, T)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, heads, dim = query.shape
        groups = key.shape[2]
        query_b = query.transpose(1, 2).reshape(batch * groups, -1, dim)  # (B G, Q T, D)
        key_b = key.transpose(1, 2).reshape(batch * groups, length, dim)  # (B G, T, D)
        value_b = value.transpose(1, 2).reshape(batch * groups, length, dim)
        scores = torch.bmm(query_b.float(), key_b.float().mT)  # (B G, Q T, T)
        if mask is None:
            mask = torch.full((length, length), float("-inf")).triu_(1)
        scores.view(batch, heads, length, length).mul_(dim**-0.5).add_(mask)
        weights = torch.softmax(scores, -1, out=scores).to(query.dtype)
        mixed = torch.bmm(weights, value_b)
        ctx.save_for_backward(query_b, key_b, value_b, weights)
        ctx.shapes = (query.shape, key.shape)
        return _from_heads(mixed, query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        query_shape, key_shape = ctx.shapes
        grad = grad.transpose(1, 2).reshape(query.shape)  # (B G, Q T, D)
        grad_value = torch.bmm(weights.mT, grad)
        grad_scores = torch.bmm(grad, value.mT)  # (B G, Q T, T), of the weights until the next line
        along = (grad_scores * weights).sum(-1, keepdim=True, dtype=torch.float32)
        grad_scores.sub_(along.to(grad_scores.dtype)).mul_(weights).mul_(query.shape[-1] ** -0.5)
        grad_query = torch.bmm(grad_scores, key)
        grad_key = torch.bmm(grad_scores.mT, query)
        return (
            _from_heads(grad_query, query_shape),
            _from_heads(grad_key, key_shape),
            _from_heads(grad_value, key_shape),
            None,
        )


def _from_heads(x: Tensor, shape: torch.Size) -> Tensor:
    """(B G, Q T, D) -> (B, T, H, D)."""
    batch, length, heads, dim = shape
    return x.view(batch, heads, length, dim).transpose(1, 2)
