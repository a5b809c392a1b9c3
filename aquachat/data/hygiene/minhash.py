"""Near duplicates by MinHash and banding, each candidate verified by its exact Jaccard index.

Broder: On the resemblance and containment of documents (1997); banding as in Leskovec, Rajaraman,
Ullman: Mining of Massive Datasets, section 3.4. A candidate that is not as similar as the rule says
is never reported; `NearRule.recall` is how often one that is will be found.

Shapes: N questions, P permutations, K bands of R rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aquachat.data.hygiene.words import (
    ShingleSets,
    mixed,
    numbers_of,
    shingle_sets,
    window_hashes,
)

NUM_PERMUTATIONS: Final = 192
_SEED: Final = 20_171
_BLOCK_SHINGLES: Final = 1 << 14
_BLOCK_PAIRS: Final = 100_000
_MAX_ESTIMATE_ERROR: Final = 0.15
"""Over four standard deviations of an estimate from 192 permutations, 0.036 at most."""


@dataclass(frozen=True, slots=True)
class NearRule:
    """How similar two questions with the same numbers have to be, and how they are looked for."""

    jaccard: float
    band_rows: int

    @property
    def num_bands(self) -> int:
        """Bands that two questions can share."""
        return NUM_PERMUTATIONS // self.band_rows

    @property
    def recall(self) -> float:
        """The probability that a pair exactly at the threshold shares a band."""
        return float(1 - (1 - self.jaccard**self.band_rows) ** self.num_bands)


MIN_NUMBERS: Final = 2
SAME_NUMBERS: Final = NearRule(jaccard=0.5, band_rows=3)
"""For questions with the same two or more numbers, which are evidence of their own."""
FEW_NUMBERS: Final = NearRule(jaccard=0.85, band_rows=6)
"""For the others: one word makes another question of `Which metals are the most reactive?`."""
_Search = tuple[NearRule, int]
"""A rule, and whether numbers are read as digits (0) or as digits and words (1)."""
_SEARCHES: Final[tuple[_Search, ...]] = tuple(
    (rule, spelt) for rule in (SAME_NUMBERS, FEW_NUMBERS) for spelt in (0, 1)
)


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two questions by their places, and how much of their shingles they share."""

    left: int
    right: int
    jaccard: float


class MinHashIndex:
    """Normalised questions among which near duplicates of each other or of others are found.

    Two are near duplicates when they hold the same numbers and the Jaccard index of their character
    shingles is at least `SAME_NUMBERS.jaccard`, or `FEW_NUMBERS.jaccard` where they hold fewer than
    `MIN_NUMBERS` numbers. Numbers are the same as digits, or as digits and words (`two`, `2`).
    Equal input gives equal output: permutations and order are fixed.
    """

    def __init__(self, normalised: Sequence[str]) -> None:
        self._questions = _Questions(normalised)
        self._tables: dict[_Search, list[_Band]] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def pairs(self) -> list[NearPair]:
        """All near duplicates among the questions, `left < right`, in order."""
        joins = ((search, self._joined(search)) for search in _SEARCHES)
        return self._near(self._questions, joins)

    def matches(self, normalised: Sequence[str]) -> list[NearPair]:
        """Near duplicates between other questions (`left`) and those of the index (`right`)."""
        numbers = _number_keys(normalised)
        is_known = np.isin(numbers.keys, self._questions.numbers.keys).any(axis=1)
        chosen = np.flatnonzero(is_known)
        if not len(chosen):
            return []
        others = _Questions([normalised[index] for index in chosen.tolist()])
        joins = ((search, self._crossed(search, others)) for search in _SEARCHES)
        return [
            NearPair(int(chosen[pair.left]), pair.right, pair.jaccard)
            for pair in self._near(others, joins)
        ]

    def _joined(self, search: _Search) -> NDArray[np.int64]:
        codes = _no_codes()
        for band in self._questions.bands(*search):
            left, right = _shared(band, band)
            is_upper = left < right
            codes = np.union1d(codes, left[is_upper] * len(self) + right[is_upper])
        return codes

    def _crossed(self, search: _Search, others: _Questions) -> NDArray[np.int64]:
        if search not in self._tables:
            self._tables[search] = list(self._questions.bands(*search))
        codes = _no_codes()
        for theirs, ours in zip(others.bands(*search), self._tables[search], strict=True):
            left, right = _shared(theirs, ours)
            codes = np.union1d(codes, left * len(self) + right)
        return codes

    def _near(
        self, others: _Questions, joins: Iterable[tuple[_Search, NDArray[np.int64]]]
    ) -> list[NearPair]:
        """The pairs among candidates, coded as `left * len(self) + right`, that are similar."""
        found: dict[tuple[int, int], NearPair] = {}
        for (rule, _), codes in joins:
            for block in np.array_split(codes, len(codes) // _BLOCK_PAIRS + 1):
                for pair in self._verified(block, others, rule):
                    found[pair.left, pair.right] = pair
        return [found[place] for place in sorted(found)]

    def _verified(
        self, codes: NDArray[np.int64], others: _Questions, rule: NearRule
    ) -> Iterator[NearPair]:
        """The candidates that are as similar as the rule says."""
        left, right = np.divmod(codes, len(self))
        agreeing = (others.signatures[left] == self._questions.signatures[right]).mean(axis=1)
        likely = agreeing >= rule.jaccard - _MAX_ESTIMATE_ERROR
        for one, other in zip(left[likely].tolist(), right[likely].tolist(), strict=True):
            similarity = _jaccard(others.sets.of(one), self._questions.sets.of(other))
            if similarity >= rule.jaccard:
                yield NearPair(one, other, similarity)


def near_pairs(normalised: Sequence[str]) -> list[NearPair]:
    """All near duplicates among normalised questions; see `MinHashIndex`."""
    return MinHashIndex(normalised).pairs()


@dataclass(frozen=True, slots=True)
class _Band:
    """One band of some questions: a key for each, sorted, and whose it is."""

    keys: NDArray[np.uint64]
    owners: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Numbers:
    keys: NDArray[np.uint64]
    """(N, 2) a hash of the numbers as digits, and of those as digits and words."""
    counts: NDArray[np.int64]
    """(N, 2) how many there are."""


class _Questions:
    """Questions as shingles, signatures and numbers."""

    def __init__(self, normalised: Sequence[str]) -> None:
        self.sets = shingle_sets(normalised)
        self.signatures = _signatures(self.sets)
        self.numbers = _number_keys(normalised)

    def __len__(self) -> int:
        return len(self.sets)

    def bands(self, rule: NearRule, spelt: int) -> Iterator[_Band]:
        """The bands of the questions that a rule is about, under one way to read numbers."""
        has_many = self.numbers.counts[:, spelt] >= MIN_NUMBERS
        owners = np.flatnonzero(has_many == (rule is SAME_NUMBERS))
        keys_of_numbers = self.numbers.keys[owners, spelt]
        rows = self.signatures[owners].astype(np.uint64)
        for start in range(0, rule.num_bands * rule.band_rows, rule.band_rows):
            band = np.ascontiguousarray(rows[:, start : start + rule.band_rows])
            hashes = window_hashes(band.ravel(), rule.band_rows)[:: rule.band_rows]
            keys = mixed(hashes ^ keys_of_numbers)
            order = np.argsort(keys, kind="stable")
            yield _Band(keys[order], owners[order])


def _signatures(sets: ShingleSets) -> NDArray[np.uint32]:
    """(N, P) the least value of each permutation over each set; permutations are multiply-shift."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    factors = generator.integers(0, 2**64, NUM_PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    terms = generator.integers(0, 2**64, NUM_PERMUTATIONS, dtype=np.uint64)
    signatures = np.empty((len(sets), NUM_PERMUTATIONS), dtype=np.uint32)
    first = 0
    while first < len(sets):
        limit = sets.starts[first] + _BLOCK_SHINGLES
        last = max(int(np.searchsorted(sets.starts, limit, side="right")) - 1, first + 1)
        values = sets.values[sets.starts[first] : sets.starts[last]]
        permuted = values[:, None] * factors
        permuted += terms
        permuted >>= np.uint64(32)
        starts = sets.starts[first:last] - sets.starts[first]
        signatures[first:last] = np.minimum.reduceat(permuted, starts, axis=0)
        first = last
    return signatures


def _number_keys(normalised: Sequence[str]) -> _Numbers:
    keys = np.empty((len(normalised), 2), dtype=np.uint64)
    counts = np.empty((len(normalised), 2), dtype=np.int64)
    for index, text in enumerate(normalised):
        for spelt in (0, 1):
            numbers = numbers_of(text, spelt=bool(spelt))
            digest = hashlib.blake2b(" ".join(numbers).encode(), digest_size=8).digest()
            keys[index, spelt] = int.from_bytes(digest, "little")
            counts[index, spelt] = len(numbers)
    return _Numbers(keys, counts)


def _shared(theirs: _Band, ours: _Band) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The owners of equal keys, each of theirs with each of ours."""
    first = np.searchsorted(ours.keys, theirs.keys, side="left")
    counts = np.searchsorted(ours.keys, theirs.keys, side="right") - first
    left = np.repeat(theirs.owners, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, ours.owners[np.repeat(first, counts) + within]


def _no_codes() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Shared over all elements of two sets, each sorted and without repeats."""
    merged = np.sort(np.concatenate((one, other)))
    shared = int(np.count_nonzero(merged[1:] == merged[:-1]))
    return shared / (len(merged) - shared)
