"""UTF-8 text in the form in which `normalised_question` compares it, made with arrays.

Most characters above ASCII become others of the same length in UTF-8, or spaces, in place. The rest
(accents that stand alone, ligatures, letters in circles, digits of other scripts) is `hard`: the
stretches they stand in go through `unicodedata`, and the whole document does where there are many.

Shapes: B bytes of all documents, C characters above ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aquachat.data.hygiene.words import normalised_question

SIGNS: Final = "-+*/=^<>%"
_HARD: Final = 0
_SPACE: Final = ord(" ")
_NUM_CODES: Final = 1 << 16
_PLAIN_STRETCH: Final = 64
"""Bytes for each hard character below which it is quicker to normalise the whole document."""
_MAX_KEPT_BYTES: Final = 16
_ABOVE_ASCII: Final = re.compile(rb"[\x80-\xff]*")
_NEITHER_ASCII_NOR_WORD: Final = re.compile(r"[^\w\x00-\x7f]")
_OTHER_DIGIT: Final = re.compile(r"[^\D0-9]")
_MATTERS: Final = re.compile(r"[^\W_]|[-+*/=^<>%,]")
"""Letters, digits, signs, and the comma that may stand between thousands."""
_HANGUL_JAMO: Final = range(0x1100, 0x1200)
_SAME: Final = (
    range(0x3400, 0x4DB0),
    range(0x4E00, 0x9FF0),
    range(0xAC00, 0xD7A4),
    range(0xD800, 0xE000),
)
"""Chinese characters and Hangul syllables stay as they are, and surrogates do not occur."""


def folded(contents: Sequence[bytes]) -> tuple[bytes, NDArray[np.int64]]:
    """Documents end to end, a space behind each, and where each begins.

    Case and punctuation of ASCII are left as they are. Every byte above ASCII is of a letter or a
    digit, case folded.
    """
    text = b" ".join([*contents, b""])
    starts = np.cumsum([0, *(len(content) + 1 for content in contents)])[:-1]
    codes = np.frombuffer(text, np.uint8)
    firsts = np.flatnonzero(codes >= 0xC0)  # (C,)
    if not len(firsts):
        return text, starts
    targets = _targets(codes, firsts)
    changed = bytes(_replaced(codes, firsts, targets))
    hard = firsts[targets == _HARD]
    if not len(hard):
        return changed, starts
    return _spliced(changed, starts, list(_hard_stretches(text, starts, hard)))


def _targets(codes: NDArray[np.uint8], firsts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """(C,) what each character becomes: a code, a space, or `_HARD`."""
    one = codes[firsts].astype(np.int64)
    two = codes[firsts + 1] & 0x3F
    # The last character may have two bytes; the byte behind it is a space.
    three = codes[np.minimum(firsts + 2, len(codes) - 1)] & 0x3F
    of_two = ((one & 0x1F) << 6) | two
    of_three = ((one & 0x0F) << 12) | (two.astype(np.int64) << 6) | three
    targets = _easy_characters()[np.where(one < 0xE0, of_two, of_three)]
    targets[one >= 0xF0] = _HARD
    return targets


def _replaced(
    codes: NDArray[np.uint8], firsts: NDArray[np.int64], targets: NDArray[np.uint16]
) -> NDArray[np.uint8]:
    """(B,) the text with every character that is not hard replaced."""
    changed = codes.copy()
    is_long = codes[firsts] >= 0xE0
    is_ascii = (targets != _HARD) & (targets < 0x80)
    for num_bytes, chosen in ((2, ~is_long & is_ascii), (3, is_long & is_ascii)):
        places = firsts[chosen]
        changed[places] = targets[chosen]
        for offset in range(1, num_bytes):
            changed[places + offset] = _SPACE
    two, three = ~is_long & (targets >= 0x80), is_long & (targets >= 0x80)
    changed[firsts[two]] = 0xC0 | (targets[two] >> 6)
    changed[firsts[two] + 1] = 0x80 | (targets[two] & 0x3F)
    changed[firsts[three]] = 0xE0 | (targets[three] >> 12)
    changed[firsts[three] + 1] = 0x80 | ((targets[three] >> 6) & 0x3F)
    changed[firsts[three] + 2] = 0x80 | (targets[three] & 0x3F)
    return changed


def _hard_stretches(
    text: bytes, starts: NDArray[np.int64], hard: NDArray[np.int64]
) -> Iterator[tuple[int, int, bytes]]:
    """Where text has to be replaced by text of another length, and by which."""
    owners = np.searchsorted(starts, hard, side="right") - 1
    ends = np.append(starts[1:], len(text)) - 1
    for owner in np.unique(owners).tolist():
        start, end = int(starts[owner]), int(ends[owner])
        found = _stretches_of(text, start, hard[owners == owner].tolist(), end - start)
        if found is None:
            yield start, end, normalised_question(text[start:end].decode()).encode()
        else:
            yield from found


def _stretches_of(
    text: bytes, start: int, hard: Sequence[int], size: int
) -> list[tuple[int, int, bytes]] | None:
    """The same for one document; None where all of it has to be normalised."""
    if len(hard) * _PLAIN_STRETCH > size:
        return None
    found = []
    done = start
    for place in hard:
        if place < done:
            continue
        begin = place
        # With the character before, which an accent may belong to: before ASCII nothing composes.
        while begin > start and text[begin] >= 0x80:
            begin -= 1
        stretch = _ABOVE_ASCII.match(text, place)
        assert stretch is not None
        done = stretch.end()
        expand = _expanded_kept if done - begin <= _MAX_KEPT_BYTES else _expanded
        expanded = expand(text[begin:done])
        if expanded is None:
            return None
        found.append((begin, done, expanded))
    return found


def _expanded(stretch: bytes) -> bytes | None:
    """A stretch in its final form; None where it has digits that may have commas between them."""
    text = unicodedata.normalize("NFKC", stretch.decode()).casefold()
    if _OTHER_DIGIT.search(text):
        return None
    return _NEITHER_ASCII_NOR_WORD.sub(" ", text).encode()


_expanded_kept = lru_cache(maxsize=1 << 14)(_expanded)


def _spliced(
    text: bytes, starts: NDArray[np.int64], changes: Sequence[tuple[int, int, bytes]]
) -> tuple[bytes, NDArray[np.int64]]:
    """The text with other text in some places, and where its documents then begin."""
    parts: list[bytes] = []
    done = 0
    for begin, end, content in changes:
        parts += (text[done:begin], content)
        done = end
    parts.append(text[done:])
    ends = np.array([end for _, end, _ in changes])
    grown = np.cumsum([0, *(len(content) - (end - begin) for begin, end, content in changes)])
    # A change that ends where a document begins would be of the one before, which ends with a space
    return b"".join(parts), starts + grown[np.searchsorted(ends, starts, side="right")]


@lru_cache(maxsize=1)
def _easy_characters() -> NDArray[np.uint16]:
    """(65536,) what a character becomes whatever stands beside it, `_HARD` where that varies."""
    table = np.arange(_NUM_CODES, dtype=np.uint16)
    varied = [code for code in range(0x80, _NUM_CODES) if not any(code in r for r in _SAME)]
    table[varied] = [_easy(chr(code)) for code in varied]
    return table


def _easy(character: str) -> int:
    # Marks and the parts of Hangul syllables may become one with the character before them.
    if unicodedata.category(character)[0] == "M" or ord(character) in _HANGUL_JAMO:
        return _HARD
    text = unicodedata.normalize("NFKC", character).casefold()
    if text in SIGNS:
        return ord(text)
    if not _MATTERS.search(text):
        return _SPACE
    is_letter = len(text) == 1 and text >= "\x80" and not text.isdecimal()
    return ord(text) if is_letter and len(text.encode()) == len(character.encode()) else _HARD
