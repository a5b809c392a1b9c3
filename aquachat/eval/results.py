"""From graded replies to the figures that are reported.

Everything here is a function of the predictions, so a file of them gives the same figures again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from aquachat.errors import DataError
from aquachat.eval import estimates, stats
from aquachat.eval.calibration import Calibration, calibration
from aquachat.eval.estimates import Estimate, Questions
from aquachat.eval.predictions import Prediction
from aquachat.text.render import StopReason

ALL_QUESTIONS: Final = "all"
HARDER: Final = "harder"
"""The part of a comparison that holds problems of two steps or more, of all splits."""
NOT_ASKED_FOR: Final = "no options-only classifier was given"


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
    options_only: float | None
    """What a classifier that sees the options alone scores on the same rows."""
    options_only_note: str
    """Why `options_only` is None; empty where it is not."""
    gold_probability: float | None
    """Mean probability of the right answer: of its letter among the letters, or, where a question
    was answered several times, the share of its samples that are right."""
    calibration: Calibration | None
    """Categorical protocol."""
    letters: Mapping[str, int]
    maj_at_k: Mapping[int, float]
    pass_at_k: Mapping[int, float]
    invalid: float
    """Share of replies that name no valid answer."""
    truncated: float
    """Share of replies cut by the token limit."""
    format_adherence: float | None
    """Generative protocol: share of replies that end by themselves in the one answer line."""
    tool_use: float | None
    """Generative protocol: share of replies with a well-formed calculator call."""
    tool_success: float | None
    """Share of those calls that the calculator could evaluate; None without calls."""
    num_tokens: int
    """Tokens of all replies."""
    groups: Mapping[str, Mapping[str, Estimate]]
    """Attribute -> value -> accuracy."""
    seconds: float
    predictions: Sequence[Prediction] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """An entry of `results`, without stage and checkpoint, which only the caller knows."""
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
            "baselines": self._baselines(),
            "letter_histogram": dict(self.letters),
            "maj_at_k": {str(k): value for k, value in self.maj_at_k.items()},
            "pass_at_k": {str(k): value for k, value in self.pass_at_k.items()},
            "invalid_fraction": self.invalid,
            "truncated_fraction": self.truncated,
            "format_adherence": self.format_adherence,
            "tool_use": self.tool_use,
            "tool_success": self.tool_success,
            "completion_tokens": self.num_tokens,
            "seconds": self.seconds,
        }
        if self.options_only_note and self.chance is not None:
            document["options_only_note"] = self.options_only_note
        if self.gold_probability is not None:
            document["mean_gold_probability"] = self.gold_probability
        if self.calibration is not None:
            document["calibration"] = self.calibration.to_json()
        for name, parts in self.groups.items():
            document[f"by_{name}"] = {key: value.to_json() for key, value in parts.items()}
        return document

    def _baselines(self) -> dict[str, float | None]:
        """None of them for free-form answers."""
        if self.chance is None:
            return {}
        return {
            "chance": self.chance,
            "majority_letter": self.majority_letter,
            "options_only": self.options_only,
        }


def recompute(
    predictions: Sequence[Prediction],
    *,
    task: str,
    split: str,
    protocol: str,
    num_unasked: int = 0,
    seconds: float = 0.0,
    options_only_note: str = NOT_ASKED_FOR,
) -> EvalResult:
    """The result that these predictions give.

    Args:
        predictions: every reply, those of one question and order in the order they were sampled.
        task: name of the task.
        split: of the task.
        protocol: how the answers were made.
        num_unasked: rows of the split from which no question could be made.
        seconds: what the evaluation took.
        options_only_note: why the predictions hold no letters of an options-only classifier; left
            out where they do.

    Raises:
        DataError: there are no predictions.
    """
    if not predictions:
        raise DataError(f"{task}/{split} has no prediction to score", hint="run `aquachat eval`")
    questions = estimates.by_question(predictions)
    overall = estimates.estimate(questions.values())
    letters = max((row.choices for row in predictions), key=len)
    options_only = _options_only(questions)
    written = predictions if protocol == "generative" else ()
    return EvalResult(
        task=task,
        split=split,
        protocol=protocol,
        num_examples=len(questions) + num_unasked,
        num_scored=len(questions),
        num_replies=len(predictions),
        num_fixed_order=estimates.num_fixed(questions),
        accuracy=overall.accuracy,
        ci95=overall.ci95,
        chance=_chance(questions) if letters else None,
        majority_letter=_majority_letter(questions) if letters else None,
        options_only=options_only,
        options_only_note=options_only_note if options_only is None else "",
        gold_probability=_gold_probability(questions),
        calibration=calibration(questions),
        letters=stats.letter_histogram([row.answer for row in predictions], letters),
        maj_at_k=estimates.at_k(questions, _majority),
        pass_at_k=estimates.at_k(questions, _passes),
        invalid=fmean(row.answer is None for row in predictions),
        truncated=fmean(row.finish == StopReason.LENGTH for row in predictions),
        format_adherence=fmean(row.is_well_formed for row in written) if written else None,
        tool_use=fmean(row.num_calls > 0 for row in written) if written else None,
        tool_success=_tool_success(written),
        num_tokens=sum(row.num_tokens for row in predictions),
        groups=estimates.groups(questions),
        seconds=seconds,
        predictions=predictions,
    )


def question_means(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Question id -> share of its replies that are right."""
    found = estimates.by_question(predictions)
    return {key: estimates.question_mean(rows) for key, rows in found.items()}


def compare(a: EvalResult, b: EvalResult) -> dict[str, stats.PairedDifference]:
    """How much better `b` is than `a`, over the questions both were asked: all, and each tier.

    Returns:
        `all` and the names of tiers, if the task has more than one -> the paired difference.

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
    if len(parts) == 2:  # one tier: its comparison would stand there twice
        parts = {ALL_QUESTIONS: parts[ALL_QUESTIONS]}
    return {
        name: stats.paired_difference([before[k] for k in keys], [after[k] for k in keys])
        for name, keys in parts.items()
    }


def compare_harder(
    pairs: Sequence[tuple[EvalResult, EvalResult]],
) -> stats.PairedDifference | None:
    """How much better the second of each pair is on problems of two steps or more, all together.

    Args:
        pairs: results of two checkpoints, one pair for each split.

    Returns:
        None where no question says that it has two steps or more.
    """
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    for a, b in pairs:
        before |= question_means([row for row in a.predictions if _num_steps(row) > 1])
        after |= question_means([row for row in b.predictions if _num_steps(row) > 1])
    keys = [key for key in before if key in after]
    if not keys:
        return None
    return stats.paired_difference([before[k] for k in keys], [after[k] for k in keys])


def _num_steps(row: Prediction) -> int:
    """The calculator calls of the gold rationale, where the question says how many; else 0."""
    found = row.attributes.get("num_steps", 0)
    return found if isinstance(found, int) else 0


def _chance(questions: Questions) -> float:
    return fmean(1 / len(rows[0].choices) for rows in questions.values())


def _majority_letter(questions: Questions) -> float:
    rows = [(row.gold, 1 / len(rows)) for rows in questions.values() for row in rows]
    return stats.majority_letter_accuracy([gold for gold, _ in rows], [w for _, w in rows])


def _options_only(questions: Questions) -> float | None:
    if any(row.options_only is None for rows in questions.values() for row in rows):
        return None
    return fmean(fmean(row.options_only == row.gold for row in rows) for rows in questions.values())


def _gold_probability(questions: Questions) -> float | None:
    means = [
        fmean(row.probabilities[row.gold] for row in rows if row.probabilities is not None)
        for rows in questions.values()
        if any(row.probabilities is not None for row in rows)
    ]
    if means:
        return fmean(means)
    if all(len(rows) > estimates.num_orders(rows) for rows in questions.values()):
        return fmean(map(estimates.question_mean, questions.values()))
    return None


def _tool_success(predictions: Sequence[Prediction]) -> float | None:
    num_calls = sum(row.num_calls for row in predictions)
    return sum(row.num_executed_calls for row in predictions) / num_calls if num_calls else None


def _majority(rows: Sequence[Prediction], k: int) -> float:
    return stats.majority_at_k([row.answer for row in rows], rows[0].gold, k)


def _passes(rows: Sequence[Prediction], k: int) -> float:
    return stats.pass_at_k(len(rows), sum(row.correct for row in rows), k)
