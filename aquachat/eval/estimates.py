"""Accuracies over questions and parts of them, from graded replies.

The unit is the question: `rows` are all replies to one question, in all its option orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

from aquachat.eval import stats
from aquachat.eval.predictions import Prediction

GROUPED_BY: Final = ("num_steps", "tier", "family", "category", "subject")
"""Attributes of examples by which accuracy is also given."""
RATIONALE_WORDS: Final = "rationale_words"
"""Attribute that holds the words of the gold rationale."""
RATIONALE_BINS: Final = (0, 1, 21, 41, 81)
"""First number of words of each bin; the last has no end."""

Questions = Mapping[str, Sequence[Prediction]]
"""Question id -> its rows."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An accuracy with its interval over questions."""

    accuracy: float
    ci95: stats.Interval
    num_questions: int

    def to_json(self) -> dict[str, Any]:
        """As in `by_num_steps`."""
        return {
            "accuracy": self.accuracy,
            "ci95": list(self.ci95),
            "num_examples": self.num_questions,
        }


def by_question(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    """The rows of each question, in the order in which questions first come."""
    found: dict[str, list[Prediction]] = {}
    for row in predictions:
        found.setdefault(row.id, []).append(row)
    return found


def question_mean(rows: Sequence[Prediction]) -> float:
    """Share of a question's replies that are right."""
    return sum(row.correct for row in rows) / len(rows)


def estimate(questions: Iterable[Sequence[Prediction]]) -> Estimate:
    """The mean over questions of the mean over their rows."""
    rows_of = list(questions)
    means = [question_mean(rows) for rows in rows_of]
    interval = stats.accuracy_interval(means, rows_per_question=max(map(len, rows_of)))
    return Estimate(fmean(means), interval, len(means))


def groups(questions: Questions) -> dict[str, dict[str, Estimate]]:
    """Attribute -> value -> accuracy of the questions that have it."""
    found = {}
    for name in GROUPED_BY:
        found[name] = _parts(
            (rows[0].attributes[name], rows)
            for rows in questions.values()
            if name in rows[0].attributes
        )
    found[RATIONALE_WORDS] = _parts(
        (_bin_of(int(rows[0].attributes[RATIONALE_WORDS])), rows)
        for rows in questions.values()
        if RATIONALE_WORDS in rows[0].attributes
    )
    found["option_order"] = _order_parts(questions)
    return {name: parts for name, parts in found.items() if parts}


def is_fixed(rows: Sequence[Prediction]) -> bool:
    """Whether a question with options was asked in one order only."""
    return len(rows[0].choices) > 1 and num_orders(rows) == 1


def num_orders(rows: Sequence[Prediction]) -> int:
    """In how many option orders a question was asked."""
    return len({row.order for row in rows})


def num_fixed(questions: Questions) -> int:
    """Questions asked in one order only where others were asked in several."""
    if max(map(num_orders, questions.values())) == 1:
        return 0
    return sum(map(is_fixed, questions.values()))


def at_k(
    questions: Questions, score: Callable[[Sequence[Prediction], int], float]
) -> dict[int, float]:
    """Mean over questions of the mean over option orders of `score(rows of one order, k)`."""
    by_order = []
    for rows in questions.values():
        orders: dict[int, list[Prediction]] = {}
        for row in rows:
            orders.setdefault(row.order, []).append(row)
        by_order.append(list(orders.values()))
    fewest = min(len(rows) for orders in by_order for rows in orders)
    return {
        k: fmean(fmean(score(rows, k) for rows in orders) for orders in by_order)
        for k in stats.sample_counts(fewest)
    }


def _parts(members: Iterable[tuple[str | int, Sequence[Prediction]]]) -> dict[str, Estimate]:
    by_value: dict[str | int, list[Sequence[Prediction]]] = {}
    for value, rows in members:
        by_value.setdefault(value, []).append(rows)
    ordered = sorted(by_value, key=lambda value: (isinstance(value, str), _rank(value), value))
    return {str(value): estimate(by_value[value]) for value in ordered}


def _rank(value: str | int) -> int:
    """Bins of words stand in the order of their ends, not of their letters."""
    names = [_bin_name(index) for index in range(len(RATIONALE_BINS))]
    return names.index(value) if value in names else -1


def _bin_of(num_words: int) -> str:
    return _bin_name(sum(num_words >= first for first in RATIONALE_BINS) - 1)


def _bin_name(index: int) -> str:
    """`0`, `1-20`, ..., `81+`."""
    ends = [f"{a}-{b - 1}" if b - a > 1 else str(a) for a, b in pairwise(RATIONALE_BINS)]
    return [*ends, f"{RATIONALE_BINS[-1]}+"][index]


def _order_parts(questions: Questions) -> dict[str, Estimate]:
    """Questions asked in every order, and apart those whose options have to stay, if any."""
    if not num_fixed(questions):
        return {}
    fixed = [rows for rows in questions.values() if is_fixed(rows)]
    rotated = [rows for rows in questions.values() if not is_fixed(rows)]
    return {"rotated": estimate(rotated), "fixed": estimate(fixed)}
