"""Models that were written elsewhere, as a run of ours.

An export of ours (or any `NanoChatForCausalLM` folder) comes back with the same weights bit for
bit; `nanochat_checkpoints` reads what nanochat and the predecessor of this program save. Nothing
that is read is executed: weights are safetensors or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.files import install_directory, staging_directory
from aquachat.hub.export import (
    CONFIG_FILE,
    REMOTE_MODEL_TYPE,
    WEIGHTS_FILE,
    expected_names,
    read_export_record,
)
from aquachat.hub.hf_tokenizer import TOKENIZER_FILE, tokenizer_from_json
from aquachat.hub.nanochat_checkpoints import is_nanochat_checkpoint, read_nanochat_checkpoint
from aquachat.hub.tokenizer_pickle import PICKLE_FILE, read_tiktoken_pickle
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT, RMS_NORM_EPS
from aquachat.model.hf import BODY_PREFIX, MODEL_TYPE
from aquachat.paths import Home
from aquachat.text.tokenizer import Tokenizer
from aquachat.text.tokenizer_files import MANIFEST_FILE
from aquachat.train.checkpoint import Checkpoint, save_checkpoint
from aquachat.train.lineage import STAGES, TOKENIZER_DIR

INDEX_FILE: Final = "model.safetensors.index.json"
DEFAULT_STAGE: Final = "sft"
_NUM_STEPS: Final = 0
_HINT: Final = "name an export, or the folder of a nanochat checkpoint"


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A model as it was read, not yet written anywhere."""

    config: GPTConfig
    state_dict: Mapping[str, Tensor]
    """Our names, float32."""
    tokenizer: Tokenizer
    source: str
    """What kind of folder it was, for people."""
    stage: str | None
    """That trained it, where the folder says so."""
    step: int


def read_model(
    path: Path, *, tokenizer: Path | None = None, step: int | None = None
) -> ImportedModel:
    """Read an export or a checkpoint of nanochat.

    Args:
        path: the folder, or one file of it.
        tokenizer: folder or file of the tokenizer, where it is not beside the weights.
        step: of several nanochat checkpoints in a folder; by default the last.

    Raises:
        MissingFileError: a file is not there.
        DataError: a file is damaged.
        ConfigError: it is nothing that can be read, or a model of another architecture.
    """
    if not path.exists():
        raise MissingFileError(f"there is no `{path}`", hint=_HINT)
    folder = path if path.is_dir() else path.parent
    if (folder / CONFIG_FILE).is_file():
        return _read_export(folder, tokenizer)
    if is_nanochat_checkpoint(path):
        found = read_nanochat_checkpoint(path, step)
        place = tokenizer or _tokenizer_near(folder)
        return _checked(
            ImportedModel(
                found.config,
                found.state_dict,
                read_tokenizer(place),
                "nanochat checkpoint",
                found.stage,
                found.step,
            )
        )
    raise ConfigError(f"`{path}` holds neither `{CONFIG_FILE}` nor `model_*.pt`", hint=_HINT)


def read_tokenizer(place: Path) -> Tokenizer:
    """The tokenizer in a folder or file: ours, `tokenizer.json`, or nanochat's `tokenizer.pkl`.

    Raises:
        MissingFileError: there is none.
        DataError: it cannot be used.
    """
    folder = place if place.is_dir() else place.parent
    if place.is_dir() and (folder / MANIFEST_FILE).is_file():
        return Tokenizer.load(folder)
    for name in (TOKENIZER_FILE, PICKLE_FILE):
        file = folder / name if place.is_dir() else place
        if file.name == name and file.is_file():
            if name == PICKLE_FILE:
                return read_tiktoken_pickle(file)
            return tokenizer_from_json(_read_json(file), source=str(file))
    raise MissingFileError(
        f"there is no tokenizer in `{place}`",
        hint=f"name the folder of `{TOKENIZER_FILE}`, `{PICKLE_FILE}` or of one of ours with "
        "`--tokenizer`",
    )


def write_run(imported: ImportedModel, home: Home, run: str, stage: str) -> Path:
    """Make a run with one checkpoint of the model.

    Returns:
        The folder of the checkpoint.

    Raises:
        ConfigError: the run exists, or there is no such stage.
    """
    if stage not in STAGES:
        raise ConfigError(f"there is no stage `{stage}`", hint=f"use {', '.join(STAGES)}")
    folder = home.run(run)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"run `{run}` already exists in `{home.runs}`", hint="give another name with `--run`"
        )
    state = {
        "stage": stage,
        "run": run,
        "model": imported.config.to_json(),
        "tokenizer_fingerprint": imported.tokenizer.fingerprint,
        "origin": imported.source,
    }
    checkpoint = Checkpoint(imported.step, imported.state_dict, {}, state)
    with staging_directory(home.runs, run) as staging:
        imported.tokenizer.save(staging / TOKENIZER_DIR)
        written = save_checkpoint(staging / stage, checkpoint)
        install_directory(staging, folder)
    return folder / stage / written.name


def _read_export(folder: Path, tokenizer: Path | None) -> ImportedModel:
    config = config_from_document(_read_json(folder / CONFIG_FILE), folder / CONFIG_FILE)
    tensors = _read_weights(folder)
    expected = expected_names(config)
    if difference := sorted(expected.symmetric_difference(tensors)):
        have = "has" if difference[0] in tensors else "lacks"
        raise ConfigError(
            f"`{folder}` {have} the tensor `{difference[0]}`, so it is another architecture than "
            f"`{CONFIG_FILE}` says",
            hint="only models that fit `NanoChatForCausalLM`, and exports of ours, can be imported",
        )
    state_dict = {name.removeprefix(BODY_PREFIX): t.float() for name, t in tensors.items()}
    record = read_export_record(folder)
    stage, _, step = str((record or {}).get("checkpoint", "")).partition("@")
    return _checked(
        ImportedModel(
            config,
            state_dict,
            read_tokenizer(tokenizer or folder),
            "export",
            stage if stage in STAGES else None,
            int(step) if step.isdigit() else _NUM_STEPS,
        )
    )


def config_from_document(document: Mapping[str, Any], source: Path) -> GPTConfig:
    """The shape that a `config.json` describes.

    Raises:
        ConfigError: it describes no model that ours can be.
    """
    kind = document.get("model_type")
    if kind not in (MODEL_TYPE, REMOTE_MODEL_TYPE):
        raise ConfigError(
            f"`{source}` is of a `{kind}` model", hint=f"only `{MODEL_TYPE}` models can be imported"
        )
    try:
        hidden_size = int(document["hidden_size"])
        mlp_ratio, rest = divmod(int(document["intermediate_size"]), hidden_size)
        rope = document.get("rope_parameters") or {"rope_theta": document["rope_theta"]}
        fixed = {
            "hidden_act": ("relu2", document["hidden_act"]),
            "rms_norm_eps": (RMS_NORM_EPS, document.get("rms_norm_eps", RMS_NORM_EPS)),
            "attention_bias": (False, document.get("attention_bias", False)),
            "tie_word_embeddings": (False, document.get("tie_word_embeddings", False)),
            "rope_type": ("default", rope.get("rope_type", "default")),
            "intermediate_size": (0, rest),
        }
        shape: dict[str, Any] = {
            "vocab_size": int(document["vocab_size"]),
            "num_layers": int(document["num_hidden_layers"]),
            "hidden_size": hidden_size,
            "num_heads": int(document["num_attention_heads"]),
            "num_kv_heads": int(document["num_key_value_heads"]),
            "max_seq_len": int(document["max_position_embeddings"]),
            "rope_base": float(rope["rope_theta"]),
            "logit_softcap": float(document["final_logit_softcapping"]),
            "mlp_ratio": mlp_ratio,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"`{source}` is not complete ({error!r})", hint=_HINT) from error
    for name, (needed, found) in fixed.items():
        if needed != found:
            raise ConfigError(
                f"`{source}` has `{name}` {found!r}, which our models have not", hint=_HINT
            )
    if kind == MODEL_TYPE:
        return GPTConfig(**shape)
    extras = {name: document.get(name, False) for name in ("smear", "x0_lambdas")}
    scale = float(document.get("qk_scale", 1.0))
    return GPTConfig.for_arch("smear", **shape, **extras, qk_scale=scale)


def _checked(imported: ImportedModel) -> ImportedModel:
    """The same, after shapes and vocabulary agree.

    Raises:
        DataError: they do not.
    """
    with torch.device("meta"):
        expected = GPT(imported.config).state_dict()
    for name, tensor in expected.items():
        found = imported.state_dict[name].shape
        if found != tensor.shape:
            raise DataError(
                f"the tensor `{name}` has the shape {list(found)}, its config says "
                f"{list(tensor.shape)}",
                hint="copy the whole folder again",
            )
    if imported.tokenizer.n_vocab != imported.config.vocab_size:
        raise DataError(
            f"the model has {imported.config.vocab_size:,} tokens and its tokenizer "
            f"{imported.tokenizer.n_vocab:,}",
            hint="name the tokenizer it was trained with: `--tokenizer FOLDER`",
        )
    return imported


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of an export, from one file or from several with an index."""
    files = [WEIGHTS_FILE]
    if not (folder / WEIGHTS_FILE).is_file() and (folder / INDEX_FILE).is_file():
        index = _read_json(folder / INDEX_FILE)
        files = sorted(set(index.get("weight_map", {}).values()))
        if any(Path(name).name != name for name in files):
            raise DataError(f"`{folder / INDEX_FILE}` names files outside `{folder}`")
    tensors: dict[str, Tensor] = {}
    for name in files:
        try:
            tensors |= load_file(folder / name)
        except FileNotFoundError as error:
            raise MissingFileError(
                f"there is no `{name}` in `{folder}`", hint="copy the whole folder again"
            ) from error
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"`{folder / name}` is damaged ({error})", hint="copy the whole folder again"
            ) from error
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no `{path}`", hint=_HINT) from error
    except ValueError as error:
        raise DataError(f"`{path}` is not JSON ({error})", hint=_HINT) from error
    if not isinstance(document, dict):
        raise DataError(f"`{path}` is no JSON object", hint=_HINT)
    return document


def _tokenizer_near(folder: Path) -> Path:
    """Beside the weights, or where nanochat keeps it: `BASE/tokenizer` of `BASE/STAGE/MODEL`."""
    for place in (folder, folder / "tokenizer", *(p / "tokenizer" for p in folder.parents[:3])):
        if any((place / name).is_file() for name in (MANIFEST_FILE, TOKENIZER_FILE, PICKLE_FILE)):
            return place
    raise MissingFileError(
        f"there is no tokenizer beside `{folder}`",
        hint="name nanochat's folder `tokenizer` with `--tokenizer`",
    )
