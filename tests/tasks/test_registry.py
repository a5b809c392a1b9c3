from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.tasks.chat_rows import load_conversations
from aquachat.tasks.registry import TASKS, task_by_name
from aquachat.tasks.rows import RowReason

AQUA = {"question": "q?", "options": ["A)1", "B)2"], "rationale": "So 2", "correct": "B"}
ARC = {
    "question": "Which?",
    "choices": {"text": ["sun", "moon", "sea"], "label": ["1", "2", "3"]},
    "answerKey": "3",
}
MMLU = {"question": "Why?", "subject": "logic", "choices": ["p", "q", "r", "s"], "answer": 2}
GSM8K = {"question": "How many?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}
HUMANEVAL = {
    "prompt": "def one():\n",
    "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}
GENERATED = ("SYNTHETIC", "SPELLING")
PREPARED = {
    "aqua/validation": AQUA,
    "aqua/heldout": AQUA,
    "gsm8k/test": GSM8K,
    "arc-easy/test": ARC,
    "arc-challenge/test": ARC,
    "mmlu/test": MMLU,
    "humaneval/test": HUMANEVAL,
}


def _write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    for place, row in PREPARED.items():
        _write(tmp_path / f"{place}.jsonl", row)
    return tmp_path


@pytest.mark.parametrize("name", list(TASKS))
def test_every_name_gives_a_task_whose_gold_is_correct(data_root: Path, name: str) -> None:
    for typed in (name, name.lower()):
        task = task_by_name(typed, data_root=data_root, max_examples=3)
        assert task.name == name
        assert task.split == TASKS[name].splits[0]
        assert len(task) >= 1
        example = task[0]
        assert task.grade(example, example.conversation.messages[-1].text).correct
        assert not task.grade(example, "").correct
        assert ("categorical" in task.protocols) == bool(example.choices)


def test_arc_and_mmlu_rows_have_letters_in_order(data_root: Path) -> None:
    arc = task_by_name("ARC-EASY", data_root=data_root)[0]
    assert (arc.choices, arc.answer) == (("A", "B", "C"), "C")
    mmlu = task_by_name("MMLU", data_root=data_root)[0]
    assert (mmlu.answer, mmlu.attributes) == ("C", {"subject": "logic"})


def test_path_gives_the_rows_in_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "my rows.jsonl", AQUA, {"question": "no options"}, AQUA)
    task = task_by_name(str(path), data_root=tmp_path / "none")
    assert (task.name, len(task)) == ("my rows", 2)
    with pytest.raises(MissingFileError):
        task_by_name("none.jsonl", data_root=tmp_path)
    bad = _write(tmp_path / "bad.jsonl", {"text": "no question"})
    with pytest.raises(DataError, match="line 1: missing_question"):
        task_by_name(str(bad), data_root=tmp_path)


def test_unknown_name_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        task_by_name("ARC-EASYY", data_root=tmp_path)
    assert "ARC-EASY`" in (caught.value.hint or "")
    with pytest.raises(ConfigError) as caught:
        task_by_name("zzz", data_root=tmp_path)
    assert "SYNTHETIC" in (caught.value.hint or "")


def test_unknown_split_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        task_by_name("AQUA", "validatoin", data_root=tmp_path)
    assert caught.value.hint == "did you mean `--task AQUA/validation`?"
    with pytest.raises(ConfigError):
        task_by_name("SYNTHETIC", "test", data_root=tmp_path)


@pytest.mark.parametrize("name", [name for name in TASKS if name not in GENERATED])
def test_set_that_is_not_prepared_says_how_to(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFileError) as caught:
        task_by_name(name, data_root=tmp_path)
    assert caught.value.hint == f"run `aquachat prepare {TASKS[name].dataset}`"


def test_named_aqua_directory_is_used_and_nothing_else(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        task_by_name("AQUA", data_root=data_root, aqua_dir=tmp_path / "elsewhere")
    _write(tmp_path / "elsewhere" / "validation.jsonl", AQUA, AQUA)
    task = task_by_name("AQUA", data_root=data_root, aqua_dir=tmp_path / "elsewhere")
    assert len(task) == 2


def test_deepminds_own_files_are_read_in_place(tmp_path: Path) -> None:
    _write(tmp_path / "dev.json", AQUA)
    assert len(task_by_name("AQUA", data_root=tmp_path, aqua_dir=tmp_path)) == 1


def test_max_examples_draws_by_seed(data_root: Path) -> None:
    rows = [{**AQUA, "question": f"q{number}?"} for number in range(50)]
    _write(data_root / "aqua" / "validation.jsonl", *rows)

    def ids(seed: int) -> list[str]:
        task = task_by_name("AQUA", data_root=data_root, seed=seed, max_examples=10)
        return [task[index].id for index in range(len(task))]

    assert len(ids(1)) == 10
    assert ids(1) == ids(1) != ids(2)


def test_synthetic_items_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    tasks = [
        task_by_name("synthetic", "train", data_root=tmp_path, seed=seed, max_examples=4)
        for seed in (5, 5, 6)
    ]
    texts = [[task[i].conversation.messages[0].text for i in range(4)] for task in tasks]
    assert texts[0] == texts[1] != texts[2]


def test_spelling_has_as_many_problems_as_are_asked_for(tmp_path: Path) -> None:
    for split in ("test", "train"):
        task = task_by_name("spelling", split, data_root=tmp_path, seed=2, max_examples=7)
        assert (len(task), task[6].id) == (7, f"spelling/{split}/2/6")


def test_conversations_are_read_and_others_rejected(tmp_path: Path) -> None:
    user, reply = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    path = _write(
        tmp_path / "chat.jsonl",
        {"messages": [user, reply, user]},
        {"messages": [user]},
        {"messages": [reply, user]},
        {"messages": "Hi"},
        {"text": "Hi"},
    )
    rows = load_conversations(path)
    assert [len(c.messages) for c in rows.conversations] == [2]
    assert {row.reason for row in rows.rejected} == {RowReason.NO_CONVERSATION}
    with pytest.raises(DataError):
        load_conversations(_write(tmp_path / "none.jsonl", {"text": "Hi"}))
