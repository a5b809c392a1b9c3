"""nanochat (a checkout of 92d63d4) as the peer: imported, and patched to the plain October model.

The plain model is the architecture of October 2025, which `aquachat.model.gpt.GPT` is too: rope
base 10,000, queries and keys not scaled after their norm, and none of the value embeddings,
residual factors, smear, backout and windows that came later. Nothing of nanochat is copied here
but the order of the operations that are left.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from aquachat.model.gpt import GPT

ROPE_BASE = 10_000.0
LOGIT_SOFTCAP = 15.0


def import_peer(checkout: Path) -> Any:
    """The module `nanochat.gpt` of a checkout; `scripts`, `tasks` and the rest can be imported."""
    if not (checkout / "nanochat" / "gpt.py").is_file():
        raise SystemExit(f"`{checkout}` is no checkout of nanochat: there is no nanochat/gpt.py")
    sys.path.insert(0, str(checkout))
    return importlib.import_module("nanochat.gpt")


def set_dtype(dtype: torch.dtype) -> None:
    """Compute in `dtype` from now on; models made before keep their buffers."""
    for name in ("nanochat.common", "nanochat.gpt", "nanochat.engine"):
        importlib.import_module(name).COMPUTE_DTYPE = dtype  # type: ignore[attr-defined]


def plain_model(module: Any, ours: GPT, dtype: torch.dtype) -> torch.nn.Module:
    """Nanochat's model patched to the plain one, with our weights, computing in `dtype`."""
    model = _new_model(module, ours, dtype, windows="L")
    state = _state(ours)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
    model.cos, model.sin = model._precompute_rotary_embeddings(
        model.rotary_seq_len, model.config.n_embd // model.config.n_head, base=ROPE_BASE
    )
    model.forward = _plain_forward(module, model, dtype)
    for block in model.transformer.h:
        block.attn.forward = _plain_attention(module, block.attn)
    return model.eval()


def own_model(module: Any, ours: GPT, dtype: torch.dtype, seed: int = 0) -> torch.nn.Module:
    """Nanochat's model as it is, of the same size, with random weights: a different model."""
    model = _new_model(module, ours, dtype, windows="SSSL")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.transformer.h.parameters():
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
        model.lm_head.weight.normal_(0.0, 0.02, generator=generator)
        model.lm_head.weight[-16:] = 0.0  # special tokens: nothing ends a reply early
    return model.eval()


def _new_model(module: Any, ours: GPT, dtype: torch.dtype, windows: str) -> Any:
    set_dtype(dtype)
    shape = ours.config
    config = module.GPTConfig(
        sequence_len=shape.max_seq_len,
        vocab_size=shape.vocab_size,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        n_kv_head=shape.num_kv_heads,
        n_embd=shape.hidden_size,
        window_pattern=windows,
    )
    model = module.GPT(config)
    model.init_weights()
    return model


def _state(ours: GPT) -> dict[str, torch.Tensor]:
    """Our weights under nanochat's names."""
    found = {
        "transformer.wte.weight": ours.embed_tokens.weight,
        "lm_head.weight": ours.lm_head.weight,
    }
    for index, layer in enumerate(ours.layers):
        place = f"transformer.h.{index}"
        for theirs, own in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("proj", "o_proj")):
            found[f"{place}.attn.c_{theirs}.weight"] = getattr(layer.self_attn, own).weight
        found[f"{place}.mlp.c_fc.weight"] = layer.mlp.fc1.weight
        found[f"{place}.mlp.c_proj.weight"] = layer.mlp.fc2.weight
    return found


def _plain_forward(module: Any, model: Any, dtype: torch.dtype) -> Any:
    def forward(
        idx: Any, targets: Any = None, kv_cache: Any = None, loss_reduction: str = "mean"
    ) -> Any:
        length = idx.shape[1]
        start = 0 if kv_cache is None else kv_cache.get_pos()
        rope = model.cos[:, start : start + length], model.sin[:, start : start + length]
        x = module.norm(model.transformer.wte(idx).to(dtype))
        for block, window in zip(model.transformer.h, model.window_sizes, strict=True):
            x = block(x, None, rope, window, kv_cache)
        logits = model.lm_head(module.norm(x))[..., : model.config.vocab_size].float()
        return LOGIT_SOFTCAP * torch.tanh(logits / LOGIT_SOFTCAP)

    return forward


def _plain_attention(module: Any, attention: Any) -> Any:
    def forward(x: Any, ve: Any, cos_sin: Any, window_size: Any, kv_cache: Any) -> Any:
        batch, length, _ = x.shape
        query = attention.c_q(x).view(batch, length, attention.n_head, attention.head_dim)
        key = attention.c_k(x).view(batch, length, attention.n_kv_head, attention.head_dim)
        value = attention.c_v(x).view(batch, length, attention.n_kv_head, attention.head_dim)
        query = module.norm(module.apply_rotary_emb(query, *cos_sin))
        key = module.norm(module.apply_rotary_emb(key, *cos_sin))
        flash = module.flash_attn
        if kv_cache is None:
            mixed = flash.flash_attn_func(query, key, value, causal=True, window_size=window_size)
        else:
            keys, values = kv_cache.get_layer_cache(attention.layer_idx)
            mixed = flash.flash_attn_with_kvcache(
                query,
                keys,
                values,
                k=key,
                v=value,
                cache_seqlens=kv_cache.cache_seqlens,
                causal=True,
                window_size=window_size,
            )
            if attention.layer_idx == kv_cache.n_layers - 1:
                kv_cache.advance(length)
        return attention.c_proj(mixed.contiguous().view(batch, length, -1))

    return forward
