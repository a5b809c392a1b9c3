"""The key-value cache: each prompt stored once, each row its own continuation, nothing ever grows.

A group is a prompt, a row is one of the replies being sampled for it. Groups and rows are kept in
slots 0..n-1 without holes: a slot that becomes free is filled from the end. Attention of a row is
the merge of two softmaxes, over its group's prompt and over its own new tokens, so the prompt's
keys are read once per group instead of once per row, as one matrix product over all its rows.

Shapes: L layers, P groups, N rows, H query heads, G key-value heads, Q = H / G query heads each,
D head dim, T time, S stored positions, M most rows in a group, C hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aquachat.model.attention import attention_at, causal_attention
from aquachat.model.config import GPTConfig

IntArray = npt.NDArray[np.int64]

CPU_BLOCK_GROUPS: Final = 32
"""Prompts whose keys are read up to the longest of them; on a GPU all prompts are one block."""


def storage_dtype(device: torch.device, compute_dtype: torch.dtype) -> torch.dtype:
    """What keys and values are kept in: float32 on a CPU, else the compute dtype.

    Decode attention there is many small products, for which bfloat16 is no faster than float32
    (256 rows x 4 heads of 32, 160 positions, 2 cores: 2.9 against 3.3 ms), and float32 scores are
    those of training.
    """
    return torch.float32 if device.type == "cpu" else compute_dtype


def bytes_per_token(config: GPTConfig, dtype: torch.dtype) -> int:
    """Keys and values of one position in all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize


class SlotStore:
    """Keys and values, (L, slots, G, S, D), zeros at first so that masked garbage is finite."""

    def __init__(
        self, config: GPTConfig, slots: int, length: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.num_layers, slots, config.num_kv_heads, length, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def used(self, layer: int, slots: int, length: int) -> tuple[Tensor, Tensor]:
        """Views of keys and values, (slots * G, length, D)."""
        heads, stored, dim = self.keys.shape[2:]
        views = (store[layer, :slots].view(slots * heads, stored, dim) for store in self.pair())
        keys, values = (view[:, :length] for view in views)
        return keys, values

    def pair(self) -> tuple[Tensor, Tensor]:
        """Keys and values."""
        return self.keys, self.values

    def move(self, moves: Moves, length: int) -> None:
        """Copy the first `length` positions of slots onto others."""
        for store in self.pair():
            store[:, moves.targets, :, :length] = store[:, moves.sources, :, :length]


@dataclass(frozen=True, slots=True)
class Moves:
    """Which slots are copied onto which, so that the first `remaining` slots hold what is kept."""

    targets: list[int]
    sources: list[int]
    remaining: int

    @classmethod
    def closing(cls, holes: Sequence[int], count: int) -> Moves:
        """The fewest copies that close `holes` among the first `count` slots."""
        remaining = count - len(holes)
        gone = set(holes)
        targets = [slot for slot in sorted(gone) if slot < remaining]
        sources = [slot for slot in range(remaining, count) if slot not in gone]
        return cls(targets, sources, remaining)


class GroupCache:
    """The prompts and rows in flight. `prefill` adds groups, `decode` one token to every row."""

    def __init__(
        self,
        config: GPTConfig,
        *,
        max_groups: int,
        max_rows: int,
        max_prompt_tokens: int,
        max_new_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.max_groups, self.max_rows = max_groups, max_rows
        self.max_prompt_tokens, self.max_new_tokens = max_prompt_tokens, max_new_tokens
        self.num_groups = self.num_rows = 0
        self.prompts = SlotStore(config, max_groups, max_prompt_tokens, dtype, device)
        self.replies = SlotStore(config, max_rows, max_new_tokens, dtype, device)
        self.embeddings = (
            torch.zeros(max_rows, config.hidden_size, device=device) if config.smear else None
        )
        self._device = device
        self._prompt_tokens: IntArray = np.zeros(max_groups, dtype=np.int64)
        self._reply_tokens: IntArray = np.zeros(max_rows, dtype=np.int64)
        self._group_of_row: IntArray = np.zeros(max_rows, dtype=np.int64)
        self._layout: Layout | None = None

    def prefill(self, prompt_tokens: Sequence[int], rows: Sequence[int]) -> PrefillCache:
        """Add groups with prompts of these lengths and this many rows each.

        The cache it returns is to be given to one forward of the prompts, padded on the right.
        """
        groups, first_row = len(prompt_tokens), self.num_rows
        group_ids = np.arange(self.num_groups, self.num_groups + groups)
        new_rows = slice(first_row, first_row + sum(rows))
        self._prompt_tokens[group_ids] = prompt_tokens
        self._group_of_row[new_rows] = np.repeat(group_ids, rows)
        self._reply_tokens[new_rows] = 0
        prefill = PrefillCache(self, prompt_tokens, rows)
        self.num_groups += groups
        self.num_rows += sum(rows)
        self._layout = None
        return prefill

    def decode(self) -> DecodeCache:
        """Room for one more token in every row, to be given to one forward of (N, 1) tokens."""
        if self._layout is None:
            self._layout = self._build_layout()
        layout = self._layout
        cache = DecodeCache(self, layout, int(self._reply_tokens[: self.num_rows].max()) + 1)
        self._reply_tokens[: self.num_rows] += 1
        layout.reply_tokens = layout.reply_tokens + 1
        return cache

    def remove(self, rows: Sequence[int]) -> Moves:
        """Drop rows, and groups that have none left; says which rows moved where."""
        moves = Moves.closing(rows, self.num_rows)
        if moves.targets:
            self.replies.move(moves, int(self._reply_tokens[moves.sources].max()))
            self._reply_tokens[moves.targets] = self._reply_tokens[moves.sources]
            self._group_of_row[moves.targets] = self._group_of_row[moves.sources]
            if self.embeddings is not None:
                self.embeddings[moves.targets] = self.embeddings[moves.sources]
        self.num_rows = moves.remaining
        self._remove_empty_groups()
        self._layout = None
        return moves

    def _remove_empty_groups(self) -> None:
        groups = self._group_of_row[: self.num_rows]
        sizes = np.bincount(groups, minlength=self.num_groups)
        moves = Moves.closing(np.flatnonzero(sizes == 0).tolist(), self.num_groups)
        if moves.targets:
            self.prompts.move(moves, int(self._prompt_tokens[moves.sources].max()))
            self._prompt_tokens[moves.targets] = self._prompt_tokens[moves.sources]
            renamed = np.arange(self.num_groups)
            renamed[moves.sources] = moves.targets
            self._group_of_row[: self.num_rows] = renamed[groups]
        self.num_groups = moves.remaining

    def _build_layout(self) -> Layout:
        groups = self._group_of_row[: self.num_rows]
        sizes = np.bincount(groups, minlength=self.num_groups)
        order = np.argsort(groups, kind="stable")
        lanes = np.empty_like(groups)
        lanes[order] = np.arange(self.num_rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        most_rows = int(sizes.max())
        cells = groups * most_rows + lanes
        is_identity = len(cells) == self.num_groups * most_rows and bool(
            (cells == np.arange(len(cells))).all()
        )
        replies = self._reply_tokens[: self.num_rows].copy()
        return Layout(
            cells=None if is_identity else self._on_device(cells),
            most_rows=most_rows,
            blocks=self._prompt_blocks(),
            prompt_tokens=self._on_device(self._prompt_tokens[: self.num_groups][groups]),
            reply_tokens=self._on_device(replies),
            equal_replies=bool((replies == replies[0]).all()),
        )

    def _prompt_blocks(self) -> list[PromptBlock]:
        """Neighbouring groups; prompts come longest first, so those of a block are alike."""
        size = CPU_BLOCK_GROUPS if self._device.type == "cpu" else self.num_groups
        blocks = []
        for start in range(0, self.num_groups, size):
            groups = slice(start, min(start + size, self.num_groups))
            lengths = self._prompt_tokens[groups]
            outside = np.arange(lengths.max()) >= lengths[:, None]
            bias = np.where(outside, np.float32("-inf"), np.float32(0.0))[:, None]
            on_device = self._on_device(bias) if outside.any() else None
            blocks.append(PromptBlock(groups, int(lengths.max()), on_device))
        return blocks

    def _on_device(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


@dataclass(frozen=True, slots=True)
class PromptBlock:
    """Groups whose prompts are attended to together."""

    groups: slice
    longest: int
    bias: Tensor | None
    """(P, 1, S) float32: -inf past the end of a prompt; None where all are equally long."""


@dataclass(slots=True)
class Layout:
    """Where rows lie in the grid of groups; rebuilt only when rows come or go."""

    cells: Tensor | None
    """(N,) int64: the row's cell, group * M + lane; None where that is the row itself."""
    most_rows: int
    blocks: list[PromptBlock]
    """All groups, in order."""
    prompt_tokens: Tensor
    """(N,) int64: the length of the row's prompt."""
    reply_tokens: Tensor
    """(N,) int64: how many new tokens of the row are stored."""
    equal_replies: bool
    """Whether that is the same number for all rows."""


class PrefillCache:
    """The `AttentionCache` of a forward over whole prompts: causal, stored into their groups."""

    def __init__(
        self, cache: GroupCache, prompt_tokens: Sequence[int], rows: Sequence[int]
    ) -> None:
        self._cache = cache
        self._groups = slice(cache.num_groups, cache.num_groups + len(prompt_tokens))
        self._rows = slice(cache.num_rows, cache.num_rows + sum(rows))
        device = cache.prompts.keys.device
        self.last_places = torch.tensor(prompt_tokens, device=device) - 1  # (P,)
        self._repeats = torch.tensor(rows, device=device)  # (P,)
        self._width = max(prompt_tokens)

    @property
    def positions(self) -> Tensor:
        """(P, T)."""
        places = self.last_places
        return torch.arange(self._width, device=places.device).expand(len(places), -1)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Padding lies on the right, so causal attention needs no mask."""
        for store, new in zip(self._cache.prompts.pair(), (key, value), strict=True):
            store[layer, self._groups, :, : self._width] = new.transpose(1, 2).to(store.dtype)
        if query.shape[1] < key.shape[1]:
            return attention_at(query, key, value, self.last_places)
        return causal_attention(query, key, value)

    def previous_embedding(self, embedding: Tensor) -> Tensor:
        """Shift by one; the last of each prompt is kept for its rows."""
        embeddings = self._cache.embeddings
        if embeddings is not None:
            rows = torch.arange(len(embedding), device=embedding.device)
            last = embedding[rows, self.last_places].to(embeddings.dtype)
            embeddings[self._rows] = last.repeat_interleave(self._repeats, dim=0)
        previous = torch.zeros_like(embedding)
        previous[:, 1:] = embedding[:, :-1]
        return previous


class DecodeCache:
    """The `AttentionCache` of a forward over one new token per row."""

    def __init__(self, cache: GroupCache, layout: Layout, width: int) -> None:
        self._cache, self._layout, self._width = cache, layout, width
        self._stored = layout.reply_tokens
        self._row_ids = torch.arange(len(self._stored), device=self._stored.device)
        self._reply_bias: Tensor | None = None  # (N, 1, S)
        if layout.equal_replies:
            return
        beyond = torch.arange(width, device=self._stored.device) > self._stored[:, None]
        bias = torch.zeros(beyond.shape, device=beyond.device).masked_fill_(beyond, float("-inf"))
        self._reply_bias = bias[:, None]

    @property
    def positions(self) -> Tensor:
        """(N, 1)."""
        return (self._layout.prompt_tokens + self._stored)[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store the new token, then attend to the group's prompt and the row's own tokens."""
        cache, rows = self._cache, query.shape[0]
        for store, new in zip(cache.replies.pair(), (key, value), strict=True):
            if self._layout.equal_replies:
                store[layer, :rows, :, self._width - 1] = new[:, 0].to(store.dtype)
            else:
                store[layer, self._row_ids, :, self._stored] = new[:, 0].to(store.dtype)
        heads, dim = key.shape[2:]
        scaled = query[:, 0].to(cache.replies.keys.dtype) * dim**-0.5  # (N, H, D)
        own_query = scaled.view(rows * heads, -1, dim)  # (N G, Q, D)
        own = cache.replies.used(layer, rows, self._width)
        reply = _softmax_parts(own_query, *own, self._reply_bias)
        prompt = self._attend_prompt(layer, scaled, heads)
        shape = (rows, -1, dim)
        merged = _merge_parts(
            tuple(part.reshape(rows, -1, part.shape[-1]) for part in reply), prompt
        )
        return merged.view(shape)[:, None].to(query.dtype)

    def _attend_prompt(self, layer: int, scaled: Tensor, heads: int) -> tuple[Tensor, ...]:
        """Softmax parts (N, H, ...) over the prompts, computed per group on a grid (P, M)."""
        layout, cache, dim = self._layout, self._cache, scaled.shape[-1]
        groups, lanes = cache.num_groups, layout.most_rows
        grid = scaled
        if layout.cells is not None:
            grid = scaled.new_zeros(groups * lanes, *scaled.shape[1:])
            grid[layout.cells] = scaled
        query = grid.view(groups, lanes, heads, -1, dim).transpose(1, 2)  # (P, G, M, Q, D)
        query = query.reshape(groups * heads, -1, dim)
        by_block = []
        for block in layout.blocks:
            keys, values = cache.prompts.used(layer, groups, block.longest)
            slots = slice(block.groups.start * heads, block.groups.stop * heads)
            by_block.append(_softmax_parts(query[slots], keys[slots], values[slots], block.bias))
        parts = by_block[0]
        if len(by_block) > 1:
            parts = tuple(torch.cat(part) for part in zip(*by_block, strict=True))
        by_row = []
        for part in parts:
            last = part.shape[-1]
            cells = part.view(groups, heads, lanes, -1, last).transpose(1, 2)
            cells = cells.reshape(groups * lanes, -1, last)  # (P M, H, D or 1)
            by_row.append(cells if layout.cells is None else cells[layout.cells])
        return tuple(by_row)

    def previous_embedding(self, embedding: Tensor) -> Tensor:
        """(N, 1, C): what the last call kept, replaced by these."""
        stored = self._cache.embeddings
        assert stored is not None, "the model has a smear that its config does not name"
        rows = embedding.shape[0]
        previous = stored[:rows, None].to(embedding.dtype, copy=True)  # overwritten below
        stored[:rows] = embedding[:, 0].to(stored.dtype)
        return previous


def _softmax_parts(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """A softmax that is not yet normalised: weighted values, largest score, sum of weights.

    Args:
        query: (slots * G, K, D), scaled.
        keys: (slots * G, S, D).
        values: (slots * G, S, D).
        bias: (slots, 1, S) float32 added to the scores.

    Returns:
        (slots * G, K, D), (slots * G, K, 1), (slots * G, K, 1), float32.
    """
    scores = torch.bmm(query, keys.transpose(1, 2)).float()
    if bias is not None:
        scores.view(bias.shape[0], -1, scores.shape[-1]).add_(bias)
    largest = scores.amax(dim=-1, keepdim=True)
    weights = scores.sub_(largest).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    return torch.bmm(weights.to(values.dtype), values).float(), largest, total


def _merge_parts(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """The attention over the union of two sets of positions, from the softmax parts of each."""
    largest = torch.maximum(a[1], b[1])
    scale_a, scale_b = torch.exp(a[1] - largest), torch.exp(b[1] - largest)
    total = a[2] * scale_a + b[2] * scale_b
    return (a[0] * scale_a + b[0] * scale_b) / total
