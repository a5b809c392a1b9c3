"""The names and settings under which `transformers.NanoChatForCausalLM` takes our weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aquachat.errors import ConfigError
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT, RMS_NORM_EPS

MODEL_TYPE = "nanochat"
HEAD_NAME = "lm_head.weight"
BODY_PREFIX = "model."


def hf_name(name: str) -> str:
    """The transformers name of our parameter.

    Example: `layers.0.mlp.fc1.weight` is `model.layers.0.mlp.fc1.weight`; `lm_head.weight` stays.
    """
    return name if name == HEAD_NAME else BODY_PREFIX + name


def hf_state_dict(model: GPT) -> dict[str, Tensor]:
    """Our weights under transformers names, 6 per layer and 2, sharing memory with `model`.

    Raises:
        ConfigError: the architecture has parts that `NanoChatForCausalLM` has not.
    """
    _check_plain(model.config)
    return {hf_name(name): tensor for name, tensor in model.state_dict().items()}


def hf_config(
    config: GPTConfig, *, bos_token_id: int, eos_token_id: int, pad_token_id: int | None = None
) -> dict[str, Any]:
    """The `config.json` of a `NanoChatForCausalLM` with our shape.

    Args:
        config: of the model.
        bos_token_id: starts every document.
        eos_token_id: ends a reply: `<|assistant_end|>`.
        pad_token_id: for batches of unequal length; None is `eos_token_id`. With any other token,
            `generate` without an attention mask hides it wherever a prompt holds it.

    Raises:
        ConfigError: the architecture has parts that `NanoChatForCausalLM` has not.
    """
    _check_plain(config)
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["NanoChatForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "max_position_embeddings": config.max_seq_len,
        "hidden_act": "relu2",
        "rms_norm_eps": RMS_NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "final_logit_softcapping": config.logit_softcap,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "pad_token_id": eos_token_id if pad_token_id is None else pad_token_id,
    }


def _check_plain(config: GPTConfig) -> None:
    if config.arch != "nanochat":
        raise ConfigError(
            f"arch `{config.arch}` does not fit transformers' NanoChatForCausalLM",
            hint="train with `--arch nanochat` to export to transformers",
        )
