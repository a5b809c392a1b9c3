"""A checkpoint as a folder that `transformers`, vLLM and TRL open.

    model.safetensors  config.json  generation_config.json
    tokenizer.json  tokenizer_config.json  chat_template.jinja
    modeling_aquachat.py   only where the architecture is not nanochat's
    aquachat.json          where it comes from, and the SHA-256 of the other files

The folder is written beside its place and renamed. An older export there is replaced; a folder with
anything else in it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from aquachat import __version__
from aquachat.errors import ConfigError, DataError
from aquachat.files import (
    install_directory,
    sha256_of,
    staging_directory,
    write_json,
    write_text,
    writing,
)
from aquachat.hub.hf_tokenizer import tokenizer_files
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.model.hf import hf_config, hf_name
from aquachat.text.render import ASSISTANT_END, BOS
from aquachat.text.tokenizer import Tokenizer
from aquachat.train.lineage import LoadedModel

EXPORT_FILE: Final = "aquachat.json"
WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
GENERATION_CONFIG_FILE: Final = "generation_config.json"
MODELING_FILE: Final = "modeling_aquachat.py"
FORMAT_VERSION: Final = 1
REMOTE_MODEL_TYPE: Final = "aquachat"
DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}
_EXTRA_SETTINGS: Final = ("smear", "x0_lambdas", "qk_scale")


@dataclass(frozen=True, slots=True)
class Export:
    """A folder that was written."""

    path: Path
    files: Mapping[str, str]
    """Name -> SHA-256 of every file but `aquachat.json`."""
    num_parameters: int
    needs_remote_code: bool
    """Whether loading takes `trust_remote_code=True`."""
    check: Mapping[str, Any] | None
    """What `verify` found; None where it was not asked for."""


def export_hf(
    loaded: LoadedModel,
    destination: Path,
    *,
    dtype: str = "float32",
    verify: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Export:
    """Write the model of a checkpoint, its tokenizer and its chat template.

    Args:
        loaded: from `lineage.load_model`.
        destination: the folder to make.
        dtype: of the weights, one of `DTYPES`; only in float32 they come back bit for bit.
        verify: called with the finished folder before it takes its place.

    Raises:
        ConfigError: no such dtype, or `destination` holds what no export wrote.
        DataError: the tokenizer cannot be written as `tokenizer.json`, or the disk refused.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"there is no dtype `{dtype}`", hint=f"use {' or '.join(DTYPES)}")
    refuse_foreign_folder(destination)
    model, tokenizer = loaded.model, loaded.tokenizer
    texts = {
        **tokenizer_files(tokenizer, max_tokens=model.config.max_seq_len),
        CONFIG_FILE: _json(config_document(model.config, tokenizer, dtype)),
        GENERATION_CONFIG_FILE: _json(generation_document(tokenizer)),
    }
    if not is_plain(model.config):
        texts[MODELING_FILE] = modeling_source()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(destination.parent, destination.name) as staging:
        with writing(destination):
            save_file(state_dict_for(model, dtype), staging / WEIGHTS_FILE, {"format": "pt"})
        for name, text in texts.items():
            write_text(staging / name, text)
        # safetensors lets only its owner read a file; the others are as the system has it.
        mode = (staging / CONFIG_FILE).stat().st_mode & 0o777
        (staging / WEIGHTS_FILE).chmod(mode)
        files = {path.name: sha256_of(path) for path in sorted(staging.iterdir())}
        write_json(staging / EXPORT_FILE, _record(loaded, dtype, files))
        check = None if verify is None else verify(staging)
        install_directory(staging, destination)
    return Export(destination, files, model.num_parameters(), not is_plain(model.config), check)


def is_plain(config: GPTConfig) -> bool:
    """Whether `transformers.NanoChatForCausalLM` has this architecture."""
    return config.arch == "nanochat"


def state_dict_for(model: GPT, dtype: str = "float32") -> dict[str, Tensor]:
    """Our weights under the names of the class that will load them.

    Raises:
        DataError: the names are not exactly those of that class; a missing or superfluous tensor
            would load with a warning and write nonsense.
    """
    found = {
        hf_name(name): tensor.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, tensor in model.state_dict().items()
    }
    expected = expected_names(model.config)
    if difference := sorted(expected.symmetric_difference(found)):
        raise DataError(
            f"the model and the class that loads it differ in the tensor `{difference[0]}`",
            hint="train with `--arch nanochat` to export to transformers",
        )
    return found


def expected_names(config: GPTConfig) -> set[str]:
    """The tensors that the class for `config` has: 6 per layer and 2, and those of its extras."""
    per_layer = [f"self_attn.{part}_proj" for part in "qkvo"] + ["mlp.fc1", "mlp.fc2"]
    names = {
        f"model.layers.{layer}.{part}.weight"
        for layer in range(config.num_layers)
        for part in per_layer
    }
    names |= {"model.embed_tokens.weight", "lm_head.weight"}
    if config.smear:
        names.add("model.smear")
    if config.x0_lambdas:
        names |= {"model.residual_lambdas", "model.x0_lambdas"}
    return names


def config_document(config: GPTConfig, tokenizer: Tokenizer, dtype: str) -> dict[str, Any]:
    """The contents of `config.json`."""
    ids = {
        "bos_token_id": tokenizer.special_id(BOS),
        "eos_token_id": tokenizer.special_id(ASSISTANT_END),
    }
    if is_plain(config):
        return {**hf_config(config, **ids), "dtype": dtype}
    plain = {**config.to_json(), "arch": "nanochat", **dict.fromkeys(_EXTRA_SETTINGS, False)}
    document = hf_config(GPTConfig.from_json({**plain, "qk_scale": 1.0}), **ids)
    module = MODELING_FILE.removesuffix(".py")
    document |= {
        "model_type": REMOTE_MODEL_TYPE,
        "architectures": ["AquachatForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{module}.AquachatConfig",
            "AutoModel": f"{module}.AquachatModel",
            "AutoModelForCausalLM": f"{module}.AquachatForCausalLM",
        },
        **{name: getattr(config, name) for name in _EXTRA_SETTINGS},
        "dtype": dtype,
    }
    return document


def generation_document(tokenizer: Tokenizer) -> dict[str, Any]:
    """The contents of `generation_config.json`: greedy, and where a reply ends."""
    end = tokenizer.special_id(ASSISTANT_END)
    return {
        "bos_token_id": tokenizer.special_id(BOS),
        "eos_token_id": end,
        "pad_token_id": end,
        "do_sample": False,
        "use_cache": True,
    }


def modeling_source() -> str:
    """The text of the modelling file that is shipped with other architectures."""
    return (resources.files("aquachat.hub") / "remote_code" / MODELING_FILE).read_text("utf-8")


def read_export_record(folder: Path) -> dict[str, Any] | None:
    """What `aquachat.json` says, None where there is none that can be read."""
    try:
        record = json.loads((folder / EXPORT_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(record, dict) and isinstance(record.get("files"), dict)
    return record if is_ours else None


def refuse_foreign_folder(folder: Path) -> None:
    """Make sure that `folder` may be replaced.

    Raises:
        ConfigError: it is a file, or holds something that no export wrote.
    """
    if not folder.exists():
        return
    hint = "name an empty or a new folder with `--output`"
    if not folder.is_dir() or folder.is_symlink():
        raise ConfigError(f"`{folder}` is no folder", hint=hint)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    if not there:
        return
    record = read_export_record(folder)
    known = {EXPORT_FILE, *(record["files"] if record is not None else ())}
    if foreign := sorted(there - known) if record is not None else sorted(there):
        raise ConfigError(f"`{folder}` holds `{foreign[0]}`, which no export wrote", hint=hint)


def _record(loaded: LoadedModel, dtype: str, files: Mapping[str, str]) -> dict[str, Any]:
    origin = loaded.origin
    return {
        "format": FORMAT_VERSION,
        "aquachat": __version__,
        "run": origin.run_dir.name,
        "checkpoint": origin.name,
        "dtype": dtype,
        "model": loaded.model.config.to_json(),
        "num_parameters": loaded.model.num_parameters(),
        "tokenizer_fingerprint": loaded.tokenizer.fingerprint,
        "files": dict(files),
    }


def _json(document: object) -> str:
    return json.dumps(document, indent=2) + "\n"
