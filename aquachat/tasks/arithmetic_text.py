"""Arithmetic as people write it in a rationale, read into the calculator's grammar.

    60 km * 3 hours = 180 km  60*3            20% of $1,500 = 300     20/100*1500
    (3+4)2 = 14               not read        2^3 = 8                 2**3
    speed 5 x 6 = 30          5*6             5x = 30                 not read: x is an unknown

What might be part of a larger expression, of a ratio, a function or an equation with unknowns is
not read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aquachat.tasks.arithmetic_tokens import (
    Kind,
    Token,
    ends_number,
    goes_on,
    is_fraction,
    is_of,
    is_part,
    is_per,
    is_unit,
    may_begin,
    may_end,
    operator_of,
    plain_number,
)

_POWERS = {"²": "**2", "³": "**3"}


@dataclass(frozen=True, slots=True)
class Expression:
    """What stands to the left of an equals sign."""

    start: int
    """Where it begins in the text."""
    call: str
    """In the calculator's grammar, a percent sign as a division by 100."""
    call_without_percent: str
    """The same with percent signs left out, for `100% - 20% = 80%`."""
    has_percent: bool
    is_certain: bool
    """False where words stand in it, or a number before it: it may be more than it seems."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What stands to the right of an equals sign: one number, or a fraction of two."""

    start: int
    """Of the number, its sign and its currency included: `$5`, `-$5`."""
    end: int
    number: str
    """Without thousands commas; `3/4` for a fraction."""
    is_percent: bool
    is_approximate: bool
    is_certain: bool
    """False where another number follows: it may be a mixed number such as `7 1/2`."""

    @property
    def is_fraction(self) -> bool:
        """Whether it is written as a fraction, `3/4`."""
        return "/" in self.number


def expression_before(tokens: Sequence[Token], equals: int) -> Expression | None:
    """The arithmetic that ends at the equals sign `tokens[equals]`, if it is all of it."""
    first = _first_of_run(tokens, equals)
    run = tokens[first:equals]
    if not run or not may_begin(tokens, first):
        return None
    read = _Reader(run).read()
    if read is None:
        return None
    plain, percent, has_words = read
    is_certain = not (has_words or ends_number(tokens, first) or is_part(tokens, first))
    return Expression(run[0].start, percent, plain, plain != percent, is_certain)


def claim_after(tokens: Sequence[Token], equals: int) -> Claim | None:
    """The number behind the equals sign `tokens[equals]`, if nothing makes more of it."""
    place = equals + 1
    sign = ""
    while place < len(tokens) and tokens[place].kind in (Kind.CURRENCY, Kind.OPERATOR):
        if tokens[place].kind is Kind.OPERATOR:
            if sign or operator_of(tokens[place]) != "-":
                return None
            sign = "-"
        place += 1
    if place == len(tokens) or tokens[place].kind is not Kind.NUMBER:
        return None
    start = tokens[equals + 1].start
    number = tokens[place]
    digits, end = plain_number(number.text), number.end
    place += 1
    if is_fraction(tokens, place - 1):
        digits += f"/{plain_number(tokens[place + 1].text)}"
        end = tokens[place + 1].end
        place += 2
    is_percent = place < len(tokens) and tokens[place].kind is Kind.PERCENT
    place += is_percent
    if not may_end(tokens, place):
        return None
    is_certain = not goes_on(tokens, place, is_decimal="." in digits)
    approximate = tokens[equals].text != "="
    return Claim(start, end, sign + digits, is_percent, approximate, is_certain)


def _first_of_run(tokens: Sequence[Token], equals: int) -> int:
    """Where the longest run of arithmetic before `tokens[equals]` begins, brackets balanced."""
    unmatched: list[int] = []
    place = equals - 1
    while place >= 0:
        token = tokens[place]
        if place + 1 < equals and tokens[place + 1].starts_line:
            break
        if token.kind is Kind.CLOSE:
            unmatched.append(place)
        elif token.kind is Kind.OPEN:
            if not unmatched:
                break
            unmatched.pop()
        elif token.kind is Kind.NUMBER:
            if not unmatched and _is_number_before(tokens, place):
                return place
        elif token.kind is Kind.WORD:
            if not (is_of(tokens, place) or _is_unit_inside(tokens, place)):
                break
        elif token.kind in (Kind.RELATION, Kind.EQUALS, Kind.OTHER):
            break
        place -= 1
    return unmatched[0] + 1 if unmatched else place + 1


def _is_unit_inside(tokens: Sequence[Token], place: int) -> bool:
    """Whether the word is a unit, and no number follows it: not `9 cakes because 36`."""
    following = tokens[place + 1].kind
    return following not in (Kind.NUMBER, Kind.OPEN, Kind.CURRENCY) and is_unit(tokens, place)


def _is_number_before(tokens: Sequence[Token], place: int) -> bool:
    before = tokens[place - 1] if place else None
    return before is not None and before.kind is Kind.NUMBER and not tokens[place].starts_line


class _Reader:
    """Writes a run of tokens in the calculator's grammar, or refuses it."""

    def __init__(self, run: Sequence[Token]) -> None:
        self._run = run
        self._plain: list[str] = []
        self._percent: list[str] = []
        self._has_words = False
        self._num_operators = 0
        self._open: list[bool] = []
        """Of each open bracket, whether it is divided by or an exponent."""
        self._closed_divisor = False

    def read(self) -> tuple[str, str, bool] | None:
        """The call without percent signs, with them, and whether words stand in it."""
        wants_operand = True
        for place in range(len(self._run)):
            taken = self._operand(place) if wants_operand else self._after_operand(place)
            if taken is None:
                return None
            wants_operand = taken
        if wants_operand or self._open or not self._num_operators:
            return None
        return "".join(self._plain), "".join(self._percent), self._has_words

    def _operand(self, place: int) -> bool | None:
        """Take a token where a number may begin; whether one is still wanted, None to refuse."""
        token = self._run[place]
        if token.kind is Kind.NUMBER:
            if token.text[0] == "0" and token.text[1:2].isdigit():
                return None  # `0900 - 0130`, `80 000 / 4`
            self._number(place)
            return False
        if token.kind is Kind.OPEN:
            self._open.append(self._divides)
            self._write("(")
            return True
        if token.kind is Kind.CURRENCY:
            return True
        if operator_of(token) == "-" and (not self._plain or self._plain[-1] == "("):
            self._write("-")
            return True
        return None

    @property
    def _divides(self) -> bool:
        return bool(self._plain) and self._plain[-1] in ("/", "**")

    def _number(self, place: int) -> None:
        text = plain_number(self._run[place].text)
        following = self._run[place + 1] if place + 1 < len(self._run) else None
        is_percent = following is not None and following.kind is Kind.PERCENT
        self._percent.append(f"({text}/100)" if is_percent and self._divides else text)
        self._plain.append(text)

    def _after_operand(self, place: int) -> bool | None:
        """Take a token where an operator may stand; whether a number is wanted, None to refuse."""
        token = self._run[place]
        if is_per(self._run, place):
            return False
        if token.kind in (Kind.OPERATOR, Kind.TIMES):
            self._num_operators += 1
            self._write(operator_of(token))
            return True
        if token.kind is Kind.WORD:
            if is_of(self._run, place):
                self._num_operators += 1
                self._write("*")
                return True
            self._has_words = True
            return False
        if token.kind is Kind.CLOSE:
            if not self._open:
                return None
            self._closed_divisor = self._open.pop()
            self._write(")")
            return False
        if token.kind is Kind.POWER:
            if self._run[place - 1].kind is not Kind.WORD:  # else `500 cm³`
                self._num_operators += 1
                self._write(_POWERS[token.text])
            return False
        if token.kind is Kind.PERCENT:
            return self._percent_sign(self._run[place - 1])
        return None

    def _percent_sign(self, before: Token) -> bool | None:
        if before.kind not in (Kind.NUMBER, Kind.CLOSE):
            return None
        if before.kind is Kind.CLOSE and self._closed_divisor:
            return None  # `50/(5 + 3)%` would need one more bracket
        if self._percent[-1] in (self._plain[-1], ")"):  # else the number has it already
            self._percent.append("/100")
        return False

    def _write(self, text: str) -> None:
        self._plain.append(text)
        self._percent.append(text)
