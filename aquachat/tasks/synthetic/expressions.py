"""Arithmetic over named quantities: exact values, and the text of a calculator call.

Example:
    >>> distance = Expression("s*t")
    >>> distance.value({"s": 60, "t": 3}), distance.written({"s": 60, "t": 3})
    (180, '60*3')
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import gcd

Number = int | Fraction
Quantities = Mapping[str, Number]

_NAME = re.compile(r"([a-z]\w*)")


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return Fraction(left) / Fraction(right)


def _power(base: Number, exponent: Number) -> Number:
    assert isinstance(exponent, int), "exponents of our problems are whole numbers"
    return base**exponent


def _gcd(first: Number, second: Number) -> Number:
    return gcd(int(first), int(second))


_OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.Pow: _power,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Number, Number], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Expression:
    """An expression in `+ - * / **`, brackets, whole numbers and lower-case names."""

    __slots__ = ("_pieces", "text", "value")

    def __init__(self, text: str) -> None:
        self.text = text.replace(" ", "")
        self.value: Callable[[Quantities], Number] = _compile(ast.parse(text, mode="eval").body)
        """The exact value, given the value of each name; raises ZeroDivisionError."""
        self._pieces = _NAME.split(self.text)

    def written(self, quantities: Quantities) -> str:
        """The expression with the names replaced by their values, as the calculator reads it."""
        pieces = list(self._pieces)
        for place in range(1, len(pieces), 2):
            pieces[place] = format_number(quantities[pieces[place]])
        return "".join(pieces)


class Condition:
    """A comparison of two expressions, for example `a != b` or `gcd(m, n) == 1`."""

    __slots__ = ("holds", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        comparison = ast.parse(text, mode="eval").body
        assert isinstance(comparison, ast.Compare), f"{text!r} is not a comparison"
        compare = _COMPARISONS[type(comparison.ops[0])]
        left, right = _compile(comparison.left), _compile(comparison.comparators[0])
        self.holds: Callable[[Quantities], bool] = lambda q: compare(left(q), right(q))
        """Whether it is true, given the value of each name."""


def _compile(node: ast.expr) -> Callable[[Quantities], Number]:
    if isinstance(node, ast.Constant):
        constant = node.value
        assert type(constant) is int, f"{constant!r} is not a whole number"
        return lambda quantities: constant
    if isinstance(node, ast.Name):
        return operator.itemgetter(node.id)
    if isinstance(node, ast.Call):
        first, second = map(_compile, node.args)
        return lambda quantities: _gcd(first(quantities), second(quantities))
    assert isinstance(node, ast.BinOp), f"{ast.dump(node)} is not arithmetic"
    operation, left, right = _OPERATIONS[type(node.op)], _compile(node.left), _compile(node.right)
    return lambda quantities: operation(left(quantities), right(quantities))


def terminates(number: Number) -> bool:
    """Whether the decimal form ends: no prime but 2 and 5 divides the denominator."""
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def format_number(number: Number) -> str:
    """Whole numbers plainly, terminating fractions as decimals, others as `numerator/denominator`.

    Example:
        >>> format_number(180), format_number(Fraction(5, 2)), format_number(Fraction(1, 3))
        ('180', '2.5', '1/3')
    """
    if type(number) is int:
        return str(number)
    if number.denominator == 1:
        return str(number.numerator)
    if not terminates(number):
        return format_fraction(number)
    num_decimals = 1
    while 10**num_decimals % number.denominator:
        num_decimals += 1
    scaled = number.numerator * 10**num_decimals // number.denominator
    sign, digits = ("-" if scaled < 0 else ""), str(abs(scaled)).rjust(num_decimals + 1, "0")
    return f"{sign}{digits[:-num_decimals]}.{digits[-num_decimals:]}"


def format_fraction(number: Number) -> str:
    """A fraction in lowest terms, `3/8`, whether or not its decimal form ends."""
    return f"{number.numerator}/{number.denominator}"
