from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.choice_task import ChoiceTask, seeded_subset
from aquachat.tasks.multiple_choice import (
    INSTRUCTION,
    choice_conversation,
    choice_example,
    grade_choice,
    question_text,
)
from aquachat.text.answer import answer_line, parse_answer
from aquachat.text.conversation import Part, PartKind, Role

ITEM = ChoiceItem(
    id="x/1",
    question="How far does a car go in 3 hours at 50 km/h?",
    options=("100 km", "150 km", "53 km", "47 km", "200 km"),
    answer_index=1,
    rationale="Distance: 50 * 3 = <<50*3=150>>150 km",
)


def _reply(rationale: str, option: str = "150 km") -> str:
    item = ChoiceItem("x/1", "q", (option, "7"), 0, rationale)
    return choice_conversation(item).messages[-1].text


def test_prompt_has_one_line_an_option_and_one_instruction() -> None:
    assert question_text(ITEM) == (
        "How far does a car go in 3 hours at 50 km/h?\n"
        "100 km A\n150 km B\n53 km C\n47 km D\n200 km E\n" + INSTRUCTION
    )
    assert len(INSTRUCTION.split()) <= 12
    assert parse_answer(INSTRUCTION, "ABCDE") is None


def test_gold_reply_has_calls_the_restated_option_and_the_answer_line() -> None:
    user, assistant = choice_conversation(ITEM).messages
    assert (user.role, assistant.role) == (Role.USER, Role.ASSISTANT)
    assert assistant.parts == (
        Part(PartKind.TEXT, "Distance: 50 * 3 = "),
        Part(PartKind.PYTHON, "50*3"),
        Part(PartKind.PYTHON_OUTPUT, "150"),
        Part(PartKind.TEXT, "150 km B\nAnswer: B"),
    )


@pytest.mark.parametrize(
    ("rationale", "reply"),
    [
        ("50 * 3 = 150 km", "50 * 3 = 150 km A\nAnswer: A"),
        ("50 * 3 = 150 km.", "50 * 3 = 150 km A\nAnswer: A"),
        ("150 km", "150 km A\nAnswer: A"),
        ("", "150 km A\nAnswer: A"),
        ("It takes 150", "It takes 150\n150 km A\nAnswer: A"),
        ("In all 3150 km", "In all 3150 km\n150 km A\nAnswer: A"),
        ("50 * 3 = 150 km\nAnswer: A", "50 * 3 = 150 km A\nAnswer: A"),
        ("50 * 3 = 150 km. Correct answer - B", "50 * 3 = 150 km A\nAnswer: A"),
        ("Answer: A", "150 km A\nAnswer: A"),
        ("50 * 3 = <<50*3=150>>", "50 * 3 = \n150 km A\nAnswer: A"),
    ],
)
def test_right_option_is_restated_once(rationale: str, reply: str) -> None:
    assert _reply(rationale) == reply


@pytest.mark.parametrize("before", ["-5", "1.5", "15", "3/5", "2^5", "x5"])
def test_a_longer_number_does_not_count_as_the_option(before: str) -> None:
    assert _reply(before, option="5") == f"{before}\n5 A\nAnswer: A"


options = st.lists(
    st.text(min_size=1, max_size=8).map(lambda text: " ".join(text.split())).filter(bool),
    min_size=2,
    max_size=6,
    unique=True,
)
items = st.builds(
    lambda question, options, index, rationale: ChoiceItem(
        "h/1", question, tuple(options), index % len(options), rationale
    ),
    st.text(max_size=30),
    options,
    st.integers(0, 5),
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(["Answer: A", "so the answer is (b).", "2+2=<<2+2=4>>4", "<<1/3=0.3>>"]),
    ),
)


@settings(deadline=None)
@given(items)
def test_gold_reply_is_graded_correct_and_no_other_letter_is(item: ChoiceItem) -> None:
    example = choice_example(item)
    gold = example.conversation.messages[-1].text
    assert grade_choice(example, gold).correct
    assert gold.endswith(
        f"{item.options[item.answer_index]} {item.answer_letter}\nAnswer: {item.answer_letter}"
    )
    assert gold.count(answer_line(item.answer_letter)) >= 1
    for letter in example.choices:
        grade = grade_choice(example, answer_line(letter))
        assert grade.correct == (letter == item.answer_letter)
        assert grade.reward == pytest.approx(1.1 if grade.correct else 0.1)


@pytest.mark.parametrize("reply", ["", "A train", "B", "Answer: because", "Answer: Z"])
def test_reply_without_a_valid_line_earns_nothing(reply: str) -> None:
    grade = grade_choice(choice_example(ITEM), reply)
    assert (grade.correct, grade.answer, grade.reward) == (False, None, 0.0)


def test_task_gives_its_items_as_examples() -> None:
    task = ChoiceTask("AQUA", "test", [ITEM])
    assert len(task) == 1
    assert task[0].item is ITEM
    assert task[0].choices == ("A", "B", "C", "D", "E")
    assert task.grade(task[0], "Answer: B").reward == pytest.approx(1.1)
    with pytest.raises(IndexError):
        task[1]


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 5))
def test_subset_is_seeded_in_order_and_as_large_as_asked(num: int, most: int, seed: int) -> None:
    rows = list(range(num))
    subset = seeded_subset(rows, most, seed)
    assert subset == sorted(set(subset)) == seeded_subset(rows, most, seed)
    assert len(subset) == min(num, most)
    assert seeded_subset(rows, None, seed) == rows
