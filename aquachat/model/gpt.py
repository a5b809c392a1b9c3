"""The transformer: October 2025 nanochat, and the same with an input smear.

Shapes: B batch, T time, V vocab, C hidden size, H query heads, G key-value heads, D head dim.

Parameters are float32 masters. The forward casts the embedding rows it looked up, and each matrix,
to the compute dtype; gradients arrive in float32. `compute_copy` gives inference a model whose
weights are cast once.

Parameter names are those of `transformers.NanoChatForCausalLM` without the leading `model.`:

    embed_tokens.weight                          (V, C)
    layers.0.self_attn.{q,k,v,o}_proj.weight     (H D, C) (G D, C) (G D, C) (C, H D)
    layers.0.mlp.{fc1,fc2}.weight                (4 C, C) (C, 4 C)
    lm_head.weight                               (V, C)
    smear (C,), residual_lambdas (L,), x0_lambdas (L,)        only where the config asks for them
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquachat.errors import ConfigError
from aquachat.model.attention import (
    AttentionCache,
    apply_rope,
    attention_at,
    attention_mask,
    causal_attention,
    rope_tables,
)
from aquachat.model.batch import Segments
from aquachat.model.config import GPTConfig
from aquachat.model.cpu_ops import cpu_rms_norm, wants_cpu_ops
from aquachat.model.scaling import training_flops_per_token

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

RMS_NORM_EPS: Final = 1e-6
"""As in `NanoChatConfig.rms_norm_eps`."""


def rms_norm(x: Tensor) -> Tensor:
    """Divide the last dimension by its root mean square; no weights; statistics in float32."""
    if wants_cpu_ops(x):
        return cpu_rms_norm(x, RMS_NORM_EPS)
    return F.rms_norm(x, (x.shape[-1],), eps=RMS_NORM_EPS)


class Linear(nn.Linear):
    """A matrix without bias, float32 at rest, multiplied in the dtype of its input."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Do nothing: `GPT.init_weights` fills every parameter."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(x, self.weight.to(x.dtype))


class SelfAttention(nn.Module):
    """Causal attention with rotary positions, then QK norm; G may be below H."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.qk_scale = config.qk_scale
        kv_size = config.num_kv_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, kv_size)
        self.v_proj = Linear(config.hidden_size, kv_size)
        self.o_proj = Linear(config.hidden_size, config.hidden_size)
        self._fused: Tensor | None = None

    def fuse(self) -> None:
        """Let the three projections share one matrix, so that they are one product.

        For frozen copies on one device: the weights become views of it and can be copied into.
        """
        projections = (self.q_proj, self.k_proj, self.v_proj)
        self._fused = torch.cat([linear.weight.data for linear in projections])
        sizes = [linear.out_features for linear in projections]
        for linear, weight in zip(projections, self._fused.split(sizes), strict=True):
            linear.weight.data = weight

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | BlockMask | None,
        cache: AttentionCache | None,
        places: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C), or (B, 1, C) for one token of each row with `places` (B,)."""
        query, key, value = self._projected(x, rope, places)
        if self.qk_scale != 1.0:
            query = query * self.qk_scale
        if cache is not None:
            mixed = cache.attend(self.layer, query, key, value)
        elif places is not None:
            mixed = attention_at(query, key, value, places)
        else:
            mixed = causal_attention(query, key, value, mask)
        return self.o_proj(mixed.reshape(*mixed.shape[:2], -1))

    def _projected(
        self, x: Tensor, rope: tuple[Tensor, Tensor], places: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, D), or (B, 1, H, D) at `places`, keys and values (B, T, G, D)."""
        heads = (*x.shape[:2], -1, self.head_dim)
        if places is not None:
            rows = torch.arange(len(x), device=x.device)
            own = tuple(_at(table.expand(len(x), -1, -1, -1), rows, places) for table in rope)
            query = self.q_proj(_at(x, rows, places)).view(len(x), 1, -1, self.head_dim)
            query = rms_norm(apply_rope(query, own[0], own[1]))
        elif self._fused is not None:
            projected = F.linear(x, self._fused).view(heads)  # (B, T, H + 2 G, D)
            num_kv = self.k_proj.out_features // self.head_dim
            num_q = projected.shape[2] - 2 * num_kv
            rotated = rms_norm(apply_rope(projected[:, :, : num_q + num_kv], *rope))
            return rotated[:, :, :num_q], rotated[:, :, num_q:], projected[:, :, num_q + num_kv :]
        else:
            query = rms_norm(apply_rope(self.q_proj(x).view(heads), *rope))
        key = rms_norm(apply_rope(self.k_proj(x).view(heads), *rope))
        return query, key, self.v_proj(x).view(heads)


class MLP(nn.Module):
    """Two matrices with a squared ReLU between."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.mlp_size)
        self.fc2 = Linear(config.mlp_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        inner = self.fc1(x)
        if not torch.is_grad_enabled():
            # New memory for each of the two costs ten times what they do (1,024 x 1,024 on a CPU).
            inner.relu_()
            return self.fc2(inner.mul_(inner))
        return self.fc2(F.relu(inner).square())


class Block(nn.Module):
    """Attention, then MLP, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, layer)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | BlockMask | None = None,
        cache: AttentionCache | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C), or (B, 1, C) for one token of each row with `places` (B,)."""
        mixed = self.self_attn(rms_norm(x), rope, mask, cache, places)
        if places is not None:
            x = _at(x, torch.arange(len(x), device=x.device), places)
        x = x + mixed
        return x + self.mlp(rms_norm(x))


class GPT(nn.Module):
    """A decoder-only language model. `forward` gives hidden states; `logits` reads them out.

    The weights are not filled until `init_weights` or `load_state_dict`. A model built under
    `torch.device("meta")` becomes real by `model.to_empty(device=...)`, then `rebuild_rope()`, then
    either of those two.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(
            config.vocab_size,
            config.hidden_size,
            _weight=torch.empty(config.vocab_size, config.hidden_size),
        )
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.smear = nn.Parameter(torch.empty(config.hidden_size)) if config.smear else None
        self.residual_lambdas: nn.Parameter | None = None
        self.x0_lambdas: nn.Parameter | None = None
        if config.x0_lambdas:
            self.residual_lambdas = nn.Parameter(torch.empty(config.num_layers))
            self.x0_lambdas = nn.Parameter(torch.empty(config.num_layers))
        self.rope_cos: Tensor
        self.rope_sin: Tensor
        for name, table in zip(("rope_cos", "rope_sin"), self._rope_tables(None), strict=True):
            self.register_buffer(name, table, persistent=False)

    def _rope_tables(self, device: torch.device | None) -> tuple[Tensor, Tensor]:
        config = self.config
        return rope_tables(config.max_seq_len, config.head_dim, config.rope_base, device)

    @torch.no_grad()
    def rebuild_rope(self) -> None:
        """Fill the rotary tables, which are not part of the state dict; needed after `to_empty`."""
        self.rope_cos, self.rope_sin = self._rope_tables(self.embed_tokens.weight.device)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fill the parameters as nanochat does; the same `seed` gives the same bits on any device.

        Embedding: normal, std 1. Matrices (out, in): normal, std in**-0.5 min(1, (out / in)**0.5).
        The matrices that write to the stream (`o_proj`, `fc2`) and the head: zero.
        """
        generator = torch.Generator("cpu").manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "fc2.weight")) or parameter is self.lm_head.weight:
                parameter.zero_()
            elif name == "residual_lambdas":
                parameter.fill_(1.0)
            elif parameter.dim() == 1:
                parameter.zero_()
            else:
                std = 1.0
                if parameter is not self.embed_tokens.weight:
                    fan_out, fan_in = parameter.shape
                    std = fan_in**-0.5 * min(1.0, math.sqrt(fan_out / fan_in))
                values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
                parameter.copy_(values.normal_(0.0, std, generator=generator))
        self.rebuild_rope()

    def forward(
        self,
        tokens: Tensor,
        *,
        segments: Segments | None = None,
        cache: AttentionCache | None = None,
        compute_dtype: torch.dtype | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, C) after the final norm, in the compute dtype.

        Args:
            tokens: (B, T) int64.
            segments: documents that share a row and do not see each other; not with a cache.
            cache: keys and values of the tokens before these; None if `tokens` are whole rows.
            compute_dtype: what matrices are multiplied in; None is the dtype of the weights.
            places: (B,) int64: only the hidden state (B, C) of this token of each row is wanted, so
                the last layer computes no others. With a cache, the last token of each prompt.

        Raises:
            ConfigError: a position lies beyond `max_seq_len`.
        """
        embedded = self.embed_tokens(tokens).to(compute_dtype or self.embed_tokens.weight.dtype)
        rope = self._rope(tokens, cache, embedded.dtype)
        mask = None if segments is None else attention_mask(segments, embedded.dtype)
        if self.smear is not None:
            if cache is None:
                previous = _previous_in_row(embedded, segments)
            else:
                previous = cache.previous_embedding(embedded)
            embedded = embedded + self.smear.to(embedded.dtype) * previous
        x = x0 = rms_norm(embedded)
        for index, layer in enumerate(self.layers):
            if self.x0_lambdas is not None and self.residual_lambdas is not None:
                # 0-dim float32 factors are applied in float32: in bfloat16 1.003 would be 1.
                x = self.residual_lambdas[index] * x + self.x0_lambdas[index] * x0
            is_last = index == len(self.layers) - 1
            x = layer(x, rope, mask, cache, places if is_last else None)
        return rms_norm(x) if places is None else rms_norm(x[:, 0])

    def _rope(
        self, tokens: Tensor, cache: AttentionCache | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines that broadcast to (B, T, 1, D / 2)."""
        if cache is None:
            needed = tokens.shape[1]
        else:
            positions = cache.positions
            needed = int(positions.max()) + 1 if positions.device.type == "cpu" else 0
        if needed > self.config.max_seq_len:
            raise ConfigError(
                f"a sequence of {needed} tokens does not fit the model's {self.config.max_seq_len}",
                hint="shorten it, or train with a larger `--max-seq-len`",
            )
        if cache is None:
            cos, sin = self.rope_cos[None, :needed], self.rope_sin[None, :needed]
        else:
            cos, sin = self.rope_cos[positions], self.rope_sin[positions]
        return cos.to(dtype).unsqueeze(2), sin.to(dtype).unsqueeze(2)

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Softcapped logits in float32, (..., C) -> (..., V); training uses `losses` instead.

        With `columns` (K,) int64 only those tokens' logits are computed, (..., K).
        """
        if columns is None:
            raw = self.lm_head(hidden)
        else:
            raw = F.linear(hidden, self.lm_head.weight[columns].to(hidden.dtype))
        if torch.is_grad_enabled():
            return softcap(raw.float(), self.config.logit_softcap)
        cap = self.config.logit_softcap
        return raw.float().div_(cap).tanh_().mul_(cap)  # a vocabulary of new memory is slow

    def compute_copy(self, dtype: torch.dtype) -> GPT:
        """A frozen copy with its matrices in `dtype`, so that decoding does not cast every step.

        Gives the same numbers as `forward(..., compute_dtype=dtype)`: the scalars stay float32.
        """
        twin = copy.deepcopy(self).requires_grad_(False).eval()
        for parameter in twin.parameters():
            if parameter.dim() > 1:
                parameter.data = parameter.data.to(dtype)
        for module in twin.modules():
            if isinstance(module, SelfAttention):
                module.fuse()
        return twin

    def num_parameters(self) -> int:
        """All parameters, embedding and head included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self, seq_len: int) -> int:
        """Training FLOPs per token; see `scaling.training_flops_per_token`."""
        return training_flops_per_token(self.config, seq_len)


def _at(x: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """(B, T, ...) -> (B, 1, ...): what stands at `places` of each row."""
    return x[rows, places].unsqueeze(1)


def softcap(logits: Tensor, cap: float) -> Tensor:
    """Squash to (-cap, cap): cap * tanh(logits / cap)."""
    return cap * torch.tanh(logits / cap)


def _previous_in_row(embedded: Tensor, segments: Segments | None) -> Tensor:
    """(B, T, C): each row moved on by one position, zeros at the start of a row or document."""
    previous = F.pad(embedded[:, :-1], (0, 0, 1, 0))
    if segments is None:
        return previous
    ids = segments.document_ids
    continues = F.pad(ids[:, 1:] == ids[:, :-1], (1, 0))  # (B, T)
    return previous * continues.unsqueeze(-1)
