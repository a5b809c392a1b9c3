from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.errors import DataError
from aquachat.tasks.free_form import (
    NUMBER_INSTRUCTION,
    TEXT_INSTRUCTION,
    FreeFormTask,
    load_free_form,
    normalised_text,
)
from aquachat.tasks.registry import task_by_name
from aquachat.text.answer import answer_line

USER = {"role": "user", "content": "Name the capital of France."}


def _task(tmp_path: Path, *rows: object) -> FreeFormTask:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = task_by_name(str(path), data_root=tmp_path)
    assert isinstance(task, FreeFormTask)
    return task


def test_only_the_gold_reply_is_graded_correct(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        {"question": "How many legs have 3 cats?", "answer": 12, "rationale": "<<3*4=12>>12"},
        {"question": "What is a half?", "answer": "1/2"},
        {"question": "What is a half, in decimals?", "answer": 0.5},
        {"question": "What colour is the sky?", "answer": "Light blue"},
        {"messages": [USER], "answer": "Paris"},
        {"messages": [USER, {"role": "assistant", "content": "Paris it is."}], "answer": "Paris"},
        {"messages": [{"role": "system", "content": "Be brief."}, USER], "answer": "Paris"},
    )
    assert [task[index].answer for index in range(3)] == ["12", "0.5", "0.5"]
    for index in range(len(task)):
        example = task[index]
        user, gold = (message.text for message in example.conversation.messages[-2:])
        grade = task.grade(example, gold)
        assert (grade.correct, grade.answer, grade.reward) == (True, example.answer, 1.1)
        for reply in ("", user, example.answer):
            assert task.grade(example, reply).reward == 0.0
        wrong = task.grade(example, answer_line("77"))
        assert (wrong.correct, wrong.reward) == (False, 0.1)


def test_question_gets_an_instruction_and_messages_do_not(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        {"question": "How many?", "answer": 2},
        {"question": "Who?", "answer": "me"},
        {"messages": [USER], "answer": "Paris"},
    )
    texts = [task[index].conversation.messages[0].text for index in range(3)]
    assert texts == [
        f"How many?\n{NUMBER_INSTRUCTION}",
        f"Who?\n{TEXT_INSTRUCTION}",
        USER["content"],
    ]


@pytest.mark.parametrize(
    "said", ["Paris", " paris. ", '"PARIS"', "**Paris**", "\u201cParis\u201d."]
)
def test_texts_are_compared_without_regard_to_form(tmp_path: Path, said: str) -> None:
    task = _task(tmp_path, {"messages": [USER], "answer": "Paris"})
    assert task.grade(task[0], f"I think so.\nAnswer: {said}").correct
    assert not task.grade(task[0], f"Answer: {said} or Rome").correct


@pytest.mark.parametrize("said", ["1200", "$1,200", "1200.00", "1,200."])
def test_numbers_are_compared_by_value(tmp_path: Path, said: str) -> None:
    task = _task(tmp_path, {"question": "How much?", "answer": "1,200"})
    grade = task.grade(task[0], f"Answer: {said}")
    assert (grade.correct, grade.answer) == (True, "1200")


def test_the_last_answer_line_decides(tmp_path: Path) -> None:
    task = _task(tmp_path, {"messages": [USER], "answer": "Paris"})
    assert task.grade(task[0], "Answer: Rome\nNo.\nAnswer: Paris").correct
    assert not task.grade(task[0], "Answer: Paris\nNo.\nAnswer: Rome").correct


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalised_text(text)
    assert normalised_text(f" {once} ") == once or once.endswith((".", "'", '"'))


GOOD = {"question": "How many?", "answer": 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "How many?"}, "`answer` is missing"),
        ({"question": "How many?", "answer": None}, "`answer` is neither a text nor a number"),
        ({"question": "How many?", "answer": ["2"]}, "`answer` is neither a text nor a number"),
        ({"question": "How many?", "answer": True}, "`answer` is neither a text nor a number"),
        ({"question": "How many?", "answer": " "}, "`answer` is empty or has more than one line"),
        ({"question": "How many?", "answer": "a\nb"}, "`answer` is empty or has more than one"),
        (
            {"question": "How many?", "answer": 1e300},
            "`answer` is a number that cannot be compared",
        ),
        ({"answer": 2}, "`question` is missing"),
        ({"question": "", "answer": 2}, "`question` is no text or is empty"),
        ({"question": 5, "answer": 2}, "`question` is no text or is empty"),
        ({"question": "q", "answer": 2, "rationale": 5}, "`rationale` is no text"),
        ({"question": "q", "messages": [USER], "answer": 2}, "`messages` stands beside `question`"),
        ({"messages": "hello", "answer": 2}, "`messages` is no list"),
        ({"messages": [], "answer": 2}, "`messages` is no conversation"),
        ({"messages": [{"role": "bot"}], "answer": 2}, "`messages` is no conversation"),
        ({"question": "q", "options": ["A)1", "B)2"], "correct": "A"}, "`options` is there"),
    ],
)
def test_row_that_cannot_be_used_is_named_by_line_and_field(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        _task(tmp_path, GOOD, GOOD, row)
    assert caught.value.message.startswith(f"line 3 of `{tmp_path / 'mine.jsonl'}`: {message}")
    assert caught.value.hint is not None


def test_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{{oops\n")
    with pytest.raises(DataError, match=r"^line 3 of `.*` cannot be used: not_json$"):
        load_free_form(path, name="mine")


def test_rows_in_the_form_of_arc_and_mmlu_are_choices(tmp_path: Path) -> None:
    arc = {"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
    mmlu = {"question": "q", "choices": ["x", "y"], "answer": 1}
    for row in (arc, mmlu):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n")
        example = task_by_name(str(path), data_root=tmp_path)[0]
        assert (example.choices, example.answer) == (("A", "B"), "B")
