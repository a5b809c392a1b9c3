"""Is a difference in counts more than chance: chi-square, binomial; and quantiles of lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MIN_EXPECTED: Final = 5.0
"""A cell with fewer expected rows is left out of a chi-square, the usual rule (Cochran 1954)."""


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """A goodness-of-fit test."""

    statistic: float
    degrees_of_freedom: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in characters."""

    count: int
    mean: float
    minimum: int
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    maximum: int


def lengths_of(values: Sequence[int]) -> Lengths | None:
    """Quantiles of lengths, between two of them by a straight line; None of nothing."""
    if not values:
        return None
    array = np.asarray(values)
    low, p5, p25, median, p75, p95, high = np.quantile(array, QUANTILES).tolist()
    return Lengths(len(values), float(array.mean()), int(low), p5, p25, median, p75, p95, int(high))


def goodness_of_fit(
    observed: Mapping[str, float], expected: Mapping[str, float]
) -> ChiSquare | None:
    """How far counts are from what is expected of them (Pearson 1900).

    Cells with fewer than `MIN_EXPECTED` expected are left out; None where fewer than two are left.

    Args:
        observed: count of each cell, 0 where it is not named.
        expected: of each cell.
    """
    cells = [cell for cell, count in expected.items() if count >= MIN_EXPECTED]
    if len(cells) < 2:
        return None
    # What is expected of the cells that are left has to add up to what was observed in them.
    scale = sum(observed.get(cell, 0) for cell in cells) / sum(expected[cell] for cell in cells)
    if scale == 0:
        return None
    statistic = sum(
        (observed.get(cell, 0) - scale * expected[cell]) ** 2 / (scale * expected[cell])
        for cell in cells
    )
    degrees = len(cells) - 1
    return ChiSquare(statistic, degrees, chi_square_p_value(statistic, degrees))


def chi_square_p_value(statistic: float, degrees_of_freedom: int) -> float:
    """The probability of a chi-square variable above `statistic`.

    The regularised upper incomplete gamma function by its recurrence, Abramowitz and Stegun 26.4.4
    and 26.4.5.

    Example:
        chi_square_p_value(9.488, 4)   # 0.0500
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    a = 0.5 if degrees_of_freedom % 2 else 1.0
    total = math.erfc(math.sqrt(half)) if degrees_of_freedom % 2 else math.exp(-half)
    while a < degrees_of_freedom / 2:
        total += math.exp(a * math.log(half) - half - math.lgamma(a + 1))
        a += 1
    return min(total, 1.0)


def binomial_p_value(successes: int, expected: float, variance: float) -> float:
    """Two-sided, by the normal approximation with continuity correction.

    Args:
        successes: of independent trials whose chances may differ.
        expected: the sum of their chances.
        variance: the sum of chance * (1 - chance).
    """
    if variance <= 0:
        return 1.0
    distance = max(abs(successes - expected) - 0.5, 0) / math.sqrt(variance)
    return math.erfc(distance / math.sqrt(2))
