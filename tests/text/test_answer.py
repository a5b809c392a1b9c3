from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.text.answer import (
    answer_line,
    parse_answer,
    parse_numeric_answer,
    parse_text_answer,
)

LETTERS = "ABCDE"


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("Answer: C", "C"),
        ("2 + 3 = 5 B\nAnswer: B", "B"),
        ("Answer: (C)", "C"),
        ("Answer: C.", "C"),
        ("Answer: C)", "C"),
        ("  Answer : C  ", "C"),
        ("**Answer:** C", "C"),
        ("**Answer: (C).**", "C"),
        ("Answer:C", "C"),
        ("Answer: C\r\nAnswer: D\r\n", "D"),
        ("Answer: C\nWait, no.\nAnswer: D", "D"),
        ("Answer: D\nAnswer: because", "D"),
        ("Answer: D\nThat was it.\n\n", "D"),
    ],
)
def test_last_answer_line_gives_the_letter(reply: str, letter: str) -> None:
    assert parse_answer(reply, LETTERS) == letter


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Answer:",
        "A train travels 60 km",
        "Let's take a look. The answer is D",
        "I'd say B",
        "B",
        "Answer: because it is",
        "Answer: Can not be determined",
        "answer - all of the above = E",
        "Answer: a",
        "answer: C",
        "ANSWER: C",
        "Answer: F",
        "Answer: C\nAnswer: F",
        "Answer: C or D",
        "Answer: C D",
        "Answer: CD",
        "Answer: C1",
        "Answer: C) 24",
        "Answer: C. Wait, no.",
        "so the Answer: C",
        "My Answer: C",
        "Answer\nC",
        "Answer:\nC",
        "Answer: \nC",
        "Answer: \u0421",
        "Reason step by step, then end with Answer: and the letter.",
    ],
)
def test_no_answer_line_gives_no_letter(reply: str) -> None:
    assert parse_answer(reply, LETTERS) is None


def test_letter_must_be_one_of_the_items() -> None:
    assert parse_answer("Answer: D", "ABC") is None
    assert parse_answer("Answer: D", ("A", "B", "C", "D")) == "D"


@given(st.text(), st.sampled_from(LETTERS))
def test_appended_answer_line_decides(text: str, letter: str) -> None:
    assert parse_answer(f"{text}\n{answer_line(letter)}", LETTERS) == letter


@given(st.text(alphabet="Answer: ABCDE()*_.\n\tabz"))
def test_parsed_letter_stands_on_a_line_of_its_own(reply: str) -> None:
    letter = parse_answer(reply, LETTERS)
    if letter is not None:
        bare = ["".join(c for c in line if c not in " \t*_().") for line in reply.split("\n")]
        assert f"Answer:{letter}" in bare


def test_long_hostile_replies_are_read_quickly() -> None:
    for unit in ("Answer: ", "* ", "Answer:", "Answer: (A", " _*", "\n"):
        assert parse_answer(unit * 50_000 + "x", LETTERS) is None


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("48 + 24 = 72\nAnswer: 72", Fraction(72)),
        ("Answer: $1,072.50", Fraction(2145, 2)),
        ("Answer: 72.", Fraction(72)),
        ("Answer: -5", Fraction(-5)),
        ("Answer: 3/4", Fraction(3, 4)),
        ("Answer: 1\nAnswer: 2", Fraction(2)),
        ("**Answer:** 7", Fraction(7)),
        ("Answer: 72 clips", None),
        ("Answer: seventy", None),
        ("#### 72", None),
        ("72", None),
        ("", None),
        ("Answer: 1\nAnswer: 1,2,3", None),
        ("Answer: .", None),
    ],
)
def test_last_number_line_gives_the_number(reply: str, number: Fraction | None) -> None:
    assert parse_numeric_answer(reply) == number


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("I think so.\nAnswer: Paris", "Paris"),
        ("**Answer: Paris**\r", "Paris"),
        ("Answer: Rome\nAnswer: a b c", "a b c"),
        ("Answer: Rome\nAnswer: ", None),
        ("The answer: Paris", None),
        ("answer: Paris", None),
        ("", None),
    ],
)
def test_last_answer_line_gives_the_text(reply: str, text: str | None) -> None:
    assert parse_text_answer(reply) == text
