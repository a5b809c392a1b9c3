"""Whether a model's probabilities mean what they say: reliability by bin, and its mean gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aquachat.eval.estimates import Questions
from aquachat.eval.predictions import Prediction

NUM_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Replies whose confidence, the probability of the chosen letter, is in (low, high]."""

    low: float
    high: float
    num_replies: int
    weight: float
    """Share of all questions, a question in several orders counting by its share of replies."""
    confidence: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """An entry of `bins`."""
        return {
            "low": self.low,
            "high": self.high,
            "num_replies": self.num_replies,
            "weight": self.weight,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence and accuracy lie apart (Guo and others 2017, arXiv 1706.04599)."""

    ece: float
    """Expected calibration error: sum over bins of weight * abs(accuracy - confidence)."""
    brier: float
    """Mean over questions of the sum over letters of (probability - right)^2; 0 is perfect."""
    confidence: float
    """Mean probability of the chosen letter."""
    bins: tuple[ReliabilityBin, ...]
    """Only those that hold a reply."""

    def to_json(self) -> dict[str, Any]:
        """The `calibration` of a result."""
        return {
            "ece": self.ece,
            "brier": self.brier,
            "mean_confidence": self.confidence,
            "num_bins": NUM_BINS,
            "bins": [each.to_json() for each in self.bins],
        }


def calibration(questions: Questions) -> Calibration | None:
    """Of replies that carry probabilities (the categorical protocol); None where none do."""
    asked = [[row for row in rows if row.probabilities is not None] for rows in questions.values()]
    weighted = [(row, 1.0 / len(rows)) for rows in asked for row in rows]
    if not weighted:
        return None
    total = sum(weight for _, weight in weighted)
    by_bin: list[list[tuple[Prediction, float]]] = [[] for _ in range(NUM_BINS)]
    for row, weight in weighted:
        by_bin[_index(confidence_of(row))].append((row, weight))
    bins = [_bin(index, rows, total) for index, rows in enumerate(by_bin)]
    filled = tuple(each for each in bins if each is not None)
    return Calibration(
        ece=sum(each.weight * abs(each.accuracy - each.confidence) for each in filled),
        brier=sum(weight * _squared_error(row) for row, weight in weighted) / total,
        confidence=sum(weight * confidence_of(row) for row, weight in weighted) / total,
        bins=filled,
    )


def confidence_of(row: Prediction) -> float:
    """The largest probability among the letters."""
    assert row.probabilities is not None
    return max(row.probabilities.values())


def _index(confidence: float) -> int:
    """The bin (i / 10, (i + 1) / 10] that holds it."""
    edges = [index / NUM_BINS for index in range(1, NUM_BINS)]
    return sum(confidence > edge for edge in edges)


def _bin(
    index: int, weighted: Sequence[tuple[Prediction, float]], total: float
) -> ReliabilityBin | None:
    if not weighted:
        return None
    weight = sum(weight for _, weight in weighted)
    return ReliabilityBin(
        low=index / NUM_BINS,
        high=(index + 1) / NUM_BINS,
        num_replies=len(weighted),
        weight=weight / total,
        confidence=sum(w * confidence_of(row) for row, w in weighted) / weight,
        accuracy=sum(w * row.correct for row, w in weighted) / weight,
    )


def _squared_error(row: Prediction) -> float:
    assert row.probabilities is not None
    return sum((p - (letter == row.gold)) ** 2 for letter, p in row.probabilities.items())
