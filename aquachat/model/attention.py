"""Rotary positions, masks and attention, and what an inference cache must offer.

Shapes: B batch, T time (new tokens), S cached and new tokens, H query heads, G key-value heads,
D head dim, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from aquachat.model.batch import Segments
from aquachat.model.cpu_ops import has_short_rows, short_row_attention, wants_cpu_ops

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class AttentionCache(Protocol):
    """What `GPT.forward` asks of a key-value cache; the inference engine implements it.

    Anything that wants to see queries and keys (attention probes) can implement it too.
    """

    @property
    def positions(self) -> Tensor:
        """(B, T) int64, the absolute position of each given token.

        All are below `max_seq_len`. `GPT.forward` checks that on a CPU; on another device the cache
        must, since looking would stop the queue.
        """
        ...

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store `key` and `value` (B, T, G, D) of `layer`, and attend with `query` (B, T, H, D).

        Query and key are rotated and normed. Scores are scaled by D**-0.5. Returns (B, T, H, D).
        """
        ...

    def previous_embedding(self, embedding: Tensor) -> Tensor:
        """(B, T, C): the embedding of the token before each one, zeros where there is none.

        Remembers what the next call needs. Called once per forward, by models with a smear only.
        """
        ...


def rope_tables(
    max_seq_len: int, head_dim: int, base: float, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (max_seq_len, head_dim / 2) float32."""
    channels = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
    inverse_frequency = 1.0 / (base ** (channels / head_dim))
    positions = torch.arange(max_seq_len, dtype=torch.float32, device=device)
    angles = torch.outer(positions, inverse_frequency)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (B, T, H, D) by tables that broadcast to (B, T, 1, D / 2).

    Channel i turns with channel i + D / 2, by the negative angle: nanochat's sign, which
    `NanoChatForCausalLM` shares and Llama does not.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


def document_mask(segments: Segments, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T): 0 where a query may look, -inf elsewhere: causal and inside its document.

    Every query sees itself, so no row is empty. Built once per forward, not once per layer.
    """
    ids = segments.document_ids
    same = ids[:, :, None] == ids[:, None, :]  # (B, T, T)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
    mask = torch.zeros(same.shape, dtype=dtype, device=ids.device)
    return mask.masked_fill_(~(same & causal), float("-inf")).unsqueeze(1)


def attention_mask(segments: Segments, dtype: torch.dtype) -> Tensor | BlockMask:
    """What `causal_attention` needs to stay inside documents: made once per forward.

    On a CUDA device a block mask, so that blocks of other documents are skipped and no (T, T)
    matrix is made; elsewhere `document_mask`.
    """
    if segments.document_ids.device.type == "cuda":
        return document_block_mask(segments)
    return document_mask(segments, dtype)


def document_block_mask(segments: Segments) -> BlockMask:
    """`document_mask` for flex attention: (B, 1, T, T) by blocks of 128 x 128."""
    from torch.nn.attention.flex_attention import create_block_mask

    ids = segments.document_ids
    batch, length = ids.shape

    def may_look(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (ids[b, query] == ids[b, key])

    return create_block_mask(may_look, batch, None, length, length, device=ids.device)


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | BlockMask | None = None
) -> Tensor:
    """Attention over whole rows: (B, T, H, D), (B, T, G, D), (B, T, G, D) -> (B, T, H, D).

    Args:
        query: rotated and normed.
        key: rotated and normed; each of the G heads serves H / G query heads in a row.
        value: as projected.
        mask: from `attention_mask`; None is plain causal.
    """
    if mask is not None and not isinstance(mask, Tensor):
        return _flex_attention(query, key, value, mask)
    if wants_cpu_ops(query) and has_short_rows(query):
        return short_row_attention(query, key, value, mask)
    output = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=key.shape[2] != query.shape[2],
    )
    return output.transpose(1, 2)


def _flex_attention(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask) -> Tensor:
    """Attention where `mask` allows it; fused on a CUDA device, and only there."""
    attend = _fused_flex() if query.device.type == "cuda" else _plain_flex()
    heads_first = [x.transpose(1, 2) for x in (query, key, value)]
    output = attend(*heads_first, block_mask=mask, enable_gqa=key.shape[2] != query.shape[2])
    return output.transpose(1, 2)


def _plain_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _fused_flex() -> Callable[..., Any]:
    """Compiled, since the uncompiled operation makes the scores it is there to avoid."""
    return torch.compile(_plain_flex())
