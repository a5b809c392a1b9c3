"""Intervals, tests and baselines for scored answers. Numpy only; every random choice is seeded.

The unit of sampling is the question: replies to one question (in several option orders, or sampled
several times) are not independent, so questions are resampled whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
FloatArray = npt.NDArray[np.float64]

NUM_RESAMPLES: Final = 10_000
CONFIDENCE: Final = 0.95
MAX_EXACT_FLIPS: Final = 14
"""Up to this many questions that differ, all sign patterns are enumerated (16,384 of them)."""
BLOCK_ELEMENTS: Final = 4_000_000


def wilson_interval(successes: float, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval (1927) of a proportion; (0, 1) without trials.

    Example:
        wilson_interval(8, 10)   # (0.490, 0.943)
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    center = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, min(center - half, share)), min(1.0, max(center + half, share))


def bootstrap_interval(
    question_means: Sequence[float] | FloatArray,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of the mean over questions, questions resampled with replacement.

    Args:
        question_means: one number a question: the mean over its rows.
        seed: of the resampling; equal seeds give equal intervals.
        num_resamples: how many.
        confidence: the share of resamples inside.
    """
    means = np.asarray(question_means, dtype=np.float64)
    if means.size == 0:
        return 0.0, 1.0
    resampled = _resampled_means(means, seed, num_resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def accuracy_interval(
    question_means: Sequence[float] | FloatArray, *, rows_per_question: int, seed: int = 0
) -> Interval:
    """The interval of an accuracy.

    Bootstrap over questions; Wilson where each question has one row, and where all questions are
    wholly right or wholly wrong, since resampling equal numbers would claim certainty.
    """
    means = np.asarray(question_means, dtype=np.float64)
    is_uniform = means.size > 0 and bool((means == means[0]).all())
    if rows_per_question == 1 or (is_uniform and means[0] in (0.0, 1.0)):
        return wilson_interval(float(means.sum()), means.size)
    if is_uniform:
        return float(means[0]), float(means[0])
    return bootstrap_interval(means, seed=seed)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that k of the samples hold a right one; unbiased (Chen et al. 2021, equation 1).

    Raises:
        ValueError: k is above `num_samples`, or there are more right samples than samples.
    """
    if not 1 <= k <= num_samples or not 0 <= num_correct <= num_samples:
        raise ValueError(f"pass@{k} of {num_correct} right among {num_samples} is not defined")
    wrong = num_samples - num_correct
    return 1.0 - math.comb(wrong, k) / math.comb(num_samples, k)


def majority_at_k(answers: Sequence[Hashable | None], correct: Hashable, k: int) -> float:
    """The chance that the most frequent of k answers is right.

    The mean over the disjoint runs of k answers, in order. None is no vote; among tied answers one
    is drawn, so a tie of n counts 1/n. No votes at all are wrong.

    Example:
        majority_at_k(["A", "A", "B", "B"], "A", 4)   # 0.5
    """
    runs = [answers[start : start + k] for start in range(0, len(answers) - k + 1, k)]
    if not runs:
        raise ValueError(f"majority@{k} needs {k} answers, there are {len(answers)}")
    return sum(_majority_credit(run, correct) for run in runs) / len(runs)


def _majority_credit(answers: Sequence[Hashable | None], correct: Hashable) -> float:
    votes = Counter(answer for answer in answers if answer is not None)
    most = max(votes.values(), default=0)
    winners = [answer for answer, count in votes.items() if count == most]
    return 1.0 / len(winners) if correct in winners else 0.0


def sample_counts(num_samples: int) -> list[int]:
    """The k of pass@k and majority@k to report: powers of two, and all samples."""
    powers = [2**exponent for exponent in range(num_samples.bit_length())]
    return sorted({k for k in powers if k <= num_samples} | {num_samples})


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much better `b` is than `a` over the same questions."""

    difference: float
    """Mean of b minus a."""
    ci95: Interval
    p_value: float
    """Two-sided, of the hypothesis that a question is as likely to favour either."""
    num_questions: int

    def to_json(self) -> dict[str, Any]:
        """The figures of an entry of `comparisons`."""
        return {
            "difference": self.difference,
            "ci95": list(self.ci95),
            "p_value": self.p_value,
            "num_questions": self.num_questions,
        }


def paired_difference(
    a: Sequence[float] | FloatArray,
    b: Sequence[float] | FloatArray,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> PairedDifference:
    """Compare two checkpoints question by question: bootstrap interval and sign-flip test.

    Args:
        a: one mean a question.
        b: the same questions in the same order.
        seed: of the resampling and of the flips.
        num_resamples: of each.

    Raises:
        ValueError: not the same number of questions, or none.
    """
    before, after = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if before.shape != after.shape or not before.size:
        raise ValueError(f"cannot pair {before.size} questions with {after.size}")
    differences = after - before
    return PairedDifference(
        difference=float(differences.mean()),
        ci95=bootstrap_interval(differences, seed=seed, num_resamples=num_resamples),
        p_value=sign_flip_p_value(differences, seed=seed, num_flips=num_resamples),
        num_questions=before.size,
    )


def sign_flip_p_value(
    differences: FloatArray, *, seed: int = 0, num_flips: int = NUM_RESAMPLES
) -> float:
    """Two-sided p-value of a mean difference of 0, by flipping the sign of each question's.

    Exact where few questions differ; else (hits + 1) / (flips + 1), never 0.
    """
    moved = differences[differences != 0.0]
    if not moved.size:
        return 1.0
    # A pattern that reaches the observed sum exactly must count, whatever the order of addition.
    observed = abs(float(moved.sum())) - 1e-9 * float(np.abs(moved).sum())
    if moved.size <= MAX_EXACT_FLIPS:
        bits = np.arange(2**moved.size)[:, None] >> np.arange(moved.size) & 1
        return float((np.abs((1 - 2 * bits) @ moved) >= observed).mean())
    generator = np.random.default_rng([seed, 1])
    hits = 0
    for count in _blocks(num_flips, moved.size):
        signs = generator.integers(0, 2, (count, moved.size), dtype=np.int8) * 2.0 - 1.0
        hits += int((np.abs(signs @ moved) >= observed).sum())
    return (hits + 1) / (num_flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for how many there are (Holm 1979), in the order given.

    Rejecting where the adjusted value is at most 0.05 keeps the chance of any false rejection
    among them at most 0.05, however they depend on each other.

    Example:
        holm([0.01, 0.04, 0.03])   # [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def majority_letter_accuracy(gold: Sequence[str], weights: Sequence[float]) -> float:
    """What the best single letter would score on these rows, each with its weight."""
    totals: dict[str, float] = {}
    for letter, weight in zip(gold, weights, strict=True):
        totals[letter] = totals.get(letter, 0.0) + weight
    return max(totals.values()) / sum(totals.values())


def letter_histogram(answers: Sequence[str | None], letters: Sequence[str]) -> dict[str, int]:
    """How often each of `letters` was answered; None and other answers are left out."""
    counts = Counter(answers)
    return {letter: counts[letter] for letter in letters}


def _resampled_means(means: FloatArray, seed: int, num_resamples: int) -> FloatArray:
    generator = np.random.default_rng([seed, 0])
    blocks = [
        means[generator.integers(0, means.size, (count, means.size), dtype=np.int32)].mean(axis=1)
        for count in _blocks(num_resamples, means.size)
    ]
    return np.concatenate(blocks)


def _blocks(total: int, width: int) -> list[int]:
    """`total` rows of `width` in blocks of bounded memory."""
    rows = max(1, BLOCK_ELEMENTS // width)
    return [min(rows, total - start) for start in range(0, total, rows)]
