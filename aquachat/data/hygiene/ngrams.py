"""Text that holds a stretch of an evaluation question word for word.

Thirteen words in a row, as in GPT-3's report (Brown and others: Language Models are Few-Shot
Learners, 2020, arXiv 2005.14165, appendix C). A question of eight to twelve words counts as a
whole; a shorter one (`What is 15% of 30?`) says nothing that other texts may not say too, so it
only counts where it is the whole question of a row. At least half of a run has to be different
words of two letters or more: tables drawn with dashes and the digits from 0 to 9 are no questions.

Shapes: Q words of all questions, W words of all texts that are searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aquachat.data.hygiene.words import mixed, window_hashes

NGRAM_WORDS: Final = 13
MIN_QUESTION_WORDS: Final = 8
_BLOCK_RUNS: Final = 1 << 16
_END: Final = 0
"""What stands after each text, so that no run goes on into the next; unknown words too."""


@dataclass(frozen=True, slots=True)
class SharedText:
    """A stretch of words that a text and an evaluation question have in common."""

    text: int
    """Place among the texts that were searched."""
    question: int
    """Place of the first question with these words."""
    words: str


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of one width: a hash for each, sorted, and where the first with it stands."""

    hashes: NDArray[np.uint64]
    places: NDArray[np.int64]


class NgramIndex:
    """The runs of words of questions, to be found in other texts.

    Args:
        normalised: questions as `normalised_question` makes them.
    """

    def __init__(self, normalised: Sequence[str]) -> None:
        self._number_of: dict[str, int] = {}
        words = [text.split() for text in normalised]
        numbers: list[int] = []
        for text in words:
            numbers += [self._number_of.setdefault(w, len(self._number_of) + 1) for w in text]
            numbers.append(_END)
        self._numbers = np.array(numbers, dtype=np.uint64)  # (Q,)
        lengths = np.array([len(text) for text in words], dtype=np.int64)
        self._starts = np.cumsum(lengths + 1) - lengths - 1
        is_word = [False, *(sum(map(str.isalpha, word)) >= 2 for word in self._number_of)]
        self._is_word = np.array(is_word)
        self._words = list(self._number_of)
        self._runs = dict(self._make_runs(lengths))

    @property
    def vocabulary(self) -> Sequence[str]:
        """The words of all questions; the first has the number 1."""
        return self._words

    @property
    def numbers(self) -> NDArray[np.uint64]:
        """(Q,) the questions as numbers of words, 0 behind each."""
        return self._numbers

    def run_places(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Each width with the places among `numbers` at which its different runs begin."""
        for width, runs in self._runs.items():
            yield width, runs.places

    def search(self, normalised: Sequence[str]) -> list[SharedText]:
        """The texts that share words with a question, each once, with the first such stretch."""
        values, starts = self._numbered(normalised)
        first: dict[int, tuple[int, int, int]] = {}
        for width, places, origins in self._hits(values):
            texts = np.searchsorted(starts, places, side="right") - 1
            for text, place, origin in zip(
                texts.tolist(), places.tolist(), origins.tolist(), strict=True
            ):
                # Equal hashes are compared word by word.
                same = values[place : place + width] == self._numbers[origin : origin + width]
                if same.all() and place < first.get(text, (place + 1,))[0]:
                    first[text] = (place, origin, width)
        return [
            SharedText(text, self._question_at(origin), self._words_at(origin, width))
            for text, (_, origin, width) in sorted(first.items())
        ]

    def links(self, normalised: Sequence[str]) -> list[tuple[int, int]]:
        """Each text with the first question that holds a run of words of it, for all its runs.

        Only hashes are compared, which at worst links two that have nothing in common.
        """
        values, starts = self._numbered(normalised)
        codes = np.zeros(0, dtype=np.int64)
        count = max(len(self._starts), 1)
        for _, places, origins in self._hits(values):
            texts = np.searchsorted(starts, places, side="right") - 1
            questions = np.searchsorted(self._starts, origins, side="right") - 1
            codes = np.union1d(codes, texts * count + questions)
        return [divmod(code, count) for code in codes.tolist()]

    def _make_runs(self, lengths: NDArray[np.int64]) -> Iterator[tuple[int, _Runs]]:
        for width in range(MIN_QUESTION_WORDS, NGRAM_WORDS + 1):
            chosen = lengths >= width if width == NGRAM_WORDS else lengths == width
            counts = lengths[chosen] - width + 1
            first = np.repeat(self._starts[chosen], counts)
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            places = first + within
            places = places[self._are_worded(places, width)]
            if len(places):
                hashes = mixed(window_hashes(self._numbers, width))[places]
                unique, index = np.unique(hashes, return_index=True)
                yield width, _Runs(unique, places[index])

    def _are_worded(self, places: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
        """Which runs hold at least half their width of different words."""
        worded = np.zeros(len(places), dtype=np.bool_)
        for start in range(0, len(places), _BLOCK_RUNS):
            block = places[start : start + _BLOCK_RUNS]
            runs = self._numbers[block[:, None] + np.arange(width)].astype(np.int64)
            runs = np.sort(np.where(self._is_word[runs], runs, _END), axis=1)
            is_new = (runs[:, 1:] != runs[:, :-1]).sum(axis=1) + (runs[:, 0] != _END)
            worded[start : start + _BLOCK_RUNS] = 2 * is_new >= width
        return worded

    def _numbered(self, normalised: Sequence[str]) -> tuple[NDArray[np.uint64], list[int]]:
        """(W,) the words of texts as the numbers that the index gives them; where texts start."""
        numbers: list[int] = []
        starts: list[int] = []
        for text in normalised:
            starts.append(len(numbers))
            numbers += [self._number_of.get(word, _END) for word in text.split()]
            numbers.append(_END)
        return np.array(numbers, dtype=np.uint64), starts

    def _hits(
        self, values: NDArray[np.uint64]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """For each width the places of runs that questions have too, and where theirs begin."""
        for width, runs in self._runs.items():
            hashes = mixed(window_hashes(values, width))
            near = np.minimum(np.searchsorted(runs.hashes, hashes), len(runs.hashes) - 1)
            places = np.flatnonzero(runs.hashes[near] == hashes)
            yield width, places, runs.places[near[places]]

    def _question_at(self, origin: int) -> int:
        return int(np.searchsorted(self._starts, origin, side="right")) - 1

    def _words_at(self, origin: int, width: int) -> str:
        run = self._numbers[origin : origin + width].tolist()
        return " ".join(self._words[number - 1] for number in run)
