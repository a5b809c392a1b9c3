"""SYNTHETIC: the embedded word problems as a task.

Splits: `train`, and the held-out `new_numbers`, `new_phrasings` and `more_steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

from aquachat.errors import ConfigError
from aquachat.tasks.choice_task import ChoiceTask
from aquachat.tasks.synthetic.generate import Split, generate_items

SYNTHETIC_SPLITS: tuple[str, ...] = get_args(Split)
DEFAULT_NUM_ITEMS = 1000
EVALUATION_SEED = 0
"""Of held-out problems that results are given on: the same for every run, whatever its seed."""


def synthetic_task(
    split: str,
    *,
    seed: int = EVALUATION_SEED,
    count: int = DEFAULT_NUM_ITEMS,
    tiers: Mapping[str, float] | None = None,
    start: int = 0,
) -> ChoiceTask:
    """Items `start` to `start + count - 1` of a split's endless seeded sequence.

    `tiers` weighs the tiers of a split that has several (see `generate_items`).

    Raises:
        ConfigError: a split or tier that is not known.
    """
    if split not in SYNTHETIC_SPLITS:
        raise ConfigError(
            f"SYNTHETIC has no split `{split}`", hint=f"use one of {', '.join(SYNTHETIC_SPLITS)}"
        )
    items = generate_items(cast(Split, split), seed=seed, count=count, tiers=tiers, start=start)
    return ChoiceTask("SYNTHETIC", split, list(items))
