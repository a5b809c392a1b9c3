from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.multiple_choice import choice_conversation
from aquachat.tasks.rows import (
    MAX_ROW_CHARS,
    RowReason,
    choice_row,
    has_equal_options,
    read_choice_row,
    some_letters_missing,
    split_option_letters,
    validate_choice_row,
)
from aquachat.text.conversation import conversation_from_json

ROW: dict[str, Any] = {
    "question": "What is 2 + 3?",
    "options": ["A)4", "B)5", "C)6", "D)7", "E)8"],
    "rationale": "2 + 3 = 5\nAnswer: B",
    "correct": "B",
}


def _predecessor_row(question: str, options: list[str], rationale: str, correct: str) -> Any:
    letters = "ABCDEFGH"[: len(options)]
    choices = "".join(f"- {o}={x}\n" for o, x in zip(options, letters, strict=True))
    prompt = (
        "Solve the multiple choice problem and explain your reasoning. "
        "Conclude with 'Answer: <letter>'.\n\n"
        f"Multiple Choice question: {question}\n{choices}\n"
        "Respond only with the letter of the correct answer."
    )
    reply = [{"type": "text", "text": rationale}, {"type": "text", "text": f"Answer: {correct}"}]
    return {
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": reply},
        ],
        "letters": list(letters),
        "answer_letter": correct,
    }


def test_deepminds_row_is_an_item() -> None:
    item = validate_choice_row({**ROW, "category": "general"}, "aqua/train/1")
    assert item == ChoiceItem(
        "aqua/train/1",
        "What is 2 + 3?",
        ("4", "5", "6", "7", "8"),
        1,
        "2 + 3 = 5\nAnswer: B",
        {"category": "general"},
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": None}, RowReason.MISSING_QUESTION),
        ({"question": " "}, RowReason.MISSING_QUESTION),
        ({"options": None}, RowReason.MISSING_OPTIONS),
        ({"options": ["A)4"]}, RowReason.MISSING_OPTIONS),
        ({"options": ["A)4", 5]}, RowReason.MISSING_OPTIONS),
        ({"options": ["A)4", "A)5", "C)6", "D)7", "E)8"]}, RowReason.REPEATED_LETTERS),
        ({"options": ["A)4", "B)5", "C) 4", "D)7", "E)8"]}, RowReason.EQUAL_OPTIONS),
        ({"options": ["A)1/2", "B) 1 / 2 ", "C)4", "D)7", "E)8"]}, RowReason.EQUAL_OPTIONS),
        ({"options": ["A)1,000", "B)1000.", "C)4", "D)7", "E)8"]}, RowReason.EQUAL_OPTIONS),
        ({"options": ["A)4", "B)5", "6", "D)7", "E)8"]}, RowReason.MISSING_LETTERS),
        ({"options": ["A)4", "B)5", "C)6", "D)7", "F)8"]}, RowReason.MISSING_LETTERS),
        ({"options": ["A)4", "B)5", "C)", "D)7", "E)8"]}, RowReason.EMPTY_OPTION),
        ({"correct": "F"}, RowReason.GOLD_NOT_IN_OPTIONS),
        ({"correct": ""}, RowReason.GOLD_NOT_IN_OPTIONS),
        ({"correct": "AB"}, RowReason.GOLD_NOT_IN_OPTIONS),
        ({"correct": 1}, RowReason.GOLD_NOT_IN_OPTIONS),
        ({"rationale": ""}, RowReason.EMPTY_RATIONALE),
        ({"rationale": "Answer: B"}, RowReason.EMPTY_RATIONALE),
        ({"rationale": None}, RowReason.EMPTY_RATIONALE),
        ({"rationale": "It is 5.\nAnswer: C"}, RowReason.RATIONALE_NAMES_OTHER_LETTER),
        ({"rationale": "x" * MAX_ROW_CHARS}, RowReason.TOO_LONG),
    ],
)
def test_bad_row_has_its_reason(change: dict[str, Any], reason: RowReason) -> None:
    assert validate_choice_row({**ROW, **change}) is reason


@pytest.mark.parametrize("row", [None, [], "row", 3])
def test_what_is_no_object_is_no_row(row: object) -> None:
    assert validate_choice_row(row) is RowReason.NOT_AN_OBJECT


def test_flawed_row_is_still_asked_in_an_evaluation() -> None:
    read = read_choice_row({**ROW, "options": ["A)4", "B)5", "C)4"], "rationale": ""}, "x")
    assert read.item is not None
    assert read.item.options == ("4", "5", "4")
    assert read.reasons == (RowReason.EQUAL_OPTIONS, RowReason.EMPTY_RATIONALE)


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["A)150 m", "B)5"], ("150 m", "5")),
        (["A) 150 m", "B)  5 "], ("150 m", "5")),
        (["(A) 150 m", "(B) 5"], ("150 m", "5")),
        (["A. 150 m", "B. 5"], ("150 m", "5")),
        (["A: 150 m", "B: 5"], ("150 m", "5")),
        (["a)150 m", "b ) 5"], ("150 m", "5")),
        (["A)12)5", "B)f(x)"], ("12)5", "f(x)")),
        (["A)(2, 3)", "B)(A) only"], ("(2, 3)", "(A) only")),
        (["A).084%", "B)-3"], (".084%", "-3")),
        (["A)a) 899.015", "B)b) 752.804"], ("899.015", "752.804")),
        (["B)second", "A)first"], ("first", "second")),
        (["150 m", "5"], ("150 m", "5")),
        (["A)150 m", "5"], ("150 m", "5")),
        (["x) 1", "y) 2"], ("x) 1", "y) 2")),
        (["A.5", "B.7"], ("A.5", "B.7")),
        (["A)line\none", "B)two\t words"], ("line one", "two words")),
        (["A)1", "A)2"], None),
    ],
)
def test_letters_are_taken_off_options(options: list[str], texts: tuple[str, ...] | None) -> None:
    assert split_option_letters(options) == texts


@pytest.mark.parametrize(
    "options",
    [
        ["TT", "Tt", "tt"],
        ["-5", "5"],
        ["3.5", "35"],
        ["1,5", "15"],
        ["(1,200)", "(1, 200, 3)"],
    ],
)
def test_options_that_differ_in_case_signs_or_points_are_not_equal(options: list[str]) -> None:
    assert not has_equal_options(options)


def test_letters_are_missing_only_where_others_are_there() -> None:
    assert not some_letters_missing(["4", "5", "6"])
    assert not some_letters_missing(["B)second", "A)first"])
    assert not some_letters_missing(["x) 1", "y) 2"])
    assert some_letters_missing(["A)4", "5", "C)6"])


def test_predecessors_row_is_recovered_from_its_prompt() -> None:
    row = _predecessor_row("Two lines\nof question?", ["1 = A", "- 2", "x=y"], "So.", "B")
    assert validate_choice_row(row, "x") == ChoiceItem(
        "x", "Two lines\nof question?", ("1 = A", "- 2", "x=y"), 1, "So."
    )


def test_row_with_only_our_messages_is_recovered_from_its_prompt() -> None:
    item = validate_choice_row(ROW, "x")
    assert isinstance(item, ChoiceItem)
    row = choice_row(item)
    kept = {key: row[key] for key in ("messages", "letters", "answer_letter")}
    read = read_choice_row(kept, "x").item
    assert read is not None
    assert (read.question, read.options, read.answer_index, read.rationale) == (
        *(item.question, item.options, item.answer_index),
        "2 + 3 = 5\n".strip(),
    )


@pytest.mark.parametrize(
    "messages",
    [None, 3, [], ["x"], [{"role": "user"}], [{"role": "user", "content": "no options here"}]],
)
def test_messages_without_a_question_are_no_row(messages: object) -> None:
    row = {"messages": messages, "letters": ["A", "B"], "answer_letter": "A"}
    assert validate_choice_row(row) is RowReason.MISSING_QUESTION


option_texts = st.text(min_size=1, max_size=10).map(lambda text: " ".join(text.split()))


@st.composite
def choice_items(draw: st.DrawFn) -> ChoiceItem:
    options = draw(st.lists(option_texts.filter(bool), min_size=2, max_size=5, unique=True))
    cleaned = split_option_letters([f"{x}){o}" for x, o in zip("ABCDE", options, strict=False)])
    question = draw(st.text(min_size=1, max_size=30)).strip() or "q"
    rationale = draw(st.text(max_size=30)).strip()
    index = draw(st.integers(0, len(options) - 1))
    assert cleaned is not None
    return ChoiceItem("x", question, cleaned, index, rationale)


@settings(deadline=None)
@given(choice_items())
def test_written_item_is_read_back(item: ChoiceItem) -> None:
    row = choice_row(item)
    assert read_choice_row(row, "x").item == item
    messages = conversation_from_json(row["messages"]).messages
    assert messages[0] == choice_conversation(item).messages[0]
    assert messages[1].text.endswith(f"Answer: {item.answer_letter}")


json_like = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), children)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*ROW, "messages", "letters", "answer_letter"]), json_like))
def test_any_row_is_an_item_or_has_a_reason(row: dict[str, Any]) -> None:
    assert isinstance(validate_choice_row(row), ChoiceItem | RowReason)
