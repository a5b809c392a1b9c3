"""What travels between a program and its tests: plain data, and nothing that could lie."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.tasks.sandbox.guest import (
    MAX_NESTING,
    MODULES,
    Opaque,
    decode,
    encode,
    modules_named,
)

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.fractions()
)
PLAIN = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner)
        | st.sets(st.integers())
        | st.frozensets(st.text())
    ),
    max_leaves=12,
)


def _sent(value: object) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


@given(PLAIN)
def test_plain_data_arrives_as_it_was(value: object) -> None:
    arrived = _sent(value)
    assert arrived == value
    assert repr(arrived) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)
    assert type(arrived) is type(value)


def test_numbers_arrive_exactly() -> None:
    for number in (0.0, -0.0, math.inf, -math.inf, 5e-324):
        assert _sent(number) == number
        assert math.copysign(1, _sent(number)) == math.copysign(1, number)
    for number in (10**5000, -(10**5000)):
        assert _sent(number) == number


def test_not_a_number_stays_none() -> None:
    assert math.isnan(_sent(math.nan))
    assert _sent(math.nan) != _sent(math.nan)


class _Yes(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class _YesList(list[int]):
    def __eq__(self, other: object) -> bool:
        return True


class _YesText(str):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def test_subclasses_become_plain_and_lose_their_equality() -> None:
    for liar, plain in ((_Yes(5), 5), (_YesList([1]), [1]), (_YesText("a"), "a")):
        arrived = _sent(liar)
        assert type(arrived) is type(plain)
        assert arrived == plain
        assert arrived != "anything else"


def test_usual_subclasses_equal_what_they_equal_here() -> None:
    pair = namedtuple("pair", "a b")
    for value in (Counter("aab"), OrderedDict(a=1), defaultdict(int, b=2), pair(1, 2)):
        assert _sent(value) == value


def test_other_objects_equal_nothing_and_not_themselves() -> None:
    for value in (object(), lambda: None, (i for i in range(3)), range(3), {1: 2}.keys()):
        arrived = _sent(value)
        assert isinstance(arrived, Opaque)
        assert arrived != arrived
        assert arrived not in [[0, 1, 2], None, value]
    with pytest.raises(TypeError):
        hash(_sent(object()))


def test_deep_and_endless_values_are_cut() -> None:
    endless: list[object] = []
    endless.append(endless)
    arrived, depth = _sent(endless), 0
    while isinstance(arrived, list):
        arrived, depth = arrived[0], depth + 1
    assert isinstance(arrived, Opaque)
    assert depth == MAX_NESTING + 1
    shallow: object = 1
    for _ in range(MAX_NESTING):
        shallow = [shallow]
    assert _sent(shallow) == shallow


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        [],
        {},
        ["int"],
        ["int", "five"],
        ["int", 5],
        ["literal", 7],
        ["literal", "True"],
        ["list", 5],
        ["set", [["list", []]]],
        ["dict", [[["list", []], ["literal", None]]]],
        ["dict", [["int"]]],
        ["function", "print"],
        ["Decimal", "x"],
        ["__import__", "os"],
        ["bytes", "zz"],
    ],
)
def test_messages_that_hold_no_value_are_errors(message: object) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        decode(message)


def test_numbers_of_the_library_arrive() -> None:
    assert _sent(Decimal("1.10")) == Decimal("1.1")
    assert _sent(Fraction(1, 3)) == Fraction(1, 3)


def test_only_modules_that_compute_can_be_named() -> None:
    assert modules_named(["import math, numpy, subprocess\nfrom os import path"]) == [
        "math",
        "os",
        "os.path",
    ]
    assert "heapq" in modules_named(["collections"])
    for name in ("subprocess", "socket", "ctypes", "multiprocessing", "webbrowser", "antigravity"):
        assert name not in MODULES
