"""Checkpoints: written beside, fsynced, renamed; the manifest comes last and proves the rest.

    step_000200/model.safetensors      float32 masters, by parameter name
                optimizer.safetensors  moments, as `index.name`
                state.json             step, random state, data cursor, what was pinned at the start
                manifest.json          size and sha256 of the other files

A folder without a manifest that matches is not a checkpoint and is never loaded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aquachat.errors import DataError, MissingFileError, TrainingError
from aquachat.files import sha256_of, sync_directory, sync_file

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_STEP_DIR = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is needed to go on as if nothing had happened."""

    step: int
    """Optimizer steps taken."""
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    """A torch optimizer's `state_dict()`."""
    state: Mapping[str, Any]
    """JSON: random state, source state, metrics, recipe, lineage."""


def step_dir(stage_dir: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return stage_dir / f"step_{step:06d}"


def save_checkpoint(stage_dir: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint so that it is there whole or not at all.

    Raises:
        TrainingError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    final = step_dir(stage_dir, checkpoint.step)
    partial = stage_dir / f".{final.name}.partial-{os.getpid()}"
    try:
        stage_dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write_files(partial, checkpoint)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        sync_directory(stage_dir)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"could not write the checkpoint of step {checkpoint.step} to `{stage_dir}`: "
            f"{error.strerror or error}",
            hint="free disk space, then go on with `--resume` from the last good checkpoint",
        ) from error
    return final


def load_checkpoint(path: Path, *, with_optimizer: bool = True) -> Checkpoint:
    """Read a checkpoint, verifying every file against the manifest.

    Raises:
        MissingFileError: there is no checkpoint at `path`.
        DataError: a file is missing or differs from the manifest.
    """
    manifest = _read_manifest(path)
    for name, entry in manifest["files"].items():
        if name == "optimizer.safetensors" and not with_optimizer:
            continue
        file = path / name
        if not _matches(file, entry):
            raise DataError(
                f"`{file}` is missing or differs from its manifest",
                hint=f"remove `{path}` to fall back to the checkpoint before it",
            )
    try:
        state = json.loads((path / "state.json").read_text("utf-8"))
        model = load_file(path / "model.safetensors")
        optimizer = _load_optimizer(path, state["optimizer"]) if with_optimizer else {}
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise DataError(
            f"`{path}` cannot be read: {error}",
            hint=f"remove `{path}` to fall back to the checkpoint before it",
        ) from error
    return Checkpoint(manifest["step"], model, optimizer, state["state"])


def list_checkpoints(stage_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first; half-written ones are not listed."""
    if not stage_dir.is_dir():
        return []
    found = [
        (int(match[1]), entry)
        for entry in stage_dir.iterdir()
        if (match := _STEP_DIR.fullmatch(entry.name)) and (entry / MANIFEST).is_file()
    ]
    return [entry for _, entry in sorted(found)]


def latest_checkpoint(stage_dir: Path) -> Path | None:
    """The newest complete checkpoint whose files match their manifest."""
    for path in reversed(list_checkpoints(stage_dir)):
        if _is_intact(path):
            return path
    return None


def prune_checkpoints(stage_dir: Path, *, keep_last: int) -> None:
    """Remove all but the newest `keep_last` checkpoints, and left-overs of killed saves."""
    for path in list_checkpoints(stage_dir)[: -max(keep_last, 1)]:
        shutil.rmtree(path, ignore_errors=True)
    for partial in stage_dir.glob(".step_*.partial-*"):
        if partial.name.rsplit("-", 1)[1] != str(os.getpid()):
            shutil.rmtree(partial, ignore_errors=True)


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    tensors, optimizer = _flatten_optimizer(checkpoint.optimizer)
    contiguous = {name: t.detach().cpu().contiguous() for name, t in checkpoint.model.items()}
    save_file(contiguous, folder / "model.safetensors")
    save_file(tensors, folder / "optimizer.safetensors")
    document = {"state": dict(checkpoint.state), "optimizer": optimizer}
    (folder / "state.json").write_text(json.dumps(document), "utf-8")
    files = {}
    for file in sorted(folder.iterdir()):
        sync_file(file)
        files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    manifest = {"format": FORMAT_VERSION, "step": checkpoint.step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    sync_file(folder / MANIFEST)
    sync_directory(folder)


def _flatten_optimizer(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors (for safetensors) and plain numbers (for JSON)."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, entry in state_dict.get("state", {}).items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                numbers.setdefault(str(index), {})[name] = value
    return tensors, {"numbers": numbers, "param_groups": state_dict.get("param_groups", [])}


def _load_optimizer(path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in load_file(path / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    for key, numbers in document["numbers"].items():
        state.setdefault(int(key), {}).update(numbers)
    return {"state": state, "param_groups": document["param_groups"]}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text("utf-8"))
        if manifest["format"] != FORMAT_VERSION:
            raise DataError(
                f"`{path}` has checkpoint format {manifest['format']}, this aquachat reads "
                f"{FORMAT_VERSION}",
                hint="use the aquachat version that wrote it",
            )
    except FileNotFoundError as error:
        raise MissingFileError(
            f"there is no checkpoint at `{path}`", hint="see `aquachat runs` for what there is"
        ) from error
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise DataError(
            f"`{path / MANIFEST}` is damaged ({error})",
            hint=f"remove `{path}` to fall back to the checkpoint before it",
        ) from error
    return manifest


def _is_intact(path: Path) -> bool:
    try:
        files = _read_manifest(path)["files"]
        return all(_matches(path / name, entry) for name, entry in files.items())
    except (DataError, MissingFileError):
        return False


def _matches(file: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is there and is what the manifest says."""
    try:
        status = file.stat()
    except OSError:
        return False
    return status.st_size == entry["bytes"] and (
        _hash_once(file, status.st_size, status.st_mtime_ns, status.st_ino) == entry["sha256"]
    )


@lru_cache(maxsize=64)
def _hash_once(file: Path, size: int, mtime_ns: int, inode: int) -> str:
    """The hash of a file; asked for several times at the start of a stage, read once."""
    return sha256_of(file)


def random_state_to_json() -> list[int]:
    """Torch's global CPU generator state as bytes."""
    return [int(byte) for byte in torch.get_rng_state()]


def restore_random_state(state: list[int]) -> None:
    """The inverse of `random_state_to_json`."""
    torch.set_rng_state(torch.tensor(state, dtype=torch.uint8))
