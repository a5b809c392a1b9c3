"""Documents that hold words of evaluation questions: a quick filter, then the exact search.

Reading text is a small part of the time that encoding it takes, and searching it should be too. So
a document is searched with `NgramIndex` only if a hash says that a run of an evaluation question
stands in it. The filter passes every document that the search finds: both look for the same runs of
the same words. It looks up the hash of each eight words in a table of those that begin a run, and
goes on with the whole run only where that is found.

Shapes: R runs of one width, W words of the documents
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aquachat.data.hygiene.guard import EvaluationGuard
from aquachat.data.hygiene.ngrams import MIN_QUESTION_WORDS, NgramIndex
from aquachat.data.hygiene.word_stream import word_numbers, word_stream
from aquachat.data.hygiene.words import mixed, normalised_question
from aquachat.data.manifest import GuardSplit

RULE: Final = "13 words of an evaluation question, version 1"
"""Part of the fingerprint; changes with what the search finds."""
BEGINNING_WORDS: Final = MIN_QUESTION_WORDS
_TABLE_FACTOR: Final = 16
"""Places of the table for each beginning: one lookup in 16 at most is in vain."""
_MAX_TABLE_BITS: Final = 24
_MULTIPLIERS: Final = (
    (1, np.uint64(0x9E3779B97F4A7C15)),
    (2, np.uint64(0xD6E8FEB86659FD93)),
    (4, np.uint64(0xA0761D6478BD642F)),
)
"""Of the first half of 2, 4 and 8 words; different ones, or words could change places."""


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document that gives an evaluation question away."""

    document: int
    """Its place among those that were searched."""
    split: str
    """For example `mmlu/test`."""
    words: str
    """The first stretch that is shared word for word."""


class DocumentGuard:
    """The evaluation questions that documents must not hold; can be pickled.

    Args:
        guard: all its questions.
        searched: the splits they are of.
    """

    def __init__(self, guard: EvaluationGuard, searched: Sequence[GuardSplit]) -> None:
        questions = guard.questions
        self.searched = tuple(searched)
        self._split_of = [question.split for question in questions]
        normalised = [question.normalised for question in questions]
        self._index = NgramIndex(normalised)
        self._filter = RunFilter.of(self._index)
        self.fingerprint = _fingerprint(normalised)
        """A hash of the questions and of the rule by which they are searched for."""

    @property
    def num_questions(self) -> int:
        """Different questions."""
        return len(self._split_of)

    def search(self, contents: Sequence[bytes]) -> list[FoundDocument]:
        """The documents, in UTF-8, that share words with a question, in order."""
        suspects = self._filter.candidates(contents)
        if not suspects:
            return []
        texts = [normalised_question(contents[place].decode()) for place in suspects]
        return [
            FoundDocument(suspects[found.text], self._split_of[found.question], found.words)
            for found in self._index.search(texts)
        ]


class RunFilter:
    """Hashes of the runs of an index, by which most documents are let go unread."""

    def __init__(
        self, beginnings: NDArray[np.uint64], wholes: Mapping[int, NDArray[np.uint64]]
    ) -> None:
        """Use `RunFilter.of`.

        Args:
            beginnings: hashes of the first words of runs, sorted.
            wholes: hashes of the runs of each width, sorted.
        """
        self._beginnings = beginnings
        self._wholes = wholes
        self._table = _BitTable(beginnings)
        self._second_table = _BitTable(mixed(beginnings))

    @classmethod
    def of(cls, index: NgramIndex) -> RunFilter:
        """The filter of the runs of an index."""
        numbers = np.append(np.zeros(1, np.uint64), word_numbers(index.vocabulary))
        hashes = dict(_hashes_by_width(index, numbers))
        beginnings = [np.zeros(0, np.uint64), *(beginning for beginning, _ in hashes.values())]
        wholes = {width: np.unique(whole) for width, (_, whole) in hashes.items()}
        return cls(np.unique(np.concatenate(beginnings)), wholes)

    def __reduce__(self) -> tuple[Any, ...]:
        # The tables are larger than what they are made from.
        return RunFilter, (self._beginnings, self._wholes)

    def candidates(self, contents: Sequence[bytes]) -> list[int]:
        """The documents in which a run stands, by hashes alone; at worst a few others too."""
        stream = word_stream(contents)
        hashes = _beginning_hashes(stream.numbers)  # (W - 7,)
        places = np.flatnonzero(self._table.has(hashes))
        places = places[self._second_table.has(mixed(hashes[places]))]
        places = places[_are_among(self._beginnings, hashes[places])]
        documents = np.searchsorted(stream.starts, places, side="right") - 1
        ends = np.append(stream.starts[1:], len(stream.numbers))[documents]
        found = np.zeros(len(places), dtype=np.bool_)
        for width, wholes in self._wholes.items():
            fits = np.flatnonzero(places + width <= ends)
            whole = _whole_hashes(hashes, stream.numbers, places[fits], width)
            found[fits] |= _are_among(wholes, whole)
        return [int(document) for document in np.unique(documents[found])]


class _BitTable:
    """Whether a hash may be one of those known, by its first bits."""

    def __init__(self, known: NDArray[np.uint64]) -> None:
        num_bits = max(min((_TABLE_FACTOR * len(known)).bit_length(), _MAX_TABLE_BITS), 1)
        self._shift = np.uint64(64 - num_bits)
        self._is_there = np.zeros(1 << num_bits, dtype=np.bool_)
        self._is_there[(known >> self._shift).view(np.int64)] = True

    def has(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """False only for hashes that are not known."""
        return self._is_there.take((hashes >> self._shift).view(np.int64))


def _hashes_by_width(
    index: NgramIndex, numbers: NDArray[np.uint64]
) -> Iterator[tuple[int, tuple[NDArray[np.uint64], NDArray[np.uint64]]]]:
    """For each width the hashes of the beginnings of runs, and of the whole runs: (R,) both."""
    words = numbers[index.numbers]
    hashes = _beginning_hashes(words)
    for width, places in index.run_places():
        yield width, (hashes[places], _whole_hashes(hashes, words, places, width))


def _beginning_hashes(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each run of `BEGINNING_WORDS` words."""
    hashes = numbers
    for half, multiplier in _MULTIPLIERS:
        longer = hashes[:-half] * multiplier
        longer += hashes[half:]
        hashes = longer
    return hashes * _MULTIPLIERS[0][1]


def _whole_hashes(
    beginnings: NDArray[np.uint64],
    numbers: NDArray[np.uint64],
    places: NDArray[np.int64],
    width: int,
) -> NDArray[np.uint64]:
    """A hash of the run of `width` words at each place."""
    hashes = beginnings[places]
    for offset in range(BEGINNING_WORDS, width):
        hashes = mixed(hashes) + numbers[places + offset]
    return hashes


def _are_among(known: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which hashes are among those known, which are sorted."""
    if not len(known):
        return np.zeros(len(hashes), dtype=np.bool_)
    near = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return np.asarray(known[near] == hashes)


def _fingerprint(normalised: Sequence[str]) -> str:
    digest = hashlib.sha256(RULE.encode())
    for question in sorted(normalised):
        digest.update(b"\0" + question.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
