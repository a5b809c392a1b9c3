"""ChatCORE: what a chat model can do, as one number over seven tasks.

nanochat's score (mean centred accuracy over ARC-Easy, ARC-Challenge, MMLU, GSM8K, HumanEval and
SpellingBee) with AQuA in it, which is what these models are trained for. Letters are chosen among
the options, all else is written and graded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aquachat.eval.centred import CentredScore, CentredTask
from aquachat.eval.results import EvalResult
from aquachat.tasks.base import ScoringProtocol

CHATCORE: Final = "CHATCORE"
CHATCORE_TASKS: Final[Mapping[str, tuple[float, ScoringProtocol]]] = {
    "ARC-EASY": (0.25, "categorical"),
    "ARC-CHALLENGE": (0.25, "categorical"),
    "MMLU": (0.25, "categorical"),
    "GSM8K": (0.0, "generative"),
    "HUMANEVAL": (0.0, "generative"),
    "SPELLING": (0.0, "generative"),
    "AQUA": (0.2, "categorical"),
}
"""What guessing scores, and how the task is asked where `CHATCORE` is."""
MIN_TASKS: Final = 2
"""Fewer tasks make no score, unless it was asked for."""


def chatcore(results: Sequence[EvalResult], *, is_asked_for: bool = False) -> CentredScore | None:
    """The score that one checkpoint's results make; None where they are too few.

    Of a task that was measured more than once, its own protocol counts, else what came first.
    """
    tasks = [
        _centred_task(name, found)
        for name in CHATCORE_TASKS
        if (found := _result_of(name, results)) is not None
    ]
    if len(tasks) < (1 if is_asked_for else MIN_TASKS):
        return None
    measured = {task.name for task in tasks}
    absent = tuple(name for name in CHATCORE_TASKS if name not in measured)
    return CentredScore(CHATCORE, tuple(tasks), absent)


def _result_of(name: str, results: Sequence[EvalResult]) -> EvalResult | None:
    same = [result for result in results if result.task == name]
    _, protocol = CHATCORE_TASKS[name]
    return next((result for result in same if result.protocol == protocol), next(iter(same), None))


def _centred_task(name: str, result: EvalResult) -> CentredTask:
    baseline, _ = CHATCORE_TASKS[name]
    return CentredTask(
        name,
        result.accuracy,
        result.ci95,
        baseline,
        result.num_scored,
        result.protocol,
        result.split,
    )
