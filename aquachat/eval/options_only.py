"""A classifier that sees the options and not the question: what the options alone give away.

A conditional logit in numpy. Each option is described by its place, its length and its number among
the others and by the words in it; a weighted sum of that is its score, and the softmax over the
scores of a question is what is fitted, on the task's training split. Places have weights only where
options are asked in one order: over all orders every place is right equally often. A model that
does not clearly beat this has not shown that it reads questions (Poliak and others 2018, arXiv
1805.01042, for entailment).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from aquachat.errors import DataError
from aquachat.tasks.base import ChoiceItem

FloatArray = npt.NDArray[np.float64]

MAX_PLACES: Final = 8
"""Places that have a weight of their own."""
WORD_BUCKETS: Final = 128
NUM_STEPS: Final = 150
LEARNING_RATE: Final = 0.1
PENALTIES: Final = (1e-3, 1e-2, 1e-1)
"""Of the squared weights; the one that fits a fifth of the training questions best is taken."""
VALIDATION_SHARE: Final = 5
MIN_QUESTIONS: Final = 10

_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_WORD: Final = re.compile(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]")


@dataclass(frozen=True, slots=True)
class OptionsOnly:
    """Fitted weights, (features,)."""

    weights: FloatArray
    num_questions: int
    """It was fitted on."""

    def choose(self, item: ChoiceItem) -> str:
        """The letter of the option with the highest score, the first of equals."""
        return item.letters[int(np.argmax(option_features(item.options) @ self.weights))]


def fit_options_only(items: Sequence[ChoiceItem], *, with_places: bool) -> OptionsOnly:
    """Fit on the questions of a training split; the same items give the same weights.

    Args:
        items: with their gold answers; questions are not looked at.
        with_places: options are asked in their own order only, so that places may tell something.

    Raises:
        DataError: there are fewer than ten items.
    """
    if len(items) < MIN_QUESTIONS:
        raise DataError(
            f"{len(items)} training questions are too few for the options-only baseline",
            hint="prepare the task's training split",
        )
    whole = _Design.of(items, with_places)
    training = _Design.of([x for i, x in enumerate(items) if i % VALIDATION_SHARE], with_places)
    validation = _Design.of(items[::VALIDATION_SHARE], with_places)
    losses = [validation.loss(training.fit(penalty)) for penalty in PENALTIES]
    best = PENALTIES[int(np.argmin(losses))]
    return OptionsOnly(whole.fit(best), len(items))


def option_features(options: Sequence[str]) -> FloatArray:
    """What is said of each option, (options, features)."""
    places = np.zeros((len(options), MAX_PLACES))
    for place in range(len(options)):
        places[place, min(place, MAX_PLACES - 1)] = 1.0
    return np.concatenate([places, _contents(options)], axis=1)


def _contents(options: Sequence[str]) -> FloatArray:
    """Features that do not depend on the order, (options, features)."""
    numbers = np.array([_number(option) for option in options])
    lengths = np.array([float(len(option)) for option in options])
    kinds = [
        [
            "none of" in option.lower(),
            "all of" in option.lower(),
            "cannot be" in option.lower() or "not sufficient" in option.lower(),
            "." in option,
            "/" in option,
            "%" in option,
            "-" in option,
            option.rstrip(" .").endswith(("0", "00")),
            len(_NUMBER.findall(option)) > 1,
        ]
        for option in options
    ]
    shared = [sum(_shape(option) == _shape(other) for other in options) for option in options]
    words = np.zeros((len(options), WORD_BUCKETS))
    for line, option in zip(words, options, strict=True):
        for word in _WORD.findall(option.lower()):
            line[zlib.crc32(word.encode()) % WORD_BUCKETS] = 1.0
    return np.concatenate(
        [
            _standing(lengths),
            _standing(numbers),
            np.array(kinds, dtype=np.float64),
            np.array(shared, dtype=np.float64)[:, None] / len(options),
            words,
        ],
        axis=1,
    )


def _standing(values: FloatArray) -> FloatArray:
    """Where each value stands among the others, (n, 6): rank, ends, middle, distance, presence."""
    known = ~np.isnan(values)
    found = np.zeros((values.size, 6))
    if known.sum() < 2:
        return found
    present = values[known]
    below = (present[None, :] < present[:, None]).sum(axis=1)
    above = (present[None, :] > present[:, None]).sum(axis=1)
    logs = np.sign(present) * np.log1p(np.abs(present))
    spread = float(np.ptp(logs)) or 1.0
    found[known] = np.stack(
        [
            below / (present.size - 1),
            (below == 0) * 1.0,
            (above == 0) * 1.0,
            (below == above) * 1.0,
            np.abs(logs - np.median(logs)) / spread,
            np.ones(present.size),
        ],
        axis=1,
    )
    return found


def _number(option: str) -> float:
    match = _NUMBER.search(option)
    return float(match[0].replace(",", "")) if match else float("nan")


def _shape(option: str) -> str:
    """The option with its numbers left out."""
    return _NUMBER.sub("#", option).strip().lower()


@dataclass(frozen=True, slots=True)
class _Design:
    """Options of all rows behind each other."""

    features: FloatArray
    """(options, features)."""
    starts: npt.NDArray[np.int64]
    """(rows,) the first option of each row."""
    gold: npt.NDArray[np.int64]
    """(rows,) the right option of each row."""
    row_of: npt.NDArray[np.int64]
    """(options,)."""

    @classmethod
    def of(cls, items: Sequence[ChoiceItem], with_places: bool) -> _Design:
        """The rows of some questions."""
        sizes = np.array([len(item.options) for item in items])
        starts = np.cumsum(sizes) - sizes
        answers = np.array([item.answer_index for item in items])
        features = np.concatenate([option_features(item.options) for item in items])
        if not with_places:
            features[:, :MAX_PLACES] = 0.0
        return cls(features, starts, starts + answers, np.repeat(np.arange(len(items)), sizes))

    def probabilities(self, weights: FloatArray) -> FloatArray:
        """(options,) softmax within each row."""
        scores = self.features @ weights
        scores = np.exp(scores - np.maximum.reduceat(scores, self.starts)[self.row_of])
        found: FloatArray = scores / np.add.reduceat(scores, self.starts)[self.row_of]
        return found

    def loss(self, weights: FloatArray) -> float:
        """Mean nats of the right option."""
        return float(-np.log(self.probabilities(weights)[self.gold] + 1e-12).mean())

    def fit(self, penalty: float) -> FloatArray:
        """Weights that fit best, by Adam (Kingma and Ba 2014) on the whole set."""
        weights = np.zeros(self.features.shape[1])
        first, second = np.zeros_like(weights), np.zeros_like(weights)
        for step in range(1, NUM_STEPS + 1):
            wrong = self.probabilities(weights)
            wrong[self.gold] -= 1.0
            gradient = wrong @ self.features / self.starts.size + 2 * penalty * weights
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            mean, square = first / (1 - 0.9**step), second / (1 - 0.99**step)
            weights = weights - LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)
        return weights
