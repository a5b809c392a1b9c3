"""The loss around trained weights, over two planes.

- Along two random directions, each filter scaled to the norm of the filter of the weights (Li et
  al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4), so that a step means the
  same for every layer and every model. A filter is a row of a matrix; vectors and scalars stay.
- Along the two directions in which the checkpoints of the run lie farthest apart (its section 7:
  principal components of the differences from the final weights), with the path on it.

Everything is float64 on sums and float32 on weights, seeded, and leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aquachat.errors import DataError
from aquachat.model.gpt import GPT
from aquachat.track.surface import PathPoint, Surface

GRID: Final = 15
"""Points along each direction; odd, so that the weights themselves are one of them."""
RADIUS: Final = 1.0
"""How far the random plane reaches: at 1 a step is as long as the filters themselves."""
MARGIN: Final = 0.25
"""Of the path's extent, added on every side of the trajectory plane."""

Direction = Mapping[str, Tensor]
Measure = Callable[[], float]
"""The loss of the model as it is now."""


def random_direction(weights: Mapping[str, Tensor], generator: torch.Generator) -> Direction:
    """Gaussian noise whose every row has the norm of the row of `weights`; vectors get none."""
    found = {}
    for name, tensor in weights.items():
        if tensor.dim() < 2:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        norms = tensor.float().cpu().norm(dim=-1, keepdim=True)
        noise *= norms / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        found[name] = noise.to(tensor.device)
    return found


@torch.no_grad()
def losses_over(
    model: GPT,
    directions: tuple[Direction, Direction],
    xs: Sequence[float],
    ys: Sequence[float],
    measure: Measure,
    advance: Callable[[], object] = lambda: None,
) -> list[list[float]]:
    """`measure()` at the weights plus x times the first and y times the second direction."""
    parameters = dict(model.named_parameters())
    start = {name: parameters[name].detach().clone() for name in {*directions[0], *directions[1]}}
    losses: list[list[float]] = []
    try:
        for y in ys:
            row = []
            for x in xs:
                for name, tensor in start.items():
                    place = parameters[name].copy_(tensor)
                    for factor, direction in zip((x, y), directions, strict=True):
                        if factor and name in direction:
                            place.add_(direction[name], alpha=factor)
                row.append(measure())
                advance()
            losses.append(row)
    finally:
        for name, tensor in start.items():
            parameters[name].copy_(tensor)
    return losses


def random_surface(
    model: GPT, measure: Measure, *, seed: int, advance: Callable[[], object] = lambda: None
) -> Surface:
    """The loss along two filter-normalised random directions."""
    generator = torch.Generator().manual_seed(seed)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    directions = random_direction(weights, generator), random_direction(weights, generator)
    steps = [RADIUS * (2 * index / (GRID - 1) - 1) for index in range(GRID)]
    return Surface(
        kind="random",
        title="Loss around the final weights",
        xs=steps,
        ys=steps,
        losses=losses_over(model, directions, steps, steps, measure, advance),
        note="Two random directions; a step of 1 is as long as the filters of the weights.",
    )


def trajectory_surface(
    model: GPT,
    checkpoints: Mapping[str, Path],
    measure: Measure,
    advance: Callable[[], object] = lambda: None,
) -> Surface | None:
    """The loss over the plane that the checkpoints spread most in; None for fewer than three.

    Args:
        model: with the final weights, those of the last checkpoint.
        checkpoints: name -> folder, oldest first; all of one shape.
        measure: the loss of the model as it is.
        advance: called after each loss.

    Raises:
        DataError: a checkpoint cannot be read, or is of another shape.
    """
    if len(checkpoints) < 3:
        return None
    folders = list(checkpoints.values())
    final = {name: parameter.detach() for name, parameter in model.named_parameters()}
    gram = _gram(folders, final)
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0)[:2].clamp(min=0), vectors.flip(1)[:, :2]
    if float(values[1]) <= 1e-9 * float(values[0]) or float(values[0]) == 0.0:
        return None  # all on one line, or no movement at all
    signs = torch.where(vectors[0] < 0, -1.0, 1.0)  # the first checkpoint is at positive steps
    vectors = vectors * signs
    coordinates = vectors * values.sqrt()  # (checkpoint, direction)
    directions = _combined(folders, final, vectors / values.sqrt())
    xs, ys = (_range(coordinates[:, axis].tolist()) for axis in (0, 1))
    losses = losses_over(model, directions, xs, ys, measure, advance)
    path = []
    for number, (name, folder) in enumerate(checkpoints.items()):
        loss = _loss_at(model, folder, final, measure)
        advance()
        x, y = (float(coordinate) for coordinate in coordinates[number])
        path.append(PathPoint(name, x, y, loss))
    share = [float(value / gram.trace()) for value in values]
    return Surface(
        kind="trajectory",
        title="Training dynamics",
        xs=xs,
        ys=ys,
        losses=losses,
        path=path,
        note=(
            f"The plane in which the checkpoints lie farthest apart: {100 * share[0]:.0f}% and "
            f"{100 * share[1]:.0f}% of their squared distance from the final weights. Steps are "
            "in units of the weights; each mark stands at its checkpoint's own loss."
        ),
    )


def num_losses(num_checkpoints: int) -> int:
    """How often the loss is measured for both surfaces."""
    grid = GRID * GRID
    return grid + (grid + num_checkpoints if num_checkpoints >= 3 else 0)


def _gram(folders: Sequence[Path], final: Direction) -> Tensor:
    """(n, n) float64 inner products of the checkpoints' differences from the final weights.

    Tensor by tensor, so that only one of each checkpoint is in memory at a time.
    """
    gram = torch.zeros(len(folders), len(folders), dtype=torch.float64)
    for name, tensor in final.items():
        differences = [(_tensor(folder, name, tensor)).flatten() for folder in folders]
        for i, first in enumerate(differences):
            for j, second in enumerate(differences[: i + 1]):
                product = torch.dot(first.double(), second.double())
                gram[i, j] += product
                if i != j:
                    gram[j, i] += product
    return gram


def _combined(
    folders: Sequence[Path], final: Direction, factors: Tensor
) -> tuple[Direction, Direction]:
    """The two directions as sums of the checkpoints' differences: unit vectors, orthogonal."""
    found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, tensor in final.items():
        differences = [_tensor(folder, name, tensor) for folder in folders]
        for axis in (0, 1):
            total = torch.zeros_like(differences[0])
            for number, difference in enumerate(differences):
                total.add_(difference, alpha=float(factors[number, axis]))
            found[axis][name] = total.to(tensor.device)
    return found


@torch.no_grad()
def _loss_at(model: GPT, folder: Path, final: Direction, measure: Measure) -> float:
    start = {name: tensor.clone() for name, tensor in final.items()}
    try:
        for name, parameter in model.named_parameters():
            parameter.add_(_tensor(folder, name, start[name]).to(parameter.device))
        return measure()
    finally:
        for name, parameter in model.named_parameters():
            parameter.copy_(start[name])


def _tensor(folder: Path, name: str, final: Tensor) -> Tensor:
    """A checkpoint's weight minus the final one, float32 on the CPU."""
    file = folder / "model.safetensors"
    try:
        with safe_open(file, framework="pt") as tensors:
            found = tensors.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"`{file}` cannot be read: {error}", hint="remove that checkpoint's folder"
        ) from error
    if found.shape != final.shape:
        raise DataError(
            f"`{file}` is of another model than the final weights",
            hint="leave `--landscape` out for a run of several models",
        )
    difference: Tensor = found.float() - final.float().cpu()
    return difference


def _range(values: Sequence[float]) -> list[float]:
    """Grid steps that hold the final weights, at 0, and all values, with a margin."""
    low, high = min(0.0, *values), max(0.0, *values)
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    return [low + (high - low) * index / (GRID - 1) for index in range(GRID)]
