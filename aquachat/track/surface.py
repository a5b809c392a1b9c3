"""A loss surface over a plane of weights, as a file: `landscape.json` of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aquachat.files import write_text
from aquachat.track.values import as_number, to_json

LANDSCAPE_FILE: Final = "landscape.json"
FORMAT: Final = "aquachat-landscape"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class PathPoint:
    """A checkpoint on the surface."""

    name: str
    """For example `sft@200`."""
    x: float
    y: float
    loss: float
    """Of the checkpoint itself, in nats per target: it need not lie in the plane."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Losses over a grid of steps from the final weights along two directions."""

    kind: str
    """`random` or `trajectory`."""
    title: str
    xs: Sequence[float]
    ys: Sequence[float]
    losses: Sequence[Sequence[float]]
    """`losses[j][i]` at `(xs[i], ys[j])`, in nats per target."""
    path: Sequence[PathPoint] = ()
    note: str = ""

    @property
    def finite(self) -> list[float]:
        """The losses that are numbers."""
        return [loss for row in self.losses for loss in row if math.isfinite(loss)]


@dataclass(frozen=True, slots=True)
class Landscape:
    """What `aquachat report --landscape` measured."""

    checkpoint: str
    data: str
    """What the loss is measured on."""
    num_targets: int
    num_evaluations: int
    seconds: float
    seed: int
    surfaces: Sequence[Surface]


def write_landscape(run_dir: Path, landscape: Landscape) -> Path:
    """Write `landscape.json` of a run, atomically."""
    path = run_dir / LANDSCAPE_FILE
    document = {"format": FORMAT, "version": VERSION} | _fields(landscape)
    write_text(path, to_json(document) + "\n")
    return path


def read_landscape(run_dir: Path) -> Landscape | None:
    """What `write_landscape` wrote; None where there is none, or it cannot be read."""
    try:
        content = json.loads((run_dir / LANDSCAPE_FILE).read_text("utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            return None
        surfaces = tuple(_surface(entry) for entry in content["surfaces"])
        names = ("checkpoint", "data", "num_targets", "num_evaluations", "seconds", "seed")
        return Landscape(**{name: content[name] for name in names}, surfaces=surfaces)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _surface(entry: Mapping[str, Any]) -> Surface:
    xs, ys = _numbers(entry["xs"]), _numbers(entry["ys"])
    losses = tuple(_numbers(row) for row in entry["losses"])
    if len(losses) != len(ys) or any(len(row) != len(xs) for row in losses) or len(xs) < 2:
        raise ValueError("the losses do not fit the grid")
    path = tuple(
        PathPoint(str(p["name"]), *_numbers([p["x"], p["y"], p["loss"]])) for p in entry["path"]
    )
    found = Surface(str(entry["kind"]), str(entry["title"]), xs, ys, losses, path, entry["note"])
    if not found.finite:
        raise ValueError("no loss is a number")
    return found


def _numbers(values: Sequence[Any]) -> list[float]:
    numbers = [as_number(value) for value in values]
    if any(number is None for number in numbers):
        raise ValueError("a loss is no number")
    return [number for number in numbers if number is not None]


def _fields(landscape: Landscape) -> dict[str, Any]:
    return {name: getattr(landscape, name) for name in Landscape.__slots__}
