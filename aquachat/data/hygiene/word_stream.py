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
from aquachat.data.hygiene.words import mixed

_NEITHER, _LETTER, _SIGN = range(3)
_WORD_BYTES: Final = 8
"""Of a longer word, these first bytes and its length are its number."""


def _byte_tables() -> tuple[bytes, bytes]:
    """For each byte what it is folded to, and whether it is of a word, a sign, or neither."""
    lower, kinds = bytearray(b" " * 256), bytearray(256)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum():
            lower[byte] = ord(chr(byte).lower()) if byte < 0x80 else byte
            kinds[byte] = _LETTER
        elif chr(byte) in SIGNS:
            lower[byte], kinds[byte] = byte, _SIGN
    return bytes(lower), bytes(kinds)


_LOWER, _KINDS = _byte_tables()
_IS_DIGIT: Final = np.array([0x30 <= byte <= 0x39 for byte in range(256)])
_FIRST_BYTES: Final = np.array(
    [(1 << (8 * size)) - 1 for size in range(_WORD_BYTES + 1)], dtype=np.uint64
)


@dataclass(frozen=True, slots=True)
class WordStream:
    """The words of documents, end to end."""

    numbers: NDArray[np.uint64]
    """(W,) equal words have equal numbers, and few others do."""
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
    first, size = _words(np.frombuffer(text.translate(_KINDS), np.uint8))
    lower = text.translate(_LOWER)
    windows: NDArray[np.uint64] = np.ndarray(
        (len(text) - _WORD_BYTES + 1,), np.dtype("<u8"), lower, strides=(1,)
    )
    numbers = windows[first] & _FIRST_BYTES.take(size, mode="clip")
    numbers += size.astype(np.uint64) << np.uint64(56)
    return first, mixed(numbers)


def _words(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(W,) where words begin, and their bytes: a stretch of letters and digits, or one sign."""
    # A sign is a word whatever stands beside it; a letter begins one where none stands before it.
    begins = np.bitwise_or(~kinds[:-1], _SIGN)
    begins &= kinds[1:]
    ends = np.bitwise_or(~kinds[1:], _SIGN)
    ends &= kinds[:-1]
    first = np.flatnonzero(begins != 0) + 1
    if kinds[0]:
        first = np.concatenate(([0], first))
    return first, np.flatnonzero(ends != 0) + 1 - first


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
