"""The model of nanochat's October 2025 revision, written down again, and how it saves itself.

Checkpoints that are imported are compared with what this computes from the same tensors.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aquachat.text import Tokenizer

SHAPE = {"sequence_len": 64, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 32}


def make_tensors(vocab_size: int, seed: int = 0, *, rows: int | None = None) -> dict[str, Tensor]:
    """A state dict; `rows` pads the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    width, kv_width = 32, 16
    shapes: dict[str, tuple[int, int]] = {"transformer.wte.weight": (rows or vocab_size, width)}
    for layer in range(SHAPE["n_layer"]):
        shapes |= {
            f"transformer.h.{layer}.attn.c_q.weight": (width, width),
            f"transformer.h.{layer}.attn.c_k.weight": (kv_width, width),
            f"transformer.h.{layer}.attn.c_v.weight": (kv_width, width),
            f"transformer.h.{layer}.attn.c_proj.weight": (width, width),
            f"transformer.h.{layer}.mlp.c_fc.weight": (4 * width, width),
            f"transformer.h.{layer}.mlp.c_proj.weight": (width, 4 * width),
        }
    shapes["lm_head.weight"] = (rows or vocab_size, width)
    return {
        name: torch.randn(shape, generator=generator) * shape[1] ** -0.5 * 2
        for name, shape in shapes.items()
    }


def forward(tensors: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits (B, T, V) as nanochat's `GPT.forward` of October 2025 computes them."""
    x = _norm(F.embedding(tokens, tensors["transformer.wte.weight"]))
    cos, sin = _rotary(tokens.shape[1])
    for layer in range(SHAPE["n_layer"]):
        own = {
            name.split(".", 3)[3].removesuffix(".weight"): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"transformer.h.{layer}.")
        }
        x = x + _attention(_norm(x), own, cos, sin)
        hidden = F.relu(F.linear(_norm(x), own["mlp.c_fc"])).square()
        x = x + F.linear(hidden, own["mlp.c_proj"])
    logits = F.linear(_norm(x), tensors["lm_head.weight"])
    return 15 * torch.tanh(logits / 15)


def _norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],))


def _rotary(length: int, head_dim: int = 8, base: int = 10_000) -> tuple[Tensor, Tensor]:
    inverse = 1.0 / (base ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angles = torch.outer(torch.arange(length).float(), inverse)
    return angles.cos()[None, :, None], angles.sin()[None, :, None]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[3] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos + second * sin, first * -sin + second * cos], 3)


def _attention(x: Tensor, own: dict[str, Tensor], cos: Tensor, sin: Tensor) -> Tensor:
    batch, length, width = x.shape
    query = F.linear(x, own["attn.c_q"]).view(batch, length, 4, 8)
    key = F.linear(x, own["attn.c_k"]).view(batch, length, 2, 8)
    value = F.linear(x, own["attn.c_v"]).view(batch, length, 2, 8)
    query, key = (_norm(_rotate(part, cos, sin)) for part in (query, key))
    mixed = F.scaled_dot_product_attention(
        *(part.transpose(1, 2) for part in (query, key, value)), is_causal=True, enable_gqa=True
    )
    return F.linear(mixed.transpose(1, 2).reshape(batch, length, width), own["attn.c_proj"])


def save(
    base: Path,
    tensors: dict[str, Any],
    tokenizer: Tokenizer,
    *,
    stage: str = "chatsft",
    step: int = 650,
    **settings: Any,
) -> Path:
    """Write a checkpoint and the tokenizer as nanochat does; returns the folder of the weights."""
    folder = base / f"{stage}_checkpoints" / "d2"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / f"model_{step:06d}.pt")
    config = {**SHAPE, "vocab_size": tokenizer.n_vocab, **settings}
    meta = {"step": step, "val_bpb": 1.0, "model_config": config}
    (folder / f"meta_{step:06d}.json").write_text(json.dumps(meta, indent=2))
    (base / "tokenizer").mkdir(exist_ok=True)
    with (base / "tokenizer" / "tokenizer.pkl").open("wb") as file:
        pickle.dump(tokenizer.to_tiktoken(), file)
    return folder
