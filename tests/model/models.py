from __future__ import annotations

from typing import Any

import torch

from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 4,
    "num_kv_heads": 4,
    "max_seq_len": 64,
}


def make_model(arch: str = "nanochat", *, seed: int = 0, **shape: Any) -> GPT:
    """A small model in which no weight is zero, so that every part of the computation counts."""
    model = GPT(GPTConfig.for_arch(arch, **{**SHAPE, **shape}))
    model.init_weights(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.empty_like(parameter).normal_(generator=generator)
            scale = 0.3 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
            if parameter is not model.embed_tokens.weight:
                parameter.add_(noise * scale)
    return model


def make_tokens(*shape: int, vocab_size: int = 61, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, shape, generator=generator)
