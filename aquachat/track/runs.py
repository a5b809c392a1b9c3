"""What runs there are, read from their folders; half-written ones included."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquachat.errors import MissingFileError
from aquachat.track.logger import METRICS_FILE, read_metrics
from aquachat.track.values import as_number

STAGES = ("base", "mid", "sft", "rl")
"""In the order in which they are trained."""
RECIPE_FILE = "recipe.toml"
MIXTURE_FILE = "mixture.json"
"""What a stage of conversations took from each source."""
KEY_METRICS = ("eval/aqua_accuracy", "eval/accuracy", "rl/acc", "val/bpb", "val/loss", "train/loss")
"""What a stage is judged by at a glance: the first of these that it logged."""
_STEP_DIR = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True, slots=True)
class StageSummary:
    """One stage of a run; what could not be found out is None or empty."""

    name: str
    path: Path
    last_step: int | None
    checkpoints: tuple[int, ...]
    """Steps of the finished checkpoints, oldest first."""
    seconds: float | None
    tokens: int | None
    depth: int | None
    metrics: Mapping[str, float]
    """The last value of each metric."""

    @property
    def key_metric(self) -> tuple[str, float] | None:
        """Name and last value of what the stage is judged by."""
        return next(((k, self.metrics[k]) for k in KEY_METRICS if k in self.metrics), None)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run and its stages in training order."""

    name: str
    path: Path
    modified_s: float
    """Unix time of the last change by a stage; reports and evaluations do not count."""
    stages: tuple[StageSummary, ...]

    @property
    def depth(self) -> int | None:
        """The depth of the model, None where no stage says."""
        return next((stage.depth for stage in self.stages if stage.depth is not None), None)

    def to_json(self) -> dict[str, Any]:
        """An entry of `aquachat runs --json`."""
        return {
            "run": self.name,
            "path": str(self.path),
            "depth": self.depth,
            "stages": [
                {
                    "stage": stage.name,
                    "step": stage.last_step,
                    "checkpoints": list(stage.checkpoints),
                    "seconds": stage.seconds,
                    "metrics": dict(stage.metrics),
                }
                for stage in self.stages
            ],
        }


def list_runs(runs_dir: Path) -> list[RunSummary]:
    """All runs, the one a stage wrote to last first. An absent folder holds none."""
    try:
        folders = [path for path in runs_dir.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    runs = [read_run(path) for path in folders if not path.name.startswith(".")]
    return sorted(runs, key=lambda run: (-run.modified_s, run.name))


def newest_run(runs_dir: Path, *, depth: int | None = None, stage: str | None = None) -> RunSummary:
    """The run that a stage wrote to last, among those of `depth` and with `stage` if given.

    Raises:
        MissingFileError: there is none.
    """
    for run in list_runs(runs_dir):
        has_stage = stage is None or any(found.name == stage for found in run.stages)
        if has_stage and (depth is None or run.depth == depth):
            return run
    wanted = "".join(
        [f" of depth {depth}" if depth is not None else "", f" with stage {stage}" if stage else ""]
    )
    raise MissingFileError(
        f"there is no run{wanted} in `{runs_dir}`", hint="run `aquachat run tiny`, or name `--run`"
    )


def read_run(run_dir: Path) -> RunSummary:
    """What is known of one run."""
    stages = tuple(read_stage(run_dir / name) for name in STAGES if (run_dir / name).is_dir())
    watched = [path for stage in stages for path in (stage.path, stage.path / METRICS_FILE)]
    times = [found for path in watched if (found := _modified_s(path)) is not None]
    return RunSummary(run_dir.name, run_dir, max(times, default=_modified_s(run_dir) or 0), stages)


def read_stage(stage_dir: Path) -> StageSummary:
    """What is known of one stage."""
    try:
        rows = read_metrics(stage_dir / METRICS_FILE)
    except (MissingFileError, OSError):
        rows = []
    checkpoints = list_steps(stage_dir)
    progress = _progress(stage_dir, checkpoints)
    times = [as_number(row.get("time_s")) for row in rows]
    steps = [*checkpoints[-1:], *(row["step"] for row in rows[-1:])]
    return StageSummary(
        name=stage_dir.name,
        path=stage_dir,
        last_step=max(steps, default=None),
        checkpoints=checkpoints,
        seconds=max((time_s for time_s in times if time_s is not None), default=None),
        tokens=progress.get("tokens"),
        depth=_depth(read_recipe(stage_dir)),
        metrics=last_values(rows),
    )


def last_values(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The last value of each metric; NaN and infinities stay what they are."""
    values: dict[str, float] = {}
    for row in rows:
        numbers = ((name, as_number(value)) for name, value in row.items() if "/" in name)
        values.update({name: number for name, number in numbers if number is not None})
    return values


def read_recipe(stage_dir: Path) -> dict[str, Any]:
    """The recipe a stage was started with; empty where it is missing or cannot be read."""
    try:
        return tomllib.loads((stage_dir / RECIPE_FILE).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


def list_steps(stage_dir: Path) -> tuple[int, ...]:
    """Steps of the checkpoints that have their manifest, which is written last."""
    try:
        names = [path.parent.name for path in stage_dir.glob("step_*/manifest.json")]
    except OSError:
        return ()
    return tuple(sorted(int(match[1]) for name in names if (match := _STEP_DIR.fullmatch(name))))


def _progress(stage_dir: Path, checkpoints: tuple[int, ...]) -> dict[str, Any]:
    if not checkpoints:
        return {}
    path = stage_dir / f"step_{checkpoints[-1]:06d}" / "state.json"
    try:
        progress = json.loads(path.read_text("utf-8"))["state"]["progress"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return progress if isinstance(progress, dict) else {}


def _depth(recipe: Mapping[str, Any]) -> int | None:
    model = recipe.get("model")
    depth = recipe.get("depth", model.get("depth") if isinstance(model, dict) else None)
    return depth if isinstance(depth, int) else None


def _modified_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
