"""Cutting a long text where pieces end anyway, so that its parts can be encoded one by one.

The patterns of GPT-2's and GPT-4's family (see `patterns`) look back at nothing, and none of their
pieces goes on from a letter to something that is no letter, or from a digit to something that is no
digit. A text cut there gives the pieces, and so the ids, of the whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

PART_CHARS: Final = 1 << 18
"""Parts are at least this long, and end at the last cut that is found."""
MAX_PART_CHARS: Final = 1 << 22
"""A part without a cut ends here, in the middle of a piece: what is encoded stays bounded."""

_MAY_HAVE_CUT: Final = re.compile(r"[^\W_]|\n")


class Continued(str):
    """A part of a document that the next string of the stream continues.

    The last part of a document is a plain `str`, as is a document that comes whole.
    """

    __slots__ = ()


def in_parts(
    blocks: Iterable[str],
    *,
    part_chars: int = PART_CHARS,
    max_part_chars: int = MAX_PART_CHARS,
) -> Iterator[str]:
    """One text that comes in blocks, in parts: all but the last are `Continued`.

    A part ends at the last cut within `part_chars`; where there is none, within twice that, and so
    on up to `max_part_chars`.

    Args:
        blocks: the text, cut anywhere.
        part_chars: a text up to this length is one part.
        max_part_chars: the longest part.

    Example:
        list(in_parts(["one tw", "o three"], part_chars=5))   # ["one", " two", " three"]
    """
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > part_chars and (end := _part_end(rest, part_chars, max_part_chars)):
            yield Continued(rest[:end])
            rest = rest[end:]
    yield str(rest)


def _part_end(text: str, part_chars: int, max_part_chars: int) -> int:
    """Where the first part of a text ends; 0 if that takes more text."""
    searched, window = 0, part_chars
    while not (cut := last_cut(text[: window + 1], searched)):
        if window == max_part_chars:
            return max_part_chars if len(text) > max_part_chars else 0
        if window >= len(text):
            return 0
        searched, window = window, min(2 * window, max_part_chars)
    return cut


def last_cut(text: str, first: int = 0) -> int:
    """The last place from `first` on where every pattern starts a new piece; 0 for none."""
    if not _MAY_HAVE_CUT.search(text, max(0, first - 2)):
        return 0
    after = _kind(text[-1:])
    for place in range(len(text) - 1, max(first, 1) - 1, -1):
        before = _kind(text[place - 1])
        if before in ("L", "N") and after not in (before, None):
            return place
        if text[place - 1] == "\n" and place > 1 and _are_visible(text[place - 2], text[place]):
            return place
        after = before
    return 0


def _kind(char: str) -> str | None:
    """Letter, number or other; None for what Unicode 3.2 does not know, and versions differ on."""
    if not char:
        return None
    category = unicodedata.ucd_3_2_0.category(char)
    if category in ("Cn", "Cs", "Co"):
        return None
    return category[0] if category[0] in "LN" else "other"


def _are_visible(*chars: str) -> bool:
    """Whether each is an ASCII character with ink."""
    return all("!" <= char <= "~" for char in chars)
