"""Mixing data sets by weight: which example of which part is the n-th, for any n, without a scan.

Weights become whole shares of a cycle. Within a cycle each share is due in a window, and of those
whose window is open the one that closes first is taken (earliest deadline first; R. Tijdeman, "The
chairman assignment problem", 1980, and the P-fair schedules of Baruah and others, 1996). So after
any n examples a part has been used floor(n w) or ceil(n w) times, and n w exactly at each whole
cycle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aquachat.data.order import EpochOrders
from aquachat.errors import ConfigError

MAX_CYCLE: Final = 1 << 16
"""Longest cycle. Weights that need a longer one are rounded to this many shares."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One example of the mixture."""

    part: int
    epoch: int
    """How often the part had been used up before."""
    index: int
    """Of the example in the part's data set."""


@dataclass(frozen=True, slots=True)
class PartUse:
    """What a mixture took from one part."""

    examples: int
    epochs: float
    share: float
    """Of all examples taken; 0 before the first."""


class Mixture:
    """A deterministic interleaving of parts, each shuffled anew in every epoch.

    Args:
        names: one a part; the name decides the part's shuffle, so that adding a part leaves the
            order of the others alone.
        sizes: examples in each part, at least 1.
        weights: one a part, above 0; only their ratios count.
        seed: decides the shuffles.

    Raises:
        ConfigError: no part, a repeated name, an empty part, or a weight that is not above 0.
    """

    def __init__(
        self, names: Sequence[str], sizes: Sequence[int], weights: Sequence[float], seed: int
    ) -> None:
        _check_parts(names, sizes, weights)
        self.names, self.sizes = tuple(names), tuple(sizes)
        self.shares = cycle_shares(weights)
        self._cycle = interleave(self.shares)
        self._before = occurrences(self._cycle)
        self._orders = [
            EpochOrders(size, seed, "mixture", name)
            for name, size in zip(names, sizes, strict=True)
        ]

    def draw(self, position: int) -> Draw:
        """The example at `position` (0-based) of the endless mixture."""
        cycles, offset = divmod(position, len(self._cycle))
        part = int(self._cycle[offset])
        taken = cycles * self.shares[part] + int(self._before[offset])
        epoch, place = divmod(taken, self.sizes[part])
        return Draw(part, epoch, int(self._orders[part][epoch][place]))

    def use(self, num_examples: int) -> dict[str, PartUse]:
        """What the first `num_examples` took from each part."""
        cycles, rest = divmod(num_examples, len(self._cycle))
        partial = np.bincount(self._cycle[:rest], minlength=len(self.names))
        counts = [
            cycles * share + int(extra) for share, extra in zip(self.shares, partial, strict=True)
        ]
        return {
            name: PartUse(count, count / size, count / num_examples if num_examples else 0.0)
            for name, size, count in zip(self.names, self.sizes, counts, strict=True)
        }

    def epoch_examples(self) -> int:
        """Positions after which every part has been used up at least once."""
        total = sum(self.shares)
        return max(
            -(-size * total // share) for size, share in zip(self.sizes, self.shares, strict=True)
        )


def cycle_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in the ratio of the weights, exact where their sum can be at most `MAX_CYCLE`.

    A weight is taken as the decimal number it is written as: 0.1 is 1/10.

    Example:
        cycle_shares([0.5, 0.3, 0.2])   # (5, 3, 2)
    """
    exact = [Fraction(str(weight)) for weight in weights]
    whole = [int(value * math.lcm(*(v.denominator for v in exact))) for value in exact]
    whole = [value // math.gcd(*whole) for value in whole]
    if sum(whole) <= MAX_CYCLE:
        return tuple(whole)
    total = sum(exact)
    return tuple(max(1, round(value / total * MAX_CYCLE)) for value in exact)


def interleave(shares: Sequence[int]) -> NDArray[np.int32]:
    """(sum of shares,) the part of each position, as even as whole examples allow."""
    total = sum(shares)
    cycle = np.empty(total, dtype=np.int32)
    taken = [0] * len(shares)
    for position in range(total):
        due, part = min(
            (-(-(taken[part] + 1) * total // share), part)
            for part, share in enumerate(shares)
            if taken[part] * total < (position + 1) * share
        )
        assert due > position, "an earliest-deadline schedule of this kind misses none"
        cycle[position] = part
        taken[part] += 1
    return cycle


def occurrences(cycle: NDArray[np.int32]) -> NDArray[np.int64]:
    """(positions,) how often the part at each position stood before it in the cycle."""
    before = np.empty(len(cycle), dtype=np.int64)
    for part in np.unique(cycle):
        places = np.flatnonzero(cycle == part)
        before[places] = np.arange(len(places))
    return before


def _check_parts(names: Sequence[str], sizes: Sequence[int], weights: Sequence[float]) -> None:
    if not names:
        raise ConfigError("the mixture has no part", hint="give at least one data set a weight")
    if len(set(names)) < len(names):
        raise ConfigError(f"the mixture has a part twice: {', '.join(names)}")
    for name, size, weight in zip(names, sizes, weights, strict=True):
        if size < 1:
            raise ConfigError(
                f"the part `{name}` of the mixture has no example",
                hint="prepare the data set, or take it out of the mixture",
            )
        if not 0 < weight < math.inf:
            raise ConfigError(
                f"the part `{name}` of the mixture has weight {weight}",
                hint="use a number above 0, or take the part out",
            )
