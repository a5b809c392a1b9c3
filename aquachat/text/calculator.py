"""An exact calculator for untrusted expressions, such as a model writes in its calculator calls.

Grammar, with Python's precedence (`-2**2` is -4, `2**3**2` is 512, `2**-1` is 0.5):

    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/") signed)*
    signed  = "-" signed | power
    power   = atom ("**" signed)?
    atom    = number | "(" sum ")"

There is no `eval`, no signal and no global state, so it works in any thread, and every bound is
checked before the work it limits: hostile input such as `9**9**9` costs microseconds.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_EXPRESSION_CHARS = 200
MAX_DEPTH = 32
"""How deep parentheses, signs and powers may nest."""
MAX_EXPONENT = 256
MAX_BITS = 256
"""Largest size of a numerator or denominator, of any intermediate result too."""
EXACT_DECIMALS = 10
"""A decimal that ends within this many places is printed exactly."""
ROUNDED_DECIMALS = 6
"""Any other fraction is rounded to this many places, half to even."""

_TOKEN = re.compile(
    r"[ \t]*(?:(?P<operator>\*\*|[-+*/()])"
    r"|(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
)


class _CannotEvaluate(Exception):
    """The expression is not in the grammar, divides by zero or leaves the bounds."""


def evaluate(expression: str) -> str | None:
    """The value of `expression` as text, or None where there is none within the bounds.

    Thousands commas are removed (`1,200+1` is 1201; `1,2` is refused).

    Example:
        evaluate("60*2.5")   # "150"
        evaluate("1/8")      # "0.125"
        evaluate("2/3")      # "0.666667"
        evaluate("1/0")      # None
    """
    value = evaluate_exactly(expression)
    return None if value is None else format_number(value)


def evaluate_exactly(expression: str) -> Fraction | None:
    """The value of `expression` before it is printed, or None as in `evaluate`."""
    if len(expression) > MAX_EXPRESSION_CHARS:
        return None
    try:
        return _Parser(_tokens(expression)).parse()
    except _CannotEvaluate:
        return None


def format_number(value: Fraction) -> str:
    """Print a fraction the way the calculator does: `150`, `0.125`, `-0.666667`."""
    if value.denominator == 1:
        return str(value.numerator)
    places = _decimal_places(value.denominator)
    if places is None or places > EXACT_DECIMALS:
        places = ROUNDED_DECIMALS
    scaled = round(value * 10**places)
    digits = str(abs(scaled)).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{text}" if scaled < 0 else text


def parse_number(text: str) -> Fraction | None:
    """Read one printed number: `72`, `-1,200`, `$3.50`, `0.5`, `12.`, `.5`; None for anything else.

    A currency sign in front and a sentence's full stop behind are ignored; a fraction such as
    `3/4` is read too. A percent sign is not: 5% and 5 are not the same answer.
    """
    cleaned = text.strip().replace("$", "", 1).rstrip(".")
    if re.fullmatch(r"-?[ \t]*[0-9.,]+(?:/[0-9.,]+)?", cleaned) is None:
        return None
    return evaluate_exactly(cleaned)


def _tokens(expression: str) -> list[str | Fraction]:
    tokens: list[str | Fraction] = []
    position, end = 0, len(expression.rstrip(" \t"))
    while position < end:
        match = _TOKEN.match(expression, position, end)
        if match is None:
            raise _CannotEvaluate
        number = match["number"]
        tokens.append(match["operator"] if number is None else _bounded(_literal(number)))
        position = match.end()
    return tokens


def _literal(number: str) -> Fraction:
    return Fraction(number.replace(",", "").removesuffix("."))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _CannotEvaluate
    return value


def _decimal_places(denominator: int) -> int | None:
    """How many decimals a fraction with this denominator has, None where they do not end."""
    places = 0
    for prime in (2, 5):
        power = 0
        while denominator % prime == 0:
            denominator //= prime
            power += 1
        places = max(places, power)
    return places if denominator == 1 else None


class _Parser:
    """Recursive descent over the tokens; `depth` counts the nesting that recursion follows."""

    def __init__(self, tokens: list[str | Fraction]) -> None:
        self._tokens = tokens
        self._position = 0

    def parse(self) -> Fraction:
        value = self._sum(0)
        if self._position != len(self._tokens):
            raise _CannotEvaluate
        return value

    def _take(self, *operators: str) -> str | None:
        if self._position < len(self._tokens):
            token = self._tokens[self._position]
            if isinstance(token, str) and token in operators:
                self._position += 1
                return token
        return None

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while operator := self._take("+", "-"):
            right = self._product(depth)
            value = _bounded(value + right if operator == "+" else value - right)
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while operator := self._take("*", "/"):
            right = self._signed(depth)
            if operator == "/" and right == 0:
                raise _CannotEvaluate
            value = _bounded(value * right if operator == "*" else value / right)
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise _CannotEvaluate
        if self._take("-"):
            return -self._signed(depth + 1)
        base = self._atom(depth)
        return _power(base, self._signed(depth + 1)) if self._take("**") else base

    def _atom(self, depth: int) -> Fraction:
        if self._take("("):
            value = self._sum(depth + 1)
            if not self._take(")"):
                raise _CannotEvaluate
            return value
        if self._position < len(self._tokens):
            token = self._tokens[self._position]
            if isinstance(token, Fraction):
                self._position += 1
                return token
        raise _CannotEvaluate


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT or (base == 0 and exponent < 0):
        raise _CannotEvaluate
    largest = max(base.numerator.bit_length(), base.denominator.bit_length())
    # A number of b bits to the power n has more than (b - 1) * n bits, so this refuses only what
    # `_bounded` would refuse, before the large number is made.
    if (largest - 1) * abs(int(exponent)) > MAX_BITS:
        raise _CannotEvaluate
    return _bounded(base ** int(exponent))
