"""Scores over several tasks, each measured from what guessing gives: CORE and ChatCORE.

The centred accuracy of a task is (accuracy - baseline) / (1 - baseline): 0 is guessing, 1 is all
right. The score is the mean over tasks (Li et al. 2024, DataComp-LM, arXiv:2406.11794).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aquachat.eval.stats import Interval


def centred(accuracy: float, baseline: float) -> float:
    """(accuracy - baseline) / (1 - baseline); below 0 for worse than guessing.

    Example:
        centred(0.625, 0.25)   # 0.5

    Raises:
        ValueError: the baseline is not in [0, 1).
    """
    if not 0.0 <= baseline < 1.0:
        raise ValueError(f"a baseline of {baseline} leaves nothing to measure")
    return (accuracy - baseline) / (1.0 - baseline)


@dataclass(frozen=True, slots=True)
class CentredTask:
    """What a model scored on one task of a score."""

    name: str
    accuracy: float
    ci95: Interval
    baseline: float
    """What guessing scores, from 0 to 1."""
    num_examples: int
    protocol: str
    split: str = ""

    @property
    def centred(self) -> float:
        """The centred accuracy."""
        return centred(self.accuracy, self.baseline)

    @property
    def centred_ci95(self) -> Interval:
        """The ends of the interval, centred."""
        low, high = self.ci95
        return centred(low, self.baseline), centred(high, self.baseline)

    @classmethod
    def from_json(cls, name: str, entry: Mapping[str, Any]) -> CentredTask:
        """The task that `to_json` wrote under `name`.

        Raises:
            KeyError, TypeError or ValueError: it is no such entry.
        """
        low, high = entry["ci95"]
        return cls(
            name,
            entry["accuracy"],
            (low, high),
            entry["baseline"],
            entry["num_examples"],
            entry["protocol"],
            entry["split"],
        )

    def to_json(self) -> dict[str, Any]:
        """As under `tasks` of a score."""
        return {
            "accuracy": self.accuracy,
            "ci95": list(self.ci95),
            "baseline": self.baseline,
            "centred": self.centred,
            "num_examples": self.num_examples,
            "protocol": self.protocol,
            "split": self.split,
        }


@dataclass(frozen=True, slots=True)
class CentredScore:
    """The mean centred accuracy over the tasks that were measured.

    Raises:
        ValueError: no task was measured.
    """

    name: str
    """`CORE` or `CHATCORE`."""
    tasks: tuple[CentredTask, ...]
    absent: tuple[str, ...]
    """Tasks of the score that were not measured, by name."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"{self.name} of no task")

    @property
    def is_whole(self) -> bool:
        """Whether every task was measured: only then it is the score of that name."""
        return not self.absent

    @property
    def prefix(self) -> str:
        """Where its metrics are: `core` or `chatcore`."""
        return self.name.lower()

    @property
    def metric(self) -> str:
        """`core/metric`, or `core/metric_partial` where a task is absent: another quantity."""
        return f"{self.prefix}/metric" if self.is_whole else f"{self.prefix}/metric_partial"

    @property
    def value(self) -> float:
        """The mean centred accuracy."""
        return sum(task.centred for task in self.tasks) / len(self.tasks)

    @property
    def ci95(self) -> Interval:
        """An interval over questions, the tasks taken as they are.

        The tasks' intervals are combined as by Zou and Donner (2008): distances to the ends add as
        squares. Unlike a normal interval it does not vanish where a task is wholly right or wrong.
        """
        below = sum((task.centred - task.centred_ci95[0]) ** 2 for task in self.tasks)
        above = sum((task.centred_ci95[1] - task.centred) ** 2 for task in self.tasks)
        count = len(self.tasks)
        return self.value - math.sqrt(below) / count, self.value + math.sqrt(above) / count

    def metrics(self) -> dict[str, float]:
        """For a line of `metrics.jsonl`: the score, and each task's centred accuracy."""
        by_task = {f"{self.prefix}/{task.name}": task.centred for task in self.tasks}
        return {self.metric: self.value, **by_task}

    def to_json(self) -> dict[str, Any]:
        """An entry of `scores`, without stage and checkpoint, which only the caller knows."""
        return {
            "name": self.name,
            "metric": self.metric,
            "value": self.value,
            "ci95": list(self.ci95),
            "num_tasks": len(self.tasks) + len(self.absent),
            "num_measured": len(self.tasks),
            "absent": list(self.absent),
            "tasks": {task.name: task.to_json() for task in self.tasks},
        }
