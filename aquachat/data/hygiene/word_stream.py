"""The words of documents as numbers, for a search that reads text almost as fast as memory.

The words are those of `normalised_question`, found in UTF-8 with arrays.

Shapes: B bytes of all documents, W words of all documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aquachat.data.hygiene.folding import SIGNS, folded

_NEITHER, _LETTER, _SIGN = range(3)
_WORD_BYTES: Final = 8
"""Of a longer word, these first bytes are its number."""
_EACH_BYTE: Final = np.uint64(0x0101010101010101)
_LEAST_LETTER: Final = 0x10
"""Below it are what stands for signs, and 0 for what is of no word."""


def _byte_tables() -> tuple[bytes, bytes]:
    """For each byte what it is compared as, and whether it is of a word, a sign, or neither."""
    codes, kinds = bytearray(256), bytearray(256)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum():
            codes[byte] = ord(chr(byte).lower()) if byte < 0x80 else byte
            kinds[byte] = _LETTER
        elif chr(byte) in SIGNS:
            codes[byte], kinds[byte] = 1 + SIGNS.index(chr(byte)), _SIGN
    return bytes(codes), bytes(kinds)


_CODES, _KINDS = _byte_tables()
_IS_DIGIT: Final = np.array([0x30 <= byte <= 0x39 for byte in range(256)])


@dataclass(frozen=True, slots=True)
class WordStream:
    """The words of documents, end to end."""

    numbers: NDArray[np.uint64]
    """(W,) equal words have equal numbers, and so have those with the same first eight bytes."""
    starts: NDArray[np.int64]
    """(documents,) where each one's begin."""


def word_stream(contents: Sequence[bytes]) -> WordStream:
    """The words of documents in UTF-8, as `normalised_question` finds them.

    Example:
        word_stream([b"It cost 3,000."])   # the same numbers as of b"it COST: 3000"
    """
    text, bounds = _without_thousands(*folded(contents))
    first, numbers = _numbered_words(text)
    return WordStream(numbers, np.searchsorted(first, bounds))


def word_numbers(words: Iterable[str]) -> NDArray[np.uint64]:
    """(W,) the numbers of normalised words, as in a stream."""
    return _numbered_words(" ".join(words).encode())[1]


def _numbered_words(text: bytes) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(W,) where the words of a folded text begin, and their numbers."""
    # Bytes behind the last word, so that eight can be read from any of its places on.
    text += b" " * _WORD_BYTES
    first = _beginnings(np.frombuffer(text.translate(_KINDS), np.uint8))
    windows: NDArray[np.uint64] = np.ndarray(
        (len(text) - _WORD_BYTES + 1,), np.dtype("<u8"), text.translate(_CODES), strides=(1,)
    )
    return first, _first_words(windows[first])


def _beginnings(kinds: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(W,) where words begin: a stretch of letters and digits, or one sign."""
    # A sign is a word whatever stands beside it; a letter begins one where none stands before it.
    begins = np.bitwise_or(~kinds[:-1], _SIGN)
    begins &= kinds[1:]
    first = np.flatnonzero(begins != 0) + 1
    return np.concatenate(([0], first)) if kinds[0] else first


def _first_words(windows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(W,) the words that eight bytes each begin with, as numbers; what follows is cut off."""
    high = _EACH_BYTE * np.uint64(0x80)
    # The high bit of each byte that is of no word: neither above ASCII nor `_LEAST_LETTER` or more.
    letters = windows & ~high
    letters += _EACH_BYTE * np.uint64(0x80 - _LEAST_LETTER)
    letters |= windows
    ends = ~letters & high
    # The lowest of them, moved to the lowest bit of its byte; the bits below are the word's.
    ends &= np.negative(ends)
    ends >>= np.uint64(7)
    ends -= np.uint64(1)
    ends[ends == 0] = 0xFF  # a sign
    ends &= windows
    return ends


def _without_thousands(text: bytes, bounds: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
    """The text without commas between thousands, and where its documents then begin."""
    codes = np.frombuffer(text, np.uint8)
    commas = np.flatnonzero(codes == ord(","))
    # In this order: the text ends with a space, behind which nothing is asked for.
    for offset, is_digit in ((1, True), (2, True), (3, True), (4, False), (-1, True)):
        commas = commas[_IS_DIGIT[codes[commas + offset]] == is_digit]
    commas = commas[commas > 0]
    if not len(commas):
        return text, bounds
    return np.delete(codes, commas).tobytes(), bounds - np.searchsorted(commas, bounds)
