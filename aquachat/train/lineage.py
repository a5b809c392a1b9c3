"""Which checkpoint a stage starts from, and how a model is read from one.

sft                  newest checkpoint of stage sft of this run
sft@200              its checkpoint of step 200
otherrun/base@600    of another run
/path/to/step_000200 or ./runs/a/sft
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.paths import Home
from aquachat.text.tokenizer import Tokenizer
from aquachat.train import checkpoint as checkpoints

STAGES = ("base", "mid", "sft", "rl")
TOKENIZER_DIR = "tokenizer"
"""Every run keeps the tokenizer it was trained with, so that it can be moved and read alone."""

_REFERENCE = re.compile(r"(?:(?P<run>[^/@]+)/)?(?P<stage>base|mid|sft|rl)(?:@(?P<step>\d+))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """A checkpoint on disk."""

    path: Path
    """A `step_...` folder."""

    @property
    def stage(self) -> str:
        """The stage that wrote it."""
        return self.path.parent.name

    @property
    def step(self) -> int:
        """Its step."""
        return int(self.path.name.removeprefix("step_"))

    @property
    def run_dir(self) -> Path:
        """The run it belongs to."""
        return self.path.parent.parent

    @property
    def name(self) -> str:
        """As results name it, for example `sft@200`."""
        return f"{self.stage}@{self.step}"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as a checkpoint has it."""

    model: GPT
    tokenizer: Tokenizer
    origin: Origin
    checkpoint: checkpoints.Checkpoint


def find_origin(reference: str, home: Home, run: str) -> Origin:
    """The checkpoint that `--from REFERENCE` means.

    Raises:
        ConfigError: the reference has no known form.
        MissingFileError: there is no such checkpoint; the hint names the command that makes it.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return _origin_at_path(reference)
    source_run, stage, step = match["run"] or run, match["stage"], match["step"]
    stage_dir = home.stage(source_run, stage)
    path = (
        checkpoints.step_dir(stage_dir, int(step))
        if step
        else checkpoints.latest_checkpoint(stage_dir)
    )
    if path is None or not (path / checkpoints.MANIFEST).is_file():
        there = [
            p.name.removeprefix("step_").lstrip("0")
            for p in checkpoints.list_checkpoints(stage_dir)
        ]
        steps = f"; it has {', '.join(there)}" if step and there else ""
        wanted = f"step {step} of stage {stage}" if step else f"stage {stage}"
        raise MissingFileError(
            f"run `{source_run}` has no checkpoint of {wanted}{steps}",
            hint="name one of these with `--from`"
            if steps
            else f"run `{_command_of(stage)} --run {source_run}` first, "
            "or name other weights with `--from`",
        )
    return Origin(path)


def default_origin(stage: str, home: Home, run: str) -> Origin:
    """The newest checkpoint of the latest stage before `stage` that the run has.

    Raises:
        MissingFileError: the run has none; the hint names the stage that comes before.
    """
    before = STAGES[: STAGES.index(stage)]
    for earlier in reversed(before):
        if earlier == "base" and stage == "rl":
            break  # reinforcement learning needs a model that answers in the format
        path = checkpoints.latest_checkpoint(home.stage(run, earlier))
        if path is not None:
            return Origin(path)
    needed = before[-1]
    raise MissingFileError(
        f"`{stage}` needs weights to start from, and run `{run}` has none of {needed}",
        hint=f"run `{_command_of(needed)} --run {run}` first, or name weights with `--from`",
    )


def load_model(
    origin: Origin, device: torch.device, *, with_optimizer: bool = False
) -> LoadedModel:
    """Read the model and its tokenizer.

    Raises:
        DataError: the checkpoint is damaged, or its run has another tokenizer than it was
            trained with.
    """
    checkpoint = checkpoints.load_checkpoint(origin.path, with_optimizer=with_optimizer)
    tokenizer = Tokenizer.load(origin.run_dir / TOKENIZER_DIR)
    expected = checkpoint.state["tokenizer_fingerprint"]
    if tokenizer.fingerprint != expected:
        raise DataError(
            f"`{origin.path}` was trained with tokenizer {expected[:12]}, "
            f"its run has {tokenizer.fingerprint[:12]}",
            hint="restore the run's `tokenizer` folder, or train again",
        )
    model = GPT(GPTConfig.from_json(checkpoint.state["model"]))
    model.load_state_dict(dict(checkpoint.model))
    return LoadedModel(model.to(device), tokenizer, origin, checkpoint)


def _origin_at_path(reference: str) -> Origin:
    path = Path(reference).expanduser()
    if not path.exists():
        raise ConfigError(
            f"`{reference}` names no stage and is no path",
            hint="use `sft`, `sft@200`, `otherrun/base@600` or the path of a checkpoint",
        )
    if (path / checkpoints.MANIFEST).is_file() and path.name.startswith("step_"):
        return Origin(path.resolve())
    newest = checkpoints.latest_checkpoint(path)
    if newest is None:
        raise MissingFileError(
            f"there is no checkpoint in `{reference}`", hint="name a `step_...` folder or a stage"
        )
    return Origin(newest.resolve())


def _command_of(stage: str) -> str:
    return "aquachat rl" if stage == "rl" else f"aquachat train {stage}"
