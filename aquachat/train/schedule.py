"""How long a stage trains, and its learning rate and momentum at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aquachat.config.recipes import ChatRecipe, TrainRecipe
from aquachat.errors import ConfigError

MUON_MOMENTUM_START = 0.85
MUON_MOMENTUM_END = 0.95
MUON_MOMENTUM_STEPS = 300


@dataclass(frozen=True, slots=True)
class Schedule:
    """Linear warm-up, a constant stretch, then a linear decay (trapezoid)."""

    num_steps: int
    warmup_steps: int
    warmdown_ratio: float
    final_lr_fraction: float

    def lr_factor(self, step: int) -> float:
        """The factor on every learning rate at 0-based `step`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        warmdown_steps = round(self.warmdown_ratio * self.num_steps)
        remaining = self.num_steps - step
        if remaining > warmdown_steps or warmdown_steps == 0:
            return 1.0
        share = remaining / warmdown_steps
        return share + (1.0 - share) * self.final_lr_fraction

    def muon_momentum(self, step: int) -> float:
        """Muon's momentum at `step`: .85 rising to .95 over the first 300 steps."""
        share = min(step / MUON_MOMENTUM_STEPS, 1.0)
        return MUON_MOMENTUM_START + share * (MUON_MOMENTUM_END - MUON_MOMENTUM_START)


def make_schedule(recipe: TrainRecipe, *, num_steps: int) -> Schedule:
    """The schedule of a stage that takes `num_steps` optimizer steps.

    Raises:
        ConfigError: no step would be taken.
    """
    if num_steps < 1:
        raise ConfigError(
            "this stage would take no optimizer step",
            hint="raise `--num-iterations`, or give it more data",
        )
    return Schedule(
        num_steps=num_steps,
        warmup_steps=min(recipe.warmup_steps, num_steps),
        warmdown_ratio=recipe.warmdown_ratio,
        final_lr_fraction=recipe.final_lr_fraction,
    )


def steps_for_epochs(num_epochs: float, num_examples: int, examples_per_step: int) -> int:
    """Optimizer steps that make `num_epochs` passes over `num_examples`."""
    return max(1, math.ceil(num_epochs * num_examples / examples_per_step))


def chat_steps(recipe: ChatRecipe, epoch_examples: int) -> int:
    """Optimizer steps of mid-training or SFT.

    Args:
        recipe: its `num_iterations`, else its `num_epochs`.
        epoch_examples: after which every source was used up once; a pass where the recipe's
            `examples_per_epoch` is 0.
    """
    examples = recipe.examples_per_epoch or epoch_examples
    return recipe.num_iterations or steps_for_epochs(
        recipe.num_epochs, examples, recipe.examples_per_step
    )
