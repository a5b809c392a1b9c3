"""The plane is where it is said to be, and the model is as it was afterwards."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aquachat.errors import DataError
from aquachat.model.batch import Batch
from aquachat.model.gpt import GPT
from aquachat.train import landscape
from aquachat.train.checkpoint import Checkpoint, save_checkpoint
from aquachat.train.landscape import (
    losses_over,
    num_losses,
    random_direction,
    random_surface,
    trajectory_surface,
)
from aquachat.train.stages import mean_loss
from tests.model.models import make_model, make_tokens
from tests.train.loops import WORLD


@pytest.fixture(autouse=True)
def _small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landscape, "GRID", 5)


def weights_of(model: GPT) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def measure_of(model: GPT) -> partial[float]:
    tokens = make_tokens(2, 9)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], tokens[:, 1:].numel())
    return partial(mean_loss, model, [batch], WORLD)


def save_moved(folder: Path, model: GPT, steps: list[tuple[float, float]]) -> dict[str, Path]:
    """Checkpoints at `x` times one and `y` times another direction from the model's weights."""
    generator = torch.Generator().manual_seed(5)
    weights = weights_of(model)
    directions = random_direction(weights, generator), random_direction(weights, generator)
    found = {}
    for number, (x, y) in enumerate(steps, start=1):
        moved = {name: tensor.clone() for name, tensor in weights.items()}
        for name in directions[0]:
            moved[name] += x * directions[0][name] + y * directions[1][name]
        found[f"sft@{number}"] = save_checkpoint(folder, Checkpoint(number, moved, {}, {}))
    return found


def test_every_filter_of_a_direction_has_the_norm_of_the_weights_filter() -> None:
    weights = weights_of(make_model("nanochat"))
    direction = random_direction(weights, torch.Generator().manual_seed(0))
    for name, tensor in direction.items():
        expected = weights[name].norm(dim=-1)
        torch.testing.assert_close(tensor.norm(dim=-1), expected, rtol=1e-4, atol=1e-6)
    assert direction.keys() == {name for name, tensor in weights.items() if tensor.dim() > 1}


def test_a_direction_follows_the_scale_of_the_weights() -> None:
    weights = {"a": torch.ones(3, 4), "b": torch.zeros(2, 2)}
    one = random_direction(weights, torch.Generator().manual_seed(1))
    ten = random_direction({"a": 10 * weights["a"]}, torch.Generator().manual_seed(1))
    torch.testing.assert_close(10 * one["a"], ten["a"])
    assert not one["b"].any()


def test_the_middle_of_the_random_surface_is_the_models_own_loss() -> None:
    model = make_model()
    measure = measure_of(model)
    before, own = weights_of(model), measure()
    surface = random_surface(model, measure, seed=3)
    assert surface.xs[2] == surface.ys[2] == 0.0
    assert surface.losses[2][2] == own
    assert len({loss for row in surface.losses for loss in row}) > 20
    for name, tensor in weights_of(model).items():
        assert torch.equal(tensor, before[name])
    assert random_surface(model, measure, seed=3) == surface
    assert random_surface(model, measure, seed=4) != surface


def test_a_loss_that_fails_leaves_the_model_as_it_was() -> None:
    model = make_model()
    before = weights_of(model)

    def fail() -> float:
        raise KeyboardInterrupt

    direction = random_direction(before, torch.Generator().manual_seed(0))
    with pytest.raises(KeyboardInterrupt):
        losses_over(model, (direction, direction), [1.0], [1.0], fail)
    for name, tensor in weights_of(model).items():
        assert torch.equal(tensor, before[name])


def test_the_surface_at_a_point_is_the_loss_of_the_weights_there() -> None:
    model = make_model()
    measure = measure_of(model)
    weights = weights_of(model)
    generator = torch.Generator().manual_seed(7)
    directions = random_direction(weights, generator), random_direction(weights, generator)
    (row,) = losses_over(model, directions, [0.5], [-0.25], measure)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in directions[0]:
                parameter += 0.5 * directions[0][name] - 0.25 * directions[1][name]
    assert row[0] == pytest.approx(measure(), abs=1e-5)


STEPS = [(1.0, 0.2), (0.8, -0.3), (0.3, 0.1), (0.0, 0.0)]


def test_a_path_in_a_plane_lies_on_the_surface(tmp_path: Path) -> None:
    """Where all checkpoints lie in one plane, the plane found is that one, at their distances."""
    model = make_model()
    before = weights_of(model)
    checkpoints = save_moved(tmp_path, model, STEPS)
    surface = trajectory_surface(model, checkpoints, measure_of(model))
    assert surface is not None
    names = [point.name for point in surface.path]
    assert names == list(checkpoints)
    last = surface.path[-1]
    assert (last.x, last.y) == (pytest.approx(0, abs=1e-4), pytest.approx(0, abs=1e-4))
    assert last.loss == measure_of(model)()
    for point, path in zip(surface.path, checkpoints.values(), strict=True):
        moved = make_model()
        moved.load_state_dict(torch_load(path), strict=False)
        squares = [
            float((tensor - before[name]).double().pow(2).sum())
            for name, tensor in weights_of(moved).items()
        ]
        distance = point.x**2 + point.y**2
        assert distance == pytest.approx(sum(squares), rel=1e-3, abs=1e-6)
        assert point.loss == pytest.approx(measure_of(moved)(), abs=1e-4)
        assert min(surface.xs) < point.x < max(surface.xs)
    shares = re.findall(r"(\d+)%", surface.note)
    assert sum(map(int, shares)) in (99, 100, 101)
    for name, tensor in weights_of(model).items():
        assert torch.equal(tensor, before[name])


def torch_load(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")


@pytest.mark.parametrize(
    "steps", [STEPS[:2], [(1.0, 0.0), (0.5, 0.0), (0.0, 0.0)], [(0.0, 0.0)] * 3]
)
def test_no_plane_is_drawn_through_points_that_span_none(
    tmp_path: Path, steps: list[tuple[float, float]]
) -> None:
    model = make_model()
    checkpoints = save_moved(tmp_path, model, steps)
    assert trajectory_surface(model, checkpoints, measure_of(model)) is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    model = make_model()
    checkpoints = save_moved(tmp_path, model, STEPS)
    other = make_model(hidden_size=64)
    with pytest.raises(DataError, match="another model"):
        trajectory_surface(other, checkpoints, measure_of(other))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    model = make_model()
    checkpoints = save_moved(tmp_path, model, STEPS)
    file = checkpoints["sft@2"] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match="step_000002"):
        trajectory_surface(model, checkpoints, measure_of(model))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_cost_is_known_before(tmp_path: Path, count: int) -> None:
    model = make_model()
    calls = 0

    def advance() -> None:
        nonlocal calls
        calls += 1

    checkpoints = save_moved(tmp_path, model, STEPS[-count:])
    random_surface(model, measure_of(model), seed=0, advance=advance)
    trajectory_surface(model, checkpoints, measure_of(model), advance)
    assert calls == num_losses(count)
