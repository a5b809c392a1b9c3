"""A prefix computed once and several continuations of it, in two forwards without decoding.

The first forward computes the prefixes, causally, and stores their keys and values. The second one
computes the continuations of each prefix, packed into one row: every token sees the whole prefix,
itself and what came before it in its own continuation, at the position it would have in a row of
its own. What comes out is that of a forward for each prefix with its continuation, up to rounding.

Shapes: U prefixes, S tokens of the longest prefix, Q tokens of the longest row of continuations,
L layers, H query heads, G key-value heads, D head dim, C hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aquachat.model.attention import causal_attention
from aquachat.model.config import GPTConfig


class PrefixCache:
    """The `AttentionCache` of the first forward, over (U, S) tokens padded on the right."""

    def __init__(
        self,
        config: GPTConfig,
        prefix_tokens: Sequence[int],
        *,
        width: int,
        room: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Make room for keys and values.

        Args:
            config: of the model.
            prefix_tokens: the length of each prefix, padding not counted.
            width: S of the tokens that will be given.
            room: Q, kept free behind the prefixes; 0 stores nothing.
            dtype: of keys and values, the compute dtype.
            device: where they are kept.
        """
        self.width, self.room = width, room
        self.lengths = torch.tensor(prefix_tokens, device=device)  # (U,)
        self.last_embedding: Tensor | None = None  # (U, C), of models with a smear
        self._positions = torch.arange(width, device=device).expand(len(prefix_tokens), -1)
        self.stores: tuple[Tensor, Tensor] | None = None
        if room:
            heads, dim = config.num_kv_heads, config.head_dim
            shape = (config.num_layers, len(prefix_tokens), heads, width + room, dim)
            # Every place is written before it is read, padding included.
            self.stores = (
                torch.empty(shape, dtype=dtype, device=device),
                torch.empty(shape, dtype=dtype, device=device),
            )

    @property
    def positions(self) -> Tensor:
        """(U, S)."""
        return self._positions

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Padding lies on the right, so causal attention needs no mask."""
        for store, new in zip(self.stores or (), (key, value), strict=False):
            store[layer, :, :, : self.width] = new.transpose(1, 2)
        return causal_attention(query, key, value)

    def previous_embedding(self, embedding: Tensor) -> Tensor:
        """Shift by one; the last of each prefix is kept for its continuations."""
        rows = torch.arange(len(embedding), device=embedding.device)
        self.last_embedding = embedding[rows, self.lengths - 1]
        return F.pad(embedding[:, :-1], (0, 0, 1, 0))


class BranchCache:
    """The `AttentionCache` of the second forward, over (U, Q) tokens."""

    def __init__(self, prefixes: PrefixCache, branch_tokens: Sequence[Sequence[int]]) -> None:
        """Lay out the continuations behind their prefixes.

        Args:
            prefixes: after the first forward, with room for the longest row.
            branch_tokens: for each prefix, the lengths of its continuations, which are given one
                after the other in one row, padded on the right to the room there is.
        """
        assert prefixes.stores is not None, "the prefixes were computed without room"
        device = prefixes.lengths.device
        branch = np.full((len(branch_tokens), prefixes.room), -1)  # (U, Q), -1 where padded
        place = np.zeros_like(branch)
        for row, lengths in enumerate(branch_tokens):
            start = 0
            for number, length in enumerate(lengths):
                branch[row, start : start + length] = number
                place[row, start : start + length] = np.arange(length)
                start += length
        self._prefixes = prefixes
        places = torch.from_numpy(place).to(device)
        self._positions = torch.where(
            torch.from_numpy(branch >= 0).to(device), prefixes.lengths[:, None] + places, 0
        )
        self._is_first = places == 0
        self._mask = self._build_mask(torch.from_numpy(branch).to(device))

    def _build_mask(self, branch: Tensor) -> Tensor:
        """(U, 1, Q, S + Q) bool: where a query may look."""
        prefixes, device = self._prefixes, branch.device
        stored = torch.arange(prefixes.width, device=device) < prefixes.lengths[:, None]  # (U, S)
        stored = stored[:, None].expand(-1, prefixes.room, -1)
        causal = torch.ones(prefixes.room, prefixes.room, dtype=torch.bool, device=device).tril()
        own = (branch[:, :, None] == branch[:, None, :]) & causal
        return torch.cat((stored, own), dim=2).unsqueeze(1)

    @property
    def positions(self) -> Tensor:
        """(U, Q); 0 for padding."""
        return self._positions

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend to the prefix and to the own continuation so far."""
        assert self._prefixes.stores is not None
        for store, new in zip(self._prefixes.stores, (key, value), strict=True):
            store[layer, :, :, self._prefixes.width :] = new.transpose(1, 2)
        keys, values = self._prefixes.stores
        output = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            keys[layer],
            values[layer],
            attn_mask=self._mask,
            enable_gqa=key.shape[2] != query.shape[2],
        )
        return output.transpose(1, 2)

    def previous_embedding(self, embedding: Tensor) -> Tensor:
        """Shift by one; the first token of a continuation comes after the prefix."""
        last = self._prefixes.last_embedding
        assert last is not None
        previous = F.pad(embedding[:, :-1], (0, 0, 1, 0))
        return torch.where(self._is_first.unsqueeze(-1), last[:, None], previous)
