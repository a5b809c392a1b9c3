from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.option_order import (
    OptionReferences,
    option_references,
    refers_to_options,
    reorder,
    rotate,
)


def _item(*options: str, question: str = "What?", gold: int = 0, rationale: str = "") -> ChoiceItem:
    return ChoiceItem("x/1", question, options, gold, rationale)


plain_options = st.lists(
    st.integers(0, 99).map(lambda number: f"{number} km"), min_size=2, max_size=6, unique=True
)


@settings(deadline=None)
@given(plain_options, st.randoms(use_true_random=False))
def test_reordering_moves_the_gold_with_its_option(options: list[str], random: object) -> None:
    order = list(range(len(options)))
    random.shuffle(order)  # type: ignore[attr-defined]
    item = _item(*options, gold=len(options) - 1)
    moved = reorder(item, order)
    assert [moved.options[place] for place in range(len(order))] == [options[i] for i in order]
    assert moved.options[moved.answer_index] == options[-1]


@settings(deadline=None)
@given(plain_options, st.integers(0, 6), st.integers(0, 6))
def test_rotations_add_up(options: list[str], first: int, second: int) -> None:
    item = _item(*options)
    assert rotate(rotate(item, first), second) == rotate(item, first + second)
    assert rotate(item, len(options)) == item
    assert rotate(item, first).answer_index == first % len(options)


def test_an_order_must_be_a_permutation() -> None:
    for order in ([0, 0], [0], [0, 2], [0, 1, 2]):
        with pytest.raises(ValueError, match="is no order"):
            reorder(_item("1", "2"), order)


@pytest.mark.parametrize(
    ("option", "moved"),
    [
        ("Both A and B", "Both B and C"),
        ("both a and b.", "both b and c."),
        ("A and C only", "B and D only"),
        ("A, B, and C", "B, C, and D"),
        ("(A) and (C)", "(B) and (D)"),
        ("Neither (a) nor (b).", "Neither (b) nor (c)."),
        ("Either A or B", "Either B or C"),
        ("Options A and B", "Options B and C"),
        ("All of the above", "All of these"),
        ("none of above.", "none of these."),
        ("None of the above", "None of these"),
        ("All the above", "All of these"),
        ("none of these above", "none of these"),
        ("All the above value", "All of these"),
        ("A or C", "B or D"),
    ],
)
def test_references_follow_their_options(option: str, moved: str) -> None:
    item = _item("1", "2", "3", option, gold=3)
    assert refers_to_options(item)
    turned = rotate(item, 1)
    assert turned.options == (moved, "1", "2", "3")
    assert turned.answer_letter == "A"


@pytest.mark.parametrize(
    "option",
    [
        *("None of these", "All of them", "I and II only", "V and U", "P(A and B)", "vitamin B"),
        *("above average", "first law", "W = B", "A", "Both are even", "P and Q", "1 and 2 only"),
        *("Li and B", "a cat and a dog", "Both a scientist and a poet"),
    ],
)
def test_other_options_are_left_alone(option: str) -> None:
    item = _item("1", "2", "3", option)
    assert not refers_to_options(item)
    assert rotate(item, 1).options == (option, "1", "2", "3")


def test_items_are_told_apart_by_how_their_options_refer_to_each_other() -> None:
    assert option_references(_item("1", "2", "None of these")) is OptionReferences.NONE
    assert option_references(_item("1", "2", "A or B")) is OptionReferences.CLEAR
    unclear = _item("1", "2", "A or B", question="A and B race. Who wins?")
    assert option_references(unclear) is OptionReferences.UNCLEAR


def test_letters_that_may_be_people_keep_the_order() -> None:
    item = _item("A", "B", "Both A and B", question="A and B race. Who wins?")
    assert refers_to_options(item)
    assert rotate(item, 1) is item


def test_mentions_in_the_rationale_follow_their_options() -> None:
    item = _item(
        "1", "2", "3", rationale="Option B is too small. Try (C): it fits.\nAnswer: C", gold=2
    )
    assert rotate(item, 1).rationale == "Option C is too small. Try (A): it fits."


@pytest.mark.parametrize(
    ("rationale", "moved"),
    [
        ("So the answer is B.", "So the answer is C."),
        ("Hence option (C) fits", "Hence option (A) fits"),
        ("Answer: A\nIt is small.", "Answer: B\nIt is small."),
        ("ans b it is", "ans c it is"),
        ("the answer must be c, since 4 > 3", "the answer must be a, since 4 > 3"),
        ("only option a satisfies it all", "only option b satisfies it all"),
        ("options a, b and c are too large", "options b, c and a are too large"),
        ("eliminate answer choice b and c. Now", "eliminate answer choice c and a. Now"),
        ("answer: b explanation: 5 + 5", "answer: c explanation: 5 + 5"),
        ("answer = 0.4 (c)", "answer = 0.4 (a)"),
        ("Option 'B'\nThe total is 3", "Option 'C'\nThe total is 3"),
    ],
)
def test_a_letter_inside_a_sentence_follows_its_option(rationale: str, moved: str) -> None:
    # A closing statement of the letter would be left out, so something follows.
    after = "" if rationale.endswith("(c)") else "\nThen 2 + 2 is 4 and we are done."
    item = _item("1", "2", "3", rationale=rationale + after)
    assert rotate(item, 1).rationale == moved + after


@pytest.mark.parametrize(
    "text",
    [
        *("A car and a bus: the answer is a multiple of 3", "the answer a man gives is 3"),
        *("Plan B is cheaper than plan C", "triangle ABC with angle B = 30", "vitamin C helps"),
        *("A's share is 3 and B's share is 4", "A and B can do a work in 3 days", "A + B = C"),
        *("the answer b + 2 is 5", "so the answer is b + c", "answer: c. p. = 40", "x = a / b"),
        *("P(A) = 1 and P(B) = 2", "f (c) = 3 at c", "the choice e.g. of 3", "an option A person"),
        *("the length (l) = 3, breadth (b) = 4 m", "set A has 3 of B", "Let a be 3, b be 4"),
    ],
)
def test_words_unknowns_and_names_keep_their_letter(text: str) -> None:
    text += "\nThen 2 + 2 is 4 and we are done."
    assert rotate(_item("1", "2", "3", rationale=text), 1).rationale == text


def test_articles_and_names_in_the_rationale_stay() -> None:
    text = "A train and a car: the answer is a multiple of 3. P(A) = 1. Point B is left."
    assert rotate(_item("1", "2", "3", rationale=text), 1).rationale == text
    named = _item("1", "2", question="A and B walk.", rationale="First (B) stops.")
    assert rotate(named, 1).rationale == "First (B) stops."


def test_long_hostile_rationales_are_relabelled_quickly() -> None:
    units = (
        " ",
        "answer ",
        "answer is",
        "option a, ",
        "(",
        "answer: ",
        "answer" + " " * 50,
        "a and ",
    )
    for unit in units:
        text = f"answer{unit * 3_000}x\nThen 2 + 2 is 4 and we are done."
        assert len(rotate(_item("1", "2", "3", rationale=text), 1).rationale) == len(text)
