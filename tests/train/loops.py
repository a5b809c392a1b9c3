"""A small trainer over random tokens, for tests of the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from aquachat.config.recipes import TrainRecipe
from aquachat.model.batch import IGNORE, Batch
from aquachat.train.loop import Trainer
from aquachat.train.objective import NextToken
from aquachat.train.schedule import make_schedule
from aquachat.train.session import make_optimizer
from aquachat.world import World
from tests.model.models import make_model

WORLD = World(0, 1, torch.device("cpu"), torch.float32)
RECIPE = TrainRecipe(
    num_iterations=6, save_every=2, warmup_steps=2, warmdown_ratio=0.5, log_every=1
)


@dataclass
class RandomSource:
    """Eight rows a step, cut into micro-batches of `rows`; targets are unequally masked."""

    rows: int = 8
    poison_step: int | None = None

    def step_batches(self, step: int) -> Sequence[Batch]:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(61, (8, 17), generator=generator)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
        for row in range(8):
            targets[row, : row * 2] = IGNORE
        if step == self.poison_step:
            targets[:] = 10**6  # an id that the vocabulary lacks
        return [
            Batch(inputs[i : i + self.rows], part, int((part != IGNORE).sum()))
            for i in range(0, 8, self.rows)
            for part in [targets[i : i + self.rows]]
        ]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state == {}


@dataclass
class MemoryLogger:
    lines: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def log(self, step: int, metrics: Mapping[str, object]) -> None:
        self.lines.append((step, dict(metrics)))

    def log_samples(self, step: int, rows: Any) -> None:
        raise AssertionError("these stages have no samples")


def make_trainer(
    folder: Path, *, source: RandomSource | None = None, recipe: TrainRecipe = RECIPE, **extra: Any
) -> Trainer:
    model = make_model()
    return Trainer(
        model=model,
        optimizer=make_optimizer(model, recipe),
        source=source or RandomSource(),
        objective=NextToken(),
        schedule=make_schedule(recipe, num_steps=recipe.num_iterations),
        recipe=recipe,
        world=WORLD,
        stage="base",
        stage_dir=folder,
        logger=MemoryLogger(),
        **extra,
    )


def with_steps(num_steps: int) -> TrainRecipe:
    return replace(RECIPE, num_iterations=num_steps)
