from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.tasks.rationale import calculator_parts, split_letter_statement
from aquachat.text.conversation import Part, PartKind


def test_confirmed_annotation_becomes_a_call_and_its_result() -> None:
    read = calculator_parts("Each costs 12/60 = $<<12/60=0.20>>0.20.")
    assert read.parts == (
        Part(PartKind.TEXT, "Each costs 12/60 = $"),
        Part(PartKind.PYTHON, "12/60"),
        Part(PartKind.PYTHON_OUTPUT, "0.2"),
        Part(PartKind.TEXT, "0.20."),
    )
    assert (read.num_calls, read.num_disagreeing) == (1, 0)


@pytest.mark.parametrize(
    ("rationale", "text"),
    [
        ("10/3 = <<10/3=3.33>>3.33 each", "10/3 = 3.33 each"),
        ("so <<2+2=5>> apples", "so 2+2=5 apples"),
        ("<<x*2=4>>4", "4"),
        ("<<9**9**9=1>>1", "1"),
    ],
)
def test_annotation_that_disagrees_becomes_plain_text(rationale: str, text: str) -> None:
    read = calculator_parts(rationale)
    assert read.parts == (Part(PartKind.TEXT, text),)
    assert (read.num_calls, read.num_disagreeing) == (0, 1)


@given(st.text(alphabet="<>=+*12 ab\n", max_size=60))
def test_calls_in_any_text_are_followed_by_their_result(rationale: str) -> None:
    parts = calculator_parts(rationale).parts
    kinds = [part.kind for part in parts]
    assert kinds.count(PartKind.PYTHON) == kinds.count(PartKind.PYTHON_OUTPUT)
    for kind, following in itertools.pairwise(kinds):
        assert (kind is PartKind.PYTHON) == (following is PartKind.PYTHON_OUTPUT)


@pytest.mark.parametrize(
    ("rationale", "rest", "letter"),
    [
        ("60 * 540 = 32400\nCorrect answer - A", "60 * 540 = 32400", "A"),
        ("x = 250 m. Answer D", "x = 250 m.", "D"),
        ("volume = 300.\nAnswer: D.", "volume = 300.", "D"),
        ("x=95\nANSWER:B", "x=95", "B"),
        ("y\nCORRECT OPTION:OPTION E", "y", "E"),
        ("y\nAnswer: Option B", "y", "B"),
        ("y\nAns - C", "y", "C"),
        ("y\nAnswer (B)", "y", "B"),
        ("y\nThe correct answer is E.", "y", "E"),
        ("y\nSo the correct option is A", "y", "A"),
        ("= 50%. Thus, C is the correct answer", "= 50%.", "C"),
        ("y\nE is the answer.", "y", "E"),
        ("y\nTherefore A is correct", "y", "A"),
        ("y\nAnswer: D) 109 rolls", "y", "D"),
        ("y\nAnswer C)59, 43", "y", "C"),
        ("y\nANSWER D 8000", "y", "D"),
        ("y\nD", "y", "D"),
        ("y\n(D).", "y", "D"),
        ("8.33. Hence answer is a.\nAnswer:B", "8.33.", "B"),
        ("5 ^ 4 = 625 ways. answer: c.", "5 ^ 4 = 625 ways.", "C"),
        ("Answer: C", "", "C"),
        ("", "", None),
        ("She saves 10 dollars.", "She saves 10 dollars.", None),
        ("Total = a + b", "Total = a + b", None),
        ("The answer is a multiple of 3", "The answer is a multiple of 3", None),
        ("The answer is 129", "The answer is 129", None),
        ("Answer: F", "Answer: F", None),
        ("12-5=7 C", "12-5=7 C", None),
    ],
)
def test_closing_letter_is_cut_off(rationale: str, rest: str, letter: str | None) -> None:
    assert split_letter_statement(rationale, "ABCDE") == (rest, letter)


@settings(deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="Answer: ABCisoption.()\n ", max_size=80))
def test_what_is_left_is_a_prefix_without_a_statement(rationale: str) -> None:
    rest, letter = split_letter_statement(rationale, "ABCDE")
    assert rationale.startswith(rest)
    assert split_letter_statement(rest, "ABCDE")[0] == rest
    assert letter is None or letter in "ABCDE"


def test_long_hostile_rationales_are_read_quickly() -> None:
    for unit in ("so the ", "answer ", "answer: (", " - ", "the answer is a "):
        rest, _ = split_letter_statement(unit * 4_000, "ABCDE")
        assert (unit * 4_000).startswith(rest)
