"""Tokens of arithmetic in running text, and where a number or an expression may begin and end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

_KINDS = re.compile(
    r"""
    (?P<relation> (?:[-=][ \t]*){1,8}> | =(?:[ \t]*=){1,8} | [<>!≠≤≥][ \t]*= )
  | (?P<equals> = | ≈ | ≅ )
  | (?P<number> [0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}(?![0-9]|,[0-9])(?:\.[0-9]+)?
              | [0-9]+(?:\.[0-9]+)? | (?<![0-9A-Za-z)])\.[0-9]+ )
  | (?P<times> (?: (?<=[0-9)\]%]) | (?<=[A-Za-z]{2}) ) [ \t]*[xX](?=[ \t]*[(\[$.0-9]) )
  | (?P<operator> \*\* | [-+*/^\u00d7\u00f7\u2212\u2013\u00b7\u22c5\u2217\u2219\u2022\u2044\u2215] )
  | (?P<open> [(\[{] )
  | (?P<close> [)\]}] )
  | (?P<percent> % )
  | (?P<power> [²³] )
  | (?P<currency> [$£€₹] | (?<![A-Za-z]) [Rr][Ss] (?![A-Za-z]) (?:[ \t]?\.(?![0-9]))? )
  | (?P<word> [A-Za-z]+(?:['\u2019][A-Za-z]+)* )
  | (?P<newline> [ \t]*\r?\n\s* )
  | (?P<space> [ \t\u00a0]+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)

_TIMES, _OVER, _MINUS = "\u00d7\u00b7\u22c5\u2217\u2219\u2022", "\u00f7\u2044\u2215", "\u2212\u2013"
_OPERATORS = str.maketrans(
    {**dict.fromkeys(_TIMES, "*"), **dict.fromkeys(_OVER, "/"), **dict.fromkeys(_MINUS, "-")}
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHORT_UNITS = _words(
    "km kg cm mm ft hr hrs min sec ml lb lbs oz in gm gms yd mi mph kmh kmph kms mps rpm cc sq cu"
    " cts am pm nd rd st th dl hp"
)
_LETTER_UNITS = _words("a m s h g l d A B C D E F L")
"""Single letters that may follow a result: units, the article, and letters of options."""
_NO_UNIT = _words(
    "and are but equals equal for from gives giving has hence her his implies into is leaves less"
    " means minus more now over plus since solving than that the then there therefore these they"
    " this thus times was were when where which while will with you divided multiplied multiply by"
    " as at be if it no of on or so to we he she its ie eg root sqrt log sin cos tan mod"
)
_OPERATOR_WORDS = _words(
    "times plus minus into over by than from power root sqrt cube square log ln sin cos tan mod"
    " max min lcm gcd hcf gcf add subtract divide multiply between pi"
)
"""Words after which a number is part of something larger."""
_AFTER_WORDS = _words("of times plus minus into over divided multiplied mod x")
"""Words before which a number is part of something larger."""
MAX_UNIT_WORDS = 3
"""`60 miles per hour` has three."""
_BOUNDARY = frozenset(".,;:?&|>\"'→⇒∴⟹")
"""Marks after which an expression may begin."""
_CLOSING = frozenset(".,;:?&|\"'→⇒∴°…@")
"""Marks before which a number may end."""


class Kind(Enum):
    """What a token is."""

    RELATION = auto()
    EQUALS = auto()
    NUMBER = auto()
    TIMES = auto()
    OPERATOR = auto()
    OPEN = auto()
    CLOSE = auto()
    PERCENT = auto()
    POWER = auto()
    CURRENCY = auto()
    WORD = auto()
    OTHER = auto()


_KIND_OF = {kind.name.lower(): kind for kind in Kind}


class Token(NamedTuple):
    """A stretch of text that is no space; a tuple, since there are many of them."""

    kind: Kind
    text: str
    start: int
    end: int
    spaced: bool
    """Whether a space or a line break stands before it."""
    starts_line: bool


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, spaces left out."""
    tokens: list[Token] = []
    spaced = starts_line = False
    for match in _KINDS.finditer(text):
        name = match.lastgroup
        assert name is not None
        if name in ("space", "newline"):
            spaced = True
            starts_line = starts_line or name == "newline"
            continue
        start = match.start()
        if name == "times":  # the spaces before it are part of the match
            start = match.end() - 1
            spaced = spaced or start > match.start()
        text_of = text[start : match.end()]
        tokens.append(Token(_KIND_OF[name], text_of, start, match.end(), spaced, starts_line))
        spaced = starts_line = False
    return tokens


def ends_number(tokens: Sequence[Token], first: int) -> bool:
    """Whether what begins at `first` may be the rest of a number: `7 1/2`, `1 and 1/4`."""
    if first == 0 or tokens[first].starts_line:
        return False
    before = tokens[first - 1]
    if before.kind is Kind.NUMBER:
        return True
    is_and = before.text.lower() == "and" and first > 1 and tokens[first - 2].kind is Kind.NUMBER
    is_proper = is_fraction(tokens, first) and int(tokens[first].text) < int(tokens[first + 2].text)
    return is_and and is_proper


def is_part(tokens: Sequence[Token], first: int) -> bool:
    """Whether the word before may belong to it: `half of 3 + 5`, `a 1 - 6` for a subscript."""
    return (
        first > 0
        and not tokens[first].starts_line
        and tokens[first - 1].text.lower() in ("of", "a")
    )


def goes_on(tokens: Sequence[Token], place: int, *, is_decimal: bool) -> bool:
    """Whether a number before `tokens[place]` may not be all: `7 1/2`, `5 and 2/3`, `999...`.

    Dots after decimals are another matter: `3.14...` is 3.14 cut off.
    """
    if place == len(tokens) or tokens[place].starts_line:
        return False
    following = tokens[place + 1] if place + 1 < len(tokens) else None
    if tokens[place].text.lower() == "and":
        return following is not None and following.kind is Kind.NUMBER
    are_dots = tokens[place].text == "." and following is not None and following.text == "."
    if are_dots or tokens[place].text == "…":
        return not is_decimal
    return tokens[place].kind is Kind.NUMBER


def may_begin(tokens: Sequence[Token], first: int) -> bool:
    """Whether an expression may begin at `tokens[first]`, seen from what stands before it."""
    token = tokens[first]
    if token.kind not in (Kind.NUMBER, Kind.OPEN, Kind.CURRENCY) and not (
        operator_of(token) == "-"
        and first + 1 < len(tokens)
        and not tokens[first + 1].spaced
        and (token.spaced or first == 0)
    ):
        return False
    if first == 0:
        return True
    before = tokens[first - 1]
    if before.kind in (Kind.EQUALS, Kind.RELATION, Kind.OPEN):
        return before.kind is not Kind.OPEN or not _is_called(tokens, first - 1)
    if before.kind is Kind.CLOSE:
        return token.starts_line or (token.kind is not Kind.OPEN and _is_label(tokens, first - 1))
    if before.kind in (Kind.NUMBER, Kind.PERCENT):
        return token.starts_line or (token.spaced and token.kind is not Kind.OPEN)
    if before.kind is Kind.WORD:
        if not token.spaced:
            return False
        if token.starts_line:
            return True
        word = before.text.lower()
        return word not in _OPERATOR_WORDS and (len(word) > 1 or word == "a")
    if before.kind is Kind.OTHER and before.text in _BOUNDARY:
        behind = tokens[first - 2].kind if first > 1 else Kind.OTHER
        if behind is Kind.OPERATOR:
            return False
        return token.spaced or behind is not Kind.NUMBER
    return False


def _is_label(tokens: Sequence[Token], bracket: int) -> bool:
    """Whether the closing bracket belongs to a label: `a)`, `(2)`."""
    if bracket == 0 or tokens[bracket - 1].kind not in (Kind.WORD, Kind.NUMBER):
        return False
    before = tokens[bracket - 2] if bracket > 1 else None
    return (
        before is None
        or tokens[bracket - 1].starts_line
        or before.kind in (Kind.OPEN, Kind.WORD)
        or before.text in _BOUNDARY
    )


def _is_called(tokens: Sequence[Token], bracket: int) -> bool:
    """Whether the opening bracket belongs to something in front: `f(`, `2(`, `x * (`."""
    if bracket == 0:
        return False
    before = tokens[bracket - 1]
    if before.kind in (Kind.WORD, Kind.NUMBER, Kind.CLOSE):
        return not tokens[bracket].spaced
    return before.kind in (Kind.OPERATOR, Kind.TIMES, Kind.POWER)


def may_end(tokens: Sequence[Token], place: int) -> bool:
    """Whether a number may end before `tokens[place]`, seen from what follows it."""
    if place == len(tokens):
        return True
    token = tokens[place]
    following = tokens[place + 1] if place + 1 < len(tokens) else None
    if token.kind is Kind.WORD:
        return _may_follow_number(token, following)
    if token.kind is Kind.OTHER:
        is_split = following is not None and following.kind is Kind.NUMBER and not following.spaced
        is_ratio = token.text == ":" and following is not None and following.kind is Kind.NUMBER
        return token.starts_line or (token.text in _CLOSING and not (is_split or is_ratio))
    if token.kind in (Kind.EQUALS, Kind.RELATION, Kind.CLOSE):
        return True
    if token.kind in (Kind.NUMBER, Kind.OPEN, Kind.CURRENCY):
        return token.starts_line or (token.spaced and token.kind is not Kind.OPEN)
    return False


def _may_follow_number(word: Token, following: Token | None) -> bool:
    text = word.text
    if word.starts_line:
        return True
    if len(text) > 1:
        is_unit = text.lower() in _SHORT_UNITS or len(text) > 2
        return (
            text.lower() not in _AFTER_WORDS
            and (word.spaced or is_unit)
            and not (len(text) == 2 and not is_unit and text.lower() not in _NO_UNIT)
        )
    if not word.spaced or text not in _LETTER_UNITS:
        return False
    if following is None or following.starts_line:
        return True
    if following.text == "/":
        return text in "ms"
    return following.kind in (Kind.WORD, Kind.CLOSE) or following.text in _CLOSING


def is_of(tokens: Sequence[Token], place: int) -> bool:
    """Whether the word is the `of` of `20% of 50` or `1/2 of 60`."""
    if tokens[place].text.lower() != "of" or place == 0:
        return False
    before = tokens[place - 1]
    if before.kind is Kind.PERCENT:
        return True
    return before.kind is Kind.NUMBER and place > 2 and operator_of(tokens[place - 2]) == "/"


def is_unit(tokens: Sequence[Token], place: int) -> bool:
    """Whether the word is the unit of a number before it: `60 km *`, `5 square feet =`."""
    for first in range(place, max(place - MAX_UNIT_WORDS, 0), -1):
        token, before = tokens[first], tokens[first - 1]
        word = token.text.lower()
        if token.starts_line or word in _NO_UNIT or (len(word) < 3 and word not in _SHORT_UNITS):
            return False
        if before.text == "/" and first > 1:
            return not before.spaced and tokens[first - 2].kind in (Kind.NUMBER, Kind.WORD)
        if before.kind is not Kind.WORD:
            return before.kind in (Kind.NUMBER, Kind.PERCENT, Kind.CLOSE)
    return False


def is_per(tokens: Sequence[Token], place: int) -> bool:
    """Whether the slash belongs to a unit: `60 km/hr`, `$20/hour`."""
    return (
        0 < place < len(tokens) - 1
        and tokens[place].text == "/"
        and tokens[place + 1].kind is Kind.WORD
        and is_unit(tokens, place + 1)
    )


def is_fraction(tokens: Sequence[Token], place: int) -> bool:
    """Whether whole numbers and a slash between them stand at `place`: `3/4`."""
    return (
        place + 2 < len(tokens)
        and operator_of(tokens[place + 1]) == "/"
        and tokens[place + 2].kind is Kind.NUMBER
        and not tokens[place + 2].starts_line
        and tokens[place].text.isdigit()
        and tokens[place + 2].text.isdigit()
    )


def operator_of(token: Token) -> str:
    """The token as an operator of the calculator; empty where it is none."""
    if token.kind is Kind.TIMES:
        return "*"
    text = token.text.translate(_OPERATORS) if token.kind is Kind.OPERATOR else ""
    return "**" if text == "^" else text


def plain_number(text: str) -> str:
    """A number without thousands commas."""
    return text.replace(",", "")
