"""From graded replies to the figures that are reported.

Everything here is a function of the predictions, so a file of them gives the same figures again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from aquachat.errors import DataError
from aquachat.eval import stats
from aquachat.eval.predictions import Prediction
from aquachat.text.render import StopReason

GROUPED_BY: Final = ("num_steps", "tier", "family", "category", "subject")
"""Attributes of examples by which accuracy is also given."""
ALL_QUESTIONS: Final = "all"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """What one checkpoint scored on one split of a task under one protocol.

    `accuracy` is the mean over questions of the mean over a question's option orders and samples.
    """

    task: str
    split: str
    protocol: str
    num_examples: int
    """Questions of the split, those included that could not be asked."""
    num_scored: int
    """Questions that were asked; a reply that never came counts as wrong."""
    num_replies: int
    num_fixed_order: int
    """Questions asked in one order only, since their options refer to each other."""
    accuracy: float
    ci95: stats.Interval
    chance: float | None
    """None for free-form answers."""
    majority_letter: float | None
    """What the best single letter would score on the same rows."""
    gold_probability: float | None
    """Categorical protocol: mean probability of the right letter."""
    letters: Mapping[str, int]
    maj_at_k: Mapping[int, float]
    pass_at_k: Mapping[int, float]
    invalid: float
    """Share of replies that name no valid answer."""
    truncated: float
    """Share of replies cut by the token limit."""
    num_tokens: int
    """Tokens of all replies."""
    groups: Mapping[str, Mapping[str, Estimate]]
    """Attribute -> value -> accuracy."""
    seconds: float
    predictions: Sequence[Prediction] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """An entry of `results`, without stage and checkpoint, which only the caller knows."""
        baselines = {"chance": self.chance, "majority_letter": self.majority_letter}
        document: dict[str, Any] = {
            "task": self.task,
            "split": self.split,
            "protocol": self.protocol,
            "num_examples": self.num_examples,
            "num_scored": self.num_scored,
            "num_replies": self.num_replies,
            "num_fixed_order": self.num_fixed_order,
            "accuracy": self.accuracy,
            "ci95": list(self.ci95),
            "baselines": {name: value for name, value in baselines.items() if value is not None},
            "letter_histogram": dict(self.letters),
            "maj_at_k": {str(k): value for k, value in self.maj_at_k.items()},
            "pass_at_k": {str(k): value for k, value in self.pass_at_k.items()},
            "invalid_fraction": self.invalid,
            "truncated_fraction": self.truncated,
            "completion_tokens": self.num_tokens,
            "seconds": self.seconds,
        }
        if self.gold_probability is not None:
            document["mean_gold_probability"] = self.gold_probability
        for name, estimates in self.groups.items():
            document[f"by_{name}"] = {key: value.to_json() for key, value in estimates.items()}
        return document


def recompute(
    predictions: Sequence[Prediction],
    *,
    task: str,
    split: str,
    protocol: str,
    num_unasked: int = 0,
    seconds: float = 0.0,
) -> EvalResult:
    """The result that these predictions give.

    Args:
        predictions: every reply, those of one question and order in the order they were sampled.
        task: name of the task.
        split: of the task.
        protocol: how the answers were made.
        num_unasked: rows of the split from which no question could be made.
        seconds: what the evaluation took.

    Raises:
        DataError: there are no predictions.
    """
    if not predictions:
        raise DataError(f"{task}/{split} has no prediction to score", hint="run `aquachat eval`")
    overall = _estimate([*(by_question := _by_question(predictions)).values()])
    orders = [len({row.order for row in rows}) for rows in by_question.values()]
    letters = max((row.choices for row in predictions), key=len)
    return EvalResult(
        task=task,
        split=split,
        protocol=protocol,
        num_examples=len(by_question) + num_unasked,
        num_scored=len(by_question),
        num_replies=len(predictions),
        num_fixed_order=sum(count < max(orders) for count in orders),
        accuracy=overall.accuracy,
        ci95=overall.ci95,
        chance=_chance(by_question) if letters else None,
        majority_letter=_majority_letter(by_question) if letters else None,
        gold_probability=_gold_probability(by_question),
        letters=stats.letter_histogram([row.answer for row in predictions], letters),
        maj_at_k=_at_k(by_question, _majority),
        pass_at_k=_at_k(by_question, _passes),
        invalid=fmean(row.answer is None for row in predictions),
        truncated=fmean(row.finish == StopReason.LENGTH for row in predictions),
        num_tokens=sum(row.num_tokens for row in predictions),
        groups=_groups(by_question),
        seconds=seconds,
        predictions=predictions,
    )


def question_means(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Question id -> share of its replies that are right."""
    return {key: _mean(rows) for key, rows in _by_question(predictions).items()}


def compare(a: EvalResult, b: EvalResult) -> dict[str, stats.PairedDifference]:
    """How much better `b` is than `a`, over the questions both were asked: all, and each tier.

    Returns:
        `all` and the names of tiers, if the task has any -> the paired difference.

    Raises:
        DataError: they have no question in common.
    """
    before, after = question_means(a.predictions), question_means(b.predictions)
    tiers = {row.id: str(row.attributes.get("tier", "")) for row in b.predictions}
    parts: dict[str, list[str]] = {ALL_QUESTIONS: [key for key in before if key in after]}
    if not parts[ALL_QUESTIONS]:
        raise DataError(
            f"the two results on {a.task}/{a.split} and {b.task}/{b.split} share no question",
            hint="evaluate both checkpoints on the same task",
        )
    for key in parts[ALL_QUESTIONS]:
        if tiers[key]:
            parts.setdefault(tiers[key], []).append(key)
    return {
        name: stats.paired_difference([before[k] for k in keys], [after[k] for k in keys])
        for name, keys in parts.items()
    }


_ByQuestion = Mapping[str, Sequence[Prediction]]


def _by_question(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    found: dict[str, list[Prediction]] = {}
    for row in predictions:
        found.setdefault(row.id, []).append(row)
    return found


def _mean(rows: Sequence[Prediction]) -> float:
    return sum(row.correct for row in rows) / len(rows)


def _estimate(questions: Sequence[Sequence[Prediction]]) -> Estimate:
    means = [_mean(rows) for rows in questions]
    interval = stats.accuracy_interval(means, rows_per_question=max(map(len, questions)))
    return Estimate(fmean(means), interval, len(means))


def _groups(by_question: _ByQuestion) -> dict[str, dict[str, Estimate]]:
    groups: dict[str, dict[str, Estimate]] = {}
    for name in GROUPED_BY:
        members: dict[str | int, list[Sequence[Prediction]]] = {}
        for rows in by_question.values():
            if name in rows[0].attributes:
                members.setdefault(rows[0].attributes[name], []).append(rows)
        if members:
            ordered = sorted(members, key=lambda value: (isinstance(value, str), value))
            groups[name] = {str(value): _estimate(members[value]) for value in ordered}
    return groups


def _chance(by_question: _ByQuestion) -> float:
    return fmean(1 / len(rows[0].choices) for rows in by_question.values())


def _majority_letter(by_question: _ByQuestion) -> float:
    rows = [(row.gold, 1 / len(rows)) for rows in by_question.values() for row in rows]
    return stats.majority_letter_accuracy([gold for gold, _ in rows], [w for _, w in rows])


def _gold_probability(by_question: _ByQuestion) -> float | None:
    means = [
        fmean(row.probabilities[row.gold] for row in rows if row.probabilities is not None)
        for rows in by_question.values()
        if any(row.probabilities is not None for row in rows)
    ]
    return fmean(means) if means else None


def _majority(rows: Sequence[Prediction], k: int) -> float:
    return stats.majority_at_k([row.answer for row in rows], rows[0].gold, k)


def _passes(rows: Sequence[Prediction], k: int) -> float:
    return stats.pass_at_k(len(rows), sum(row.correct for row in rows), k)


def _at_k(
    by_question: _ByQuestion, score: Callable[[Sequence[Prediction], int], float]
) -> dict[int, float]:
    """Mean over questions of the mean over option orders of `score(rows of one order, k)`."""
    orders_by_question = []
    for rows in by_question.values():
        orders: dict[int, list[Prediction]] = {}
        for row in rows:
            orders.setdefault(row.order, []).append(row)
        orders_by_question.append(list(orders.values()))
    fewest = min(len(rows) for orders in orders_by_question for rows in orders)
    return {
        k: fmean(fmean(score(rows, k) for rows in orders) for orders in orders_by_question)
        for k in stats.sample_counts(fewest)
    }
