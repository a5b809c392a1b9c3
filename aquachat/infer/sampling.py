"""From logits to tokens, one independent random stream per row.

Shapes: N rows, V vocab, W chunk width.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from aquachat.infer.types import SamplingParams

GREEDY_BELOW: Final = 1e-5
"""Temperatures below are 0: logits divided by less would overflow, or be divided by 0."""
CHUNK: Final = 64
"""Width of the chunks in `draw`: about the square root of common vocabularies."""


def stream_key(seed: int, prompt: Sequence[int]) -> tuple[int, int]:
    """128 bits that name the random streams of a prompt under a seed.

    The place of a prompt in a batch is not part of it, so a prompt gets the same tokens wherever it
    lands.
    """
    digest = hashlib.blake2b(array("q", prompt).tobytes(), key=str(seed).encode(), digest_size=16)
    low, high = struct.unpack("<QQ", digest.digest())
    return low, high


def stream_uniforms(key: tuple[int, int], sample: int, count: int) -> npt.NDArray[np.float32]:
    """The first `count` uniforms in [0, 1) of one sample; more of them start with the same.

    Philox (Salmon et al. 2011) with the sample index in the highest counter word, so that the
    streams of a key never meet.
    """
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, sample]))
    return generator.random(count, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class SamplingTable:
    """The sampling parameters of N rows on the device, and what the host knows of them.

    The host's summary saves the work that no row asks for.
    """

    temperature: Tensor
    """(N,) float32; 1 where the row is greedy."""
    is_greedy: Tensor
    """(N,) bool."""
    top_k: Tensor
    """(N,) int64, V where all tokens stay."""
    top_p: Tensor
    """(N,) float32."""
    all_greedy: bool
    any_greedy: bool
    all_temperature_one: bool
    max_top_k: int
    """The largest top-k of the rows that have one, 0 if none has."""
    any_top_p: bool

    @classmethod
    def build(
        cls, rows: Sequence[SamplingParams], vocab_size: int, device: torch.device
    ) -> SamplingTable:
        """The table of `rows`, in their order."""
        greedy = [row.temperature < GREEDY_BELOW for row in rows]
        temperature = [
            1.0 if is_greedy else row.temperature
            for is_greedy, row in zip(greedy, rows, strict=True)
        ]
        top_k = [min(row.top_k, vocab_size) or vocab_size for row in rows]
        top_p = [row.top_p for row in rows]
        return cls(
            temperature=torch.tensor(temperature, dtype=torch.float32, device=device),
            is_greedy=torch.tensor(greedy, dtype=torch.bool, device=device),
            top_k=torch.tensor(top_k, dtype=torch.int64, device=device),
            top_p=torch.tensor(top_p, dtype=torch.float32, device=device),
            all_greedy=all(greedy),
            any_greedy=any(greedy),
            all_temperature_one=all(value == 1.0 for value in temperature),
            max_top_k=max((k for k in top_k if k < vocab_size), default=0),
            any_top_p=any(value < 1.0 for value in top_p),
        )


def sample(logits: Tensor, table: SamplingTable, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token per row.

    Args:
        logits: (N, V) float32.
        table: the parameters of the N rows.
        uniforms: (N,) float32 in [0, 1).

    Returns:
        Tokens (N,) int64 and their log-probabilities (N,) float32 in nats, under the policy they
        were sampled from; 0 for greedy rows. Equal logits are broken towards the smaller id.
    """
    if table.all_greedy:
        return first_largest(logits), torch.zeros_like(uniforms)
    tokens, logprobs = draw(policy_logits(logits, table), uniforms)
    if table.any_greedy:
        tokens = torch.where(table.is_greedy, first_largest(logits), tokens)
        logprobs = logprobs.masked_fill(table.is_greedy, 0.0)
    return tokens, logprobs


def first_largest(logits: Tensor) -> Tensor:
    """The smallest id with the largest logit, (N, V) -> (N,).

    In two levels: torch's argmax over a vocabulary takes as long as the head itself on a CPU.
    """
    rows, vocab = logits.shape
    width = vocab - vocab % CHUNK
    if logits.device.type != "cpu" or not width:
        return logits.argmax(dim=-1)
    chunks = logits[:, :width].view(rows, -1, CHUNK)  # (N, V / W, W)
    largest = chunks.amax(dim=-1)
    chunk = largest.argmax(dim=-1)
    inside = chunks[torch.arange(rows), chunk].argmax(dim=-1)
    tokens = chunk * CHUNK + inside
    if width == vocab:
        return tokens
    best = largest.gather(1, chunk[:, None]).squeeze(1)
    rest, place = logits[:, width:].max(dim=-1)
    return torch.where(rest > best, place + width, tokens)


def policy_logits(logits: Tensor, table: SamplingTable) -> Tensor:
    """Unnormalised log-probabilities (N, V) of the policy: temperature, then top-k, then top-p."""
    if not table.all_temperature_one:
        logits = logits / table.temperature[:, None]
    if table.max_top_k:
        best = logits.topk(table.max_top_k, dim=-1).values  # (N, max_top_k), descending
        last = (table.top_k.clamp(max=table.max_top_k) - 1)[:, None]
        has_top_k = table.top_k[:, None] < logits.shape[-1]
        outside = (logits < best.gather(1, last)) & has_top_k
        logits = logits.masked_fill(outside, float("-inf"))
    if table.any_top_p:
        ranked = logits.sort(dim=-1, descending=True).values
        probs = torch.softmax(ranked, dim=-1)
        before = probs.cumsum(dim=-1) - probs
        kept = (before < table.top_p[:, None]).sum(dim=-1, keepdim=True)
        last = (kept - 1).clamp(min=0)  # a top-p may be 0 as a float32
        outside = (logits < ranked.gather(1, last)) & (table.top_p[:, None] < 1.0)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits


def draw(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Invert the distribution function at `uniforms`, in two levels.

    A cumulative sum over the whole vocabulary is the slow part of sampling on a CPU. Here chunks of
    W tokens are summed, the chunk is found among V / W sums, and only that chunk is accumulated.

    Returns:
        Tokens (N,) int64 and log-probabilities (N,) float32 in nats.
    """
    top = logits.amax(dim=-1, keepdim=True)
    weights = torch.exp(logits - top)
    if weights.shape[-1] % CHUNK:
        weights = F.pad(weights, (0, CHUNK - weights.shape[-1] % CHUNK))
    chunks = weights.view(weights.shape[0], -1, CHUNK)  # (N, V / W, W)
    ends = chunks.sum(dim=-1).cumsum(dim=-1)  # (N, V / W)
    total = ends[:, -1:]
    target = torch.minimum(uniforms[:, None] * total, _below(total))
    chunk = torch.searchsorted(ends, target, right=True)  # (N, 1): first end above the target
    start = ends.gather(1, (chunk - 1).clamp(min=0)).masked_fill(chunk == 0, 0.0)
    inside = chunks.gather(1, chunk[..., None].expand(-1, -1, CHUNK)).squeeze(1).cumsum(dim=-1)
    within = torch.minimum(target - start, _below(inside[:, -1:]))
    offset = torch.searchsorted(inside, within, right=True)
    tokens = (chunk * CHUNK + offset).squeeze(1)
    logprobs = logits.gather(1, tokens[:, None]) - top - total.log()
    return tokens, logprobs.squeeze(1)


def _below(x: Tensor) -> Tensor:
    """The next smaller float, so that rounding never selects a token of no width."""
    return torch.nextafter(x, torch.zeros_like(x))
