from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.text.calculator import (
    EXACT_DECIMALS,
    MAX_BITS,
    MAX_EXPRESSION_CHARS,
    ROUNDED_DECIMALS,
    evaluate,
    evaluate_exactly,
    format_number,
    parse_number,
)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("60*3", "180"),
        (" 48 / 2 ", "24"),
        ("12/60", "0.2"),
        ("1/8", "0.125"),
        ("2/3", "0.666667"),
        ("-2/3", "-0.666667"),
        ("1/3+2/3", "1"),
        ("0.1+0.2", "0.3"),
        (".5*4", "2"),
        ("5.*4", "20"),
        ("1,200+1", "1201"),
        ("1,234,567.5*2", "2469135"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2**-1", "0.5"),
        ("(1/2)**2", "0.25"),
        ("0**0", "1"),
        ("2--3", "5"),
        ("-(4-9)", "5"),
        ("100-10-5", "85"),
        ("100/10/5", "2"),
        ("2+3*4", "14"),
        ("1/1024", "0.0009765625"),
        ("1/2048", "0.000488"),
        ("-1/30000000", "0"),
    ],
)
def test_expression_has_its_value(expression: str, result: str) -> None:
    assert evaluate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        *("", " ", "()", "1+", "*2", "+1", "1 2", "2(3)", "(1", "1)", "1.2.3", "1,2", "1,2345"),
        *("1/0", "1/(2-2)", "0**-1", "2**0.5", "5%", "3!", "x+1", "1e5", "0x10", "1_000", "2^3"),
        *("__import__('os')", "9//2", "1;2", "1\n+1", "\u0663+\u0661", "²", "1=1", "'a'*9", "$5+1"),
    ],
)
def test_what_is_no_expression_has_no_value(expression: str) -> None:
    assert evaluate(expression) is None


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**999999999",
        "(((2**99)**99)**99)**99",
        "9" * 200,
        "9" * 1_000_000,
        "(" * 10_000 + "1" + ")" * 10_000,
        "(" * 90 + "1" + ")" * 90,
        "-" * 150 + "1",
        "2**" * 60 + "1",
        "(10**60)" + "*(10**60)" * 5,
        "(1/7**80)" + "+(1/11**70)" * 4,
    ],
)
def test_hostile_input_has_no_value(expression: str) -> None:
    assert evaluate(expression) is None


def test_it_works_in_any_thread() -> None:
    results: list[str | None] = []
    thread = threading.Thread(target=lambda: results.append(evaluate("6*7")))
    thread.start()
    thread.join()
    assert results == ["42"]


numbers = st.one_of(
    st.integers(0, 10**6).map(str),
    st.decimals(0, 10**4, places=3).map(str),
    st.integers(1000, 10**9).map(lambda number: f"{number:,}"),
)


def _combined(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(children, st.sampled_from(["+", "-", "*", "/"]), children)
    return st.one_of(
        binary.map(lambda parts: f"({parts[0]}{parts[1]}{parts[2]})"),
        binary.map(" ".join),
        children.map(lambda child: f"-{child}"),
        st.tuples(children, st.integers(0, 3)).map(lambda pair: f"({pair[0]})**{pair[1]}"),
    )


expressions = st.recursive(numbers, _combined, max_leaves=6)


@settings(deadline=None)
@given(expressions)
def test_value_is_that_of_pythons_fractions(expression: str) -> None:
    value = evaluate_exactly(expression)
    literal = _as_fractions(expression)
    try:
        expected = eval(literal, {"F": Fraction})
    except ZeroDivisionError:
        assert value is None
        return
    if value is not None:
        assert value == expected
    else:  # refused: only because it is long, or an intermediate result large
        assert len(expression) > MAX_EXPRESSION_CHARS or _largest_literal_power(expression)


def _as_fractions(expression: str) -> str:
    import re

    pieces = re.split(r"([0-9][0-9,.]*)", expression.replace("**", "^"))
    return "".join(
        f"F('{piece.replace(',', '')}')" if index % 2 else piece
        for index, piece in enumerate(pieces)
    ).replace("^", "**")


def _largest_literal_power(expression: str) -> bool:
    bits = sum(len(digits) for digits in expression) * 4 * 4 ** expression.count("**")
    return bits > MAX_BITS


@settings(deadline=None)
@given(st.text("0123456789+-*/(). ,", max_size=60) | st.text(max_size=60))
def test_any_text_gives_a_number_or_none(text: str) -> None:
    result = evaluate(text)
    assert result is None or parse_number(result) is not None


@given(st.fractions())
def test_printed_number_reads_back_within_its_rounding(value: Fraction) -> None:
    text = format_number(value)
    assert abs(Fraction(text) - value) <= Fraction(1, 2 * 10**ROUNDED_DECIMALS)
    assert not text.startswith("-0") or Fraction(text) != 0
    assert "." not in text or not text.endswith(("0", "."))


@given(st.integers(-(10**12), 10**12), st.integers(0, EXACT_DECIMALS))
def test_decimal_that_ends_is_printed_exactly(digits: int, places: int) -> None:
    value = Fraction(digits, 10**places)
    assert Fraction(format_number(value)) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", Fraction(72)),
        (" $1,072.50 ", Fraction(2145, 2)),
        ("-5", Fraction(-5)),
        ("$-5", Fraction(-5)),
        ("3/4", Fraction(3, 4)),
        ("72.", Fraction(72)),
        (".5", Fraction(1, 2)),
        ("1,2", None),
        ("5%", None),
        ("72 clips", None),
        ("", None),
        ("1/0", None),
        ("2+2", None),
    ],
)
def test_number_is_read(text: str, number: Fraction | None) -> None:
    assert parse_number(text) == number
