"""Checks of `aquachat doctor` that look at the machine; torch is loaded inside where it is asked.

Each returns (status, sentence, way out); see `aquachat.pipeline.doctor`.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from aquachat.config.recipes import Recipe
from aquachat.errors import AquachatError
from aquachat.model.memory import estimate_memory
from aquachat.model.scaling import base_iterations, config_for, count_parameters
from aquachat.text.tokenizer import Tokenizer
from aquachat.track.environment import memory_bytes

Word = Literal["ok", "warning", "failure", "not applicable"]
Said = tuple[Word, str, str | None]

MIN_PYTHON: Final = (3, 11)
MIN_TORCH: Final = (2, 6)
KNOWN_TEXT: Final = "low lower lowest, 12 times 7 is 84\n"
"""A tokenizer is trained on it and has to give it back."""
LAUNCH_PROGRAMS: Final = ("ssh", "git", "tmux")
STAGES: Final = 4
BYTES_PER_TOKEN: Final = 2
"""Of a token shard with a vocabulary of at most 65,536."""
DOWNLOAD_BYTES_A_SHARD: Final = 100 * 10**6
"""About one training shard of FineWeb or ClimbMix, which are downloaded and kept."""
TOKENS_A_SHARD: Final = 50_000_000
OTHER_DOWNLOAD_BYTES: Final = 2 * 10**9
"""The other sets of the presets for GPUs."""
INTERPRETER_BYTES: Final = 400 * 10**6
"""Python with torch loaded, before there is a model."""


def check_python() -> Said:
    """Whether this Python is one that aquachat supports."""
    version = platform.python_version()
    if sys.version_info[:2] < MIN_PYTHON:
        least = ".".join(map(str, MIN_PYTHON))
        return "failure", f"Python {version} is older than {least}", f"install Python {least}"
    return "ok", f"Python {version} on {platform.system()} {platform.machine()}", None


def check_torch() -> Said:
    """Whether torch can be loaded and is new enough."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        first = str(error).partition("\n")[0]
        return "failure", f"torch cannot be loaded: {first}", "run `pip install torch`"
    version = str(torch.__version__)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < MIN_TORCH:
        least = ".".join(map(str, MIN_TORCH))
        return "failure", f"torch {version} is older than {least}", "run `pip install -U torch`"
    return "ok", f"torch {version}, {torch.get_num_threads()} threads", None


def check_device(name: str) -> Said:
    """Which device `--device NAME` would be; a driver that torch does not fit is a warning."""
    from aquachat.world import open_world

    world = open_world(name, environ={})
    kind, dtype = world.device.type, str(world.dtype).removeprefix("torch.")
    if kind == "cuda":
        import torch

        found = torch.cuda.get_device_properties(world.device)
        count = torch.cuda.device_count()
        return "ok", f"{count} x {found.name}, matrices in {dtype}", None
    if kind == "cpu" and name == "auto" and shutil.which("nvidia-smi"):
        return (
            "warning",
            "this machine has `nvidia-smi`, and torch sees no GPU: everything runs on the CPU",
            "install a torch build for your driver, see https://pytorch.org/get-started",
        )
    return "ok", f"device {kind}, matrices in {dtype}", None


def check_memory(recipe: Recipe, preset: str) -> Said:
    """Whether training the preset's model fits the device's memory."""
    import torch

    from aquachat.world import open_world

    try:
        world = open_world(recipe.run.device, recipe.run.dtype, environ={})
    except AquachatError:
        return "not applicable", "there is no such device to hold a model", None
    config = config_for(recipe.model, vocab_size=recipe.tokenize.vocab_size)
    stages = (recipe.base, recipe.mid, recipe.sft, recipe.rl)
    needed = estimate_memory(
        config,
        device_batch_tokens=max(stage.device_batch_tokens for stage in stages),
        dtype_bytes=torch.empty((), dtype=world.dtype).element_size(),
        device_type=world.device.type,
    ).total_bytes
    there, holder = memory_bytes(), "this machine"
    if world.device.type == "cuda":
        there, holder = torch.cuda.get_device_properties(world.device).total_memory, "the GPU"
    else:
        needed += INTERPRETER_BYTES
    need = f"training `{preset}` takes about {_gb(needed)}"
    if there is None:
        return "warning", f"{need}, and {holder} does not say how much it has", "watch its memory"
    way_out = "choose a smaller preset, or lower `device_batch_tokens` with `--set`"
    if needed > there:
        return "failure", f"{need}, and {holder} has {_gb(there)}", way_out
    if needed > 0.8 * there:
        return "warning", f"{need} of the {_gb(there)} that {holder} has", way_out
    return "ok", f"{need} of the {_gb(there)} that {holder} has", None


def check_disk(root: Path, recipe: Recipe, preset: str) -> Said:
    """Whether the folder of results has room for a whole run."""
    existing = next(path for path in (root, *root.parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, disk_bytes(recipe)
    sentence = f"a run of `{preset}` writes about {_gb(needed)}, `{existing}` has {_gb(free)} free"
    way_out = "free some space, or set `AQUACHAT_HOME` to a folder on a larger disk"
    if needed > free:
        return "failure", sentence, way_out
    return ("warning", sentence, way_out) if 2 * needed > free else ("ok", sentence, None)


def disk_bytes(recipe: Recipe) -> int:
    """What a run writes: checkpoints of all stages, token shards, and downloads; an estimate.

    A checkpoint holds weights and moments in float32; the newest is written beside those kept.
    """
    config = config_for(recipe.model, vocab_size=recipe.tokenize.vocab_size)
    counts = count_parameters(config)
    moments = 8 * (counts.total - counts.matrices) + 4 * counts.matrices
    kept = sum(s.keep_last + 1 for s in (recipe.base, recipe.mid, recipe.sft, recipe.rl))
    base = recipe.base
    steps = base.num_iterations or base_iterations(
        counts.total, base.tokens_per_parameter, base.tokens_per_step
    )
    tokens = steps * base.tokens_per_step
    total = kept * (4 * counts.total + moments) + BYTES_PER_TOKEN * tokens
    if set(recipe.prepare.datasets) - {"synthetic"}:
        shards = recipe.prepare.shards
        total += shards * (DOWNLOAD_BYTES_A_SHARD + BYTES_PER_TOKEN * TOKENS_A_SHARD)
        total += OTHER_DOWNLOAD_BYTES
    return total


def check_extension() -> Said:
    """Whether the compiled module is there and learns a vocabulary that gives a text back."""
    way_out = "install the wheel again, or build it with `maturin develop --release`"
    try:
        importlib.import_module("aquachat._tokenizer")
    except ImportError as error:
        return (
            "warning",
            f"the compiled module cannot be loaded ({error}), so `aquachat tokenize` cannot run",
            way_out,
        )
    tokenizer = Tokenizer.train_from_iterator([KNOWN_TEXT] * 8, 300)
    ids = tokenizer.encode_ordinary(KNOWN_TEXT)
    if tokenizer.decode(ids) != KNOWN_TEXT or len(ids) >= len(KNOWN_TEXT):
        return "failure", "the compiled module does not give a known text back", way_out
    size = len(KNOWN_TEXT.encode())
    return "ok", f"the compiled module learns, and encodes {size} bytes as {len(ids)} tokens", None


def check_sandbox(recipe: Recipe) -> Said:
    """What protects this machine from programs that a model writes (HumanEval)."""
    from aquachat.tasks.sandbox.runner import sandbox_capabilities

    found = sandbox_capabilities()
    if found.isolation in ("namespaces", "seccomp"):
        return "ok", found.sentence, None
    is_asked = any(task.upper().startswith("HUMANEVAL") for task in recipe.eval.tasks)
    why = f" ({'; '.join(found.missing)})" if found.missing else ""
    return (
        "failure" if is_asked and found.isolation == "none" else "warning",
        f"{found.sentence}{why}",
        "evaluate HUMANEVAL on a Linux machine with seccomp, or leave it out",
    )


def check_programs(environ: Mapping[str, str]) -> Said:
    """Whether the programs that `aquachat launch` uses here are on the path."""
    missing = [name for name in LAUNCH_PROGRAMS if not shutil.which(name, path=environ.get("PATH"))]
    if missing:
        return (
            "warning",
            f"`aquachat launch` works best with {_and(LAUNCH_PROGRAMS)}, and this machine lacks "
            f"{_and(missing)}",
            f"install {_and(missing)}",
        )
    return "ok", f"{_and(LAUNCH_PROGRAMS)} are here for `aquachat launch`", None


def _and(names: tuple[str, ...] | list[str]) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"
