from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.errors import DataError
from aquachat.tasks.gsm8k import INSTRUCTION, Gsm8kTask, load_gsm8k
from aquachat.tasks.rows import RowReason
from aquachat.text.answer import parse_numeric_answer
from aquachat.text.conversation import PartKind

ROW = {
    "question": "Natalia sold 48 clips, then half as many. How many in all?",
    "answer": "She sold 48/2 = <<48/2=24>>24, in all 48+24 = <<48+24=72>>72.\n#### 72",
}


def _task(tmp_path: Path, *rows: object) -> Gsm8kTask:
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_gsm8k(path, "test")


def test_reply_has_calls_and_ends_with_the_number(tmp_path: Path) -> None:
    example = _task(tmp_path, ROW)[0]
    user, gold = example.conversation.messages
    assert user.text == f"{ROW['question']}\n{INSTRUCTION}"
    assert gold.text == "She sold 48/2 = 24, in all 48+24 = 72.\nAnswer: 72"
    assert [p.text for p in gold.parts if p.kind is PartKind.PYTHON] == ["48/2", "48+24"]
    assert parse_numeric_answer(user.text) is None
    assert (example.id, example.answer, example.choices) == ("gsm8k/test/1", "72", ())


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        ("Answer: 72", 1.1),
        ("Answer: $72.00", 1.1),
        ("Answer: 72.", 1.1),
        ("Answer: 7\nAnswer: 72", 1.1),
        ("Answer: 73", 0.1),
        ("Answer: 72\nAnswer: 7", 0.1),
        ("72", 0.0),
        ("#### 72", 0.0),
        ("", 0.0),
    ],
)
def test_reply_is_graded_by_its_number(tmp_path: Path, reply: str, reward: float) -> None:
    task = _task(tmp_path, ROW)
    grade = task.grade(task[0], reply)
    assert grade.reward == pytest.approx(reward)
    assert grade.correct == (reward > 1)


def test_thousands_and_negative_numbers_are_read(tmp_path: Path) -> None:
    task = _task(tmp_path, {**ROW, "answer": "x\n#### 1,200"}, {**ROW, "answer": "x\n#### -3.50"})
    assert [task[0].answer, task[1].answer] == ["1200", "-3.5"]
    for index in range(2):
        example = task[index]
        assert task.grade(example, example.conversation.messages[-1].text).correct


def test_bad_rows_are_rejected_with_their_reason(tmp_path: Path) -> None:
    task = _task(tmp_path, ROW, {"question": "q"}, {"answer": "#### 1"}, {**ROW, "answer": "72"})
    assert len(task) == 1
    assert [row.reason for row in task.rejected] == [
        *(RowReason.MISSING_ANSWER, RowReason.MISSING_QUESTION),
        RowReason.MISSING_ANSWER,
    ]
    with pytest.raises(DataError, match="GSM8K"):
        _task(tmp_path, {"text": "something else"})
