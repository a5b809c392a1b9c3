"""Questions made comparable: words without case and punctuation, numbers, character shingles.

N questions, S shingles of all of them together
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHINGLE_CHARS: Final = 5
"""Long enough that two word problems share few by chance, short enough to survive an edit."""

_BLOCK_TEXTS: Final = 4096
_WORDS_AND_SIGNS = re.compile(r"[^\W_]+|[-+*/=^<>%]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DIGITS = re.compile(r"\d+")
_SPELT: Final = {
    **{"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7"},
    **{"eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12"},
    **{"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60"},
    **{"seventy": "70", "eighty": "80", "ninety": "90"},
}
"""`one` is left out: it is a pronoun as often as a number."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def normalised_question(text: str) -> str:
    """A question without case, spacing and punctuation: what decides whether two are the same.

    Signs of arithmetic stay, since they change what is asked; commas between thousands do not.

    Example:
        normalised_question("What is  2 + 3,000 ?") == normalised_question("what is 2+3000")
    """
    folded = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return " ".join(_WORDS_AND_SIGNS.findall(folded))


def numbers_of(normalised: str, *, spelt: bool = False) -> tuple[str, ...]:
    """The numbers of a normalised question, sorted; with `spelt`, also `two` to `ninety`.

    Example:
        numbers_of("three pens cost 12 and 5", spelt=True)   # ("12", "3", "5")
    """
    if spelt:
        normalised = " ".join(_SPELT.get(word, word) for word in normalised.split())
    return tuple(sorted(_DIGITS.findall(normalised)))


def without_numbers(normalised: str) -> str:
    """A normalised question with `0` for each number: what two of one template have in common."""
    return _DIGITS.sub("0", normalised)


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """The set of shingles of each question, one after another."""

    values: NDArray[np.uint64]
    """(S,) hashes, sorted within a question, each once."""
    starts: NDArray[np.int64]
    """(N + 1,) where each question's begin."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, index: int) -> NDArray[np.uint64]:
        """The hashes of one question."""
        return self.values[self.starts[index] : self.starts[index + 1]]


def shingle_sets(normalised: Sequence[str]) -> ShingleSets:
    """Hashes of the runs of `SHINGLE_CHARS` characters in each text, its ends padded with spaces.

    A hash has 64 bits, so that among ten million different runs two are equal with probability
    3e-6.
    """
    values = [np.zeros(0, dtype=np.uint64)]
    counts = [np.zeros(1, dtype=np.int64)]
    for start in range(0, len(normalised), _BLOCK_TEXTS):
        hashes, owned = _hashed_shingles(normalised[start : start + _BLOCK_TEXTS])
        values.append(hashes)
        counts.append(owned)
    return ShingleSets(np.concatenate(values), np.cumsum(np.concatenate(counts)))


def _hashed_shingles(
    normalised: Sequence[str],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of each text, sorted and each once, and how many each text has."""
    padded = [f" {text} ".ljust(SHINGLE_CHARS) for text in normalised]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    owners = np.repeat(np.arange(len(padded)), lengths)
    hashes = mixed(window_hashes(codes.astype(np.uint64), SHINGLE_CHARS))
    # A run that begins in one text and ends in the next belongs to neither.
    is_whole = owners[: len(hashes)] == owners[SHINGLE_CHARS - 1 :]
    hashes, owners = hashes[is_whole], owners[: len(hashes)][is_whole]
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    is_new = np.ones(len(hashes), dtype=np.bool_)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[is_new], np.bincount(owners[is_new], minlength=len(padded))


def window_hashes(values: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """A hash of each run of `width` values: a polynomial modulo 2**64."""
    count = max(len(values) - width + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(width):
        hashes *= _MULTIPLIER
        hashes += values[offset : offset + count] + np.uint64(1)
    return hashes


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Values whose every bit depends on every bit (the finaliser of SplitMix64, Steele 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
