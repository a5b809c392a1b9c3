"""Checkpoints that nanochat, and the predecessor of this program, save.

    model_000650.pt    weights by name; read with `weights_only=True`
    meta_000650.json   `model_config`, among other things

Their October 2025 architecture is ours under other names. What came later (value embeddings,
residual lambdas, smear, backout, windows) computes something else from the tensors that have the
same names, so a checkpoint that has any of it is refused.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.model.config import GPTConfig

_MODEL_FILE: Final = re.compile(r"model_(\d+)\.pt")
_COMPILED_PREFIX: Final = "_orig_mod."
_PARTS: Final = {
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_STAGES: Final = {
    "base": "base",
    "mid": "mid",
    "chatsft": "sft",
    "sft": "sft",
    "chatrl": "rl",
    "rl": "rl",
}
"""Of nanochat's folders `base_checkpoints`, `chatsft_checkpoints`..."""
_VOCAB_MULTIPLE: Final = 64
_SHAPE_KEYS: Final = ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd")


@dataclass(frozen=True, slots=True)
class NanochatCheckpoint:
    """A checkpoint under our names."""

    config: GPTConfig
    state_dict: Mapping[str, Tensor]
    """float32."""
    stage: str | None
    """By the name of its folder."""
    step: int


def is_nanochat_checkpoint(path: Path) -> bool:
    """Whether a folder holds `model_*.pt`, or a file is one."""
    if path.is_dir():
        return any(_MODEL_FILE.fullmatch(entry.name) for entry in path.iterdir())
    return _MODEL_FILE.fullmatch(path.name) is not None


def read_nanochat_checkpoint(path: Path, step: int | None = None) -> NanochatCheckpoint:
    """Read one checkpoint.

    Args:
        path: `model_*.pt`, or its folder.
        step: of several in a folder; by default the last.

    Raises:
        MissingFileError: there is no such checkpoint.
        DataError: a file is damaged, or holds more than tensors.
        ConfigError: it is of another architecture than ours.
    """
    file, step = _model_file(path, step)
    settings = _read_settings(file.with_name(f"meta_{file.stem.removeprefix('model_')}.json"))
    tensors = _read_tensors(file)
    _refuse_other_architectures(settings, tensors, file)
    config = _config_of(settings, file)
    expected = nanochat_names(config.num_layers)
    if missing := sorted(set(expected) - set(tensors)):
        raise DataError(f"`{file}` lacks the tensor `{missing[0]}`", hint="copy it again")
    state_dict = {ours: tensors[theirs].float() for theirs, ours in expected.items()}
    for name in ("embed_tokens.weight", "lm_head.weight"):
        state_dict[name] = _without_padding(state_dict[name], config.vocab_size)
    folder = file.parent.parent.name.removesuffix("_checkpoints")
    return NanochatCheckpoint(config, state_dict, _STAGES.get(folder), step)


def nanochat_names(num_layers: int) -> dict[str, str]:
    """Nanochat's name of each parameter -> ours."""
    names = {
        f"transformer.h.{layer}.{theirs}.weight": f"layers.{layer}.{ours}.weight"
        for layer in range(num_layers)
        for theirs, ours in _PARTS.items()
    }
    return {
        "transformer.wte.weight": "embed_tokens.weight",
        **names,
        "lm_head.weight": "lm_head.weight",
    }


def _without_padding(matrix: Tensor, vocab_size: int) -> Tensor:
    """(padded V, C) -> (V, C): some versions fill the vocabulary up to a multiple of 64."""
    padded = -(-vocab_size // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
    return matrix[:vocab_size].clone() if len(matrix) == padded else matrix


def _model_file(path: Path, step: int | None) -> tuple[Path, int]:
    entries = path.iterdir() if path.is_dir() else (path,)
    found = {
        int(match[1]): entry for entry in entries if (match := _MODEL_FILE.fullmatch(entry.name))
    }
    if not found or (step is not None and step not in found):
        there = ", ".join(map(str, sorted(found))) or "none"
        raise MissingFileError(
            f"there is no checkpoint of step {step} in `{path}`",
            hint=f"its steps are {there}: choose one with `--step`",
        )
    chosen = max(found) if step is None else step
    return found[chosen], chosen


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text("utf-8"))["model_config"]
    except FileNotFoundError as error:
        raise MissingFileError(
            f"there is no `{path.name}` beside the weights in `{path.parent}`",
            hint="copy it too: it says the shape of the model",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"`{path}` has no `model_config` ({error!r})", hint="copy it again"
        ) from error
    if not isinstance(settings, dict):
        raise DataError(f"`{path}` has no `model_config`", hint="copy it again")
    return settings


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU; nothing in the file is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"`{path}` holds something else than tensors, and is not read",
            hint="save the model's `state_dict()` alone with `torch.save`",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"`{path}` is damaged ({lines[0]})", hint="copy it again") from error
    is_state = isinstance(content, dict) and all(isinstance(v, Tensor) for v in content.values())
    if not is_state:
        raise DataError(
            f"`{path}` is no state dict of tensors",
            hint="name the `model_*.pt`, not the `optim_*.pt`",
        )
    return {str(name).removeprefix(_COMPILED_PREFIX): value for name, value in content.items()}


def _refuse_other_architectures(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], file: Path
) -> None:
    expected = nanochat_names(_whole(settings, "n_layer", file))
    # Rotary tables were saved by early versions; they follow from the shape.
    extra = sorted(set(tensors) - set(expected) - {"cos", "sin"})
    windows = str(settings.get("window_pattern", "L")).upper()
    if not extra and not windows.strip("L"):
        return
    what = f"the tensors {_listed(extra)}" if extra else f"the attention windows `{windows}`"
    raise ConfigError(
        f"`{file}` is of a later nanochat: it has {what}, which ours has not",
        hint="only models of the October 2025 nanochat can be imported; the others would load and "
        "write nonsense",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _config_of(settings: Mapping[str, Any], file: Path) -> GPTConfig:
    shape = {key: _whole(settings, key, file) for key in _SHAPE_KEYS}
    return GPTConfig(
        vocab_size=shape["vocab_size"],
        num_layers=shape["n_layer"],
        hidden_size=shape["n_embd"],
        num_heads=shape["n_head"],
        num_kv_heads=shape["n_kv_head"],
        max_seq_len=shape["sequence_len"],
    )


def _whole(settings: Mapping[str, Any], key: str, file: Path) -> int:
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError(
            f"the `model_config` beside `{file}` has no usable `{key}`", hint="copy it again"
        )
    return value
