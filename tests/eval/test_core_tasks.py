"""The bundle of CORE: what is read, and what is said of a file that cannot be used."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aquachat.errors import DataError, MissingFileError
from aquachat.eval.core_tasks import CoreTask, TaskKind, read_items, read_tasks
from tests.eval.core_bundle import BASELINES, ROWS, TASKS, write_bundle


def task_named(directory: Path, label: str) -> CoreTask:
    return next(task for task in read_tasks(directory) if task.label == label)


def test_entries_are_read_with_their_baselines_and_absent_ones_are_kept(tmp_path: Path) -> None:
    tasks = read_tasks(write_bundle(tmp_path))
    assert [(task.label, str(task.kind), task.num_fewshot, task.baseline) for task in tasks] == [
        ("capitals", "multiple_choice", 3, 0.25),
        ("absent_task", "language_modeling", 10, 0.0),
        ("pronouns", "schema", 0, 0.5),
        ("counting", "language_modeling", 2, 0.0),
    ]
    assert [task.delimiter for task in tasks] == ["\nAnswer: ", " ", " ", " "]
    assert [task.label for task in tasks if not task.is_present] == ["absent_task"]


def test_rows_are_asked_in_the_published_order(tmp_path: Path) -> None:
    lines = list(range(1, 13))
    random.Random(1337).shuffle(lines)
    items = read_items(task_named(write_bundle(tmp_path), "capitals"))
    assert [item.line_number for item in items] == lines


def test_a_row_is_its_contexts_and_continuations(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path)
    items = {item.line_number: item for item in read_items(task_named(directory, "capitals"))}
    assert items[2].texts("\nAnswer: ")[1] == (
        "Question: What is the capital of land 1?\nAnswer: Town 1b"
    )
    assert items[2].gold == 1
    items = {item.line_number: item for item in read_items(task_named(directory, "pronouns"))}
    assert items[1].texts(" ") == [
        "Ann met Bo because Ann wanted to talk about 0.",
        "Ann met Bo because Bo wanted to talk about 0.",
    ]
    items = {item.line_number: item for item in read_items(task_named(directory, "counting"))}
    assert items[1].texts(" ") == ["Count: 5, 6, 7"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"query": "Q", "choices": ["a", "b"], "go', "not json"),
        ("[1, 2]", "not an object"),
        ('{"choices": ["a", "b"], "gold": 0}', "without a text `query`"),
        ('{"query": " ", "choices": ["a", "b"], "gold": 0}', "without a text `query`"),
        ('{"query": "Q", "choices": ["a"], "gold": 0}', "without two to 26 texts in `choices`"),
        ('{"query": "Q", "choices": ["a", 3], "gold": 0}', "without two to 26 texts in `choices`"),
        ('{"query": "Q", "choices": "ab", "gold": 0}', "without two to 26 texts in `choices`"),
        ('{"query": "Q", "choices": ["a", "b"], "gold": 2}', "whose `gold` is 2 of 2 options"),
        ('{"query": "Q", "choices": ["a", "b"], "gold": true}', "whose `gold` is True"),
        ('{"query": "Q", "choices": ["a", "b"]}', "whose `gold` is None of 2 options"),
    ],
)
def test_a_bad_line_is_named_and_stops(tmp_path: Path, line: str, reason: str) -> None:
    task = task_named(write_bundle(tmp_path), "capitals")
    with task.file.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(
        DataError, match=f"line 13 of `.*capitals.jsonl` is a row {reason}"
    ) as found:
        read_items(task)
    assert "aquachat prepare core" in (found.value.hint or "")


def test_too_few_rows_to_draw_examples_from_are_refused(tmp_path: Path) -> None:
    rows = {"knowledge/capitals.jsonl": ROWS["knowledge/capitals.jsonl"][:3]}
    task = task_named(write_bundle(tmp_path, rows=rows), "capitals")
    with pytest.raises(DataError, match="has 3 rows, and each is asked after 3 others"):
        read_items(task)


def test_no_bundle_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="CORE is not prepared") as found:
        read_tasks(tmp_path)
    assert found.value.hint == "run `aquachat prepare core`"
    (write_bundle(tmp_path) / "eval_meta_data.csv").unlink()
    with pytest.raises(MissingFileError, match=r"there is no `.*eval_meta_data.csv`"):
        read_tasks(tmp_path)


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ("icl_tasks: [", "is no YAML"),
        ("- a", "lists no `icl_tasks`"),
        ("icl_tasks: []", "lists no `icl_tasks`"),
        ("icl_tasks: [text]", "an entry that is no task"),
        (TASKS.replace("schema", "riddle"), "an entry that is no task"),
        (TASKS.replace("[3]", "3"), "an entry that is no task"),
        (TASKS.replace("[3]", "[-1]"), "an entry that is no task"),
        (TASKS.replace("label: pronouns", "label: capitals"), "has `capitals` twice"),
        (TASKS.replace("label: pronouns", "label: nouns"), "has no baseline for `nouns`"),
    ],
)
def test_a_list_of_tasks_that_cannot_be_used(tmp_path: Path, tasks: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_tasks(write_bundle(tmp_path, tasks=tasks))


@pytest.mark.parametrize(
    ("baselines", "reason"),
    [
        (BASELINES.replace(",25,", ",a quarter,"), "`capitals` a baseline of `a quarter` percent"),
        (BASELINES.replace(",25,", ",100,"), "`capitals` a baseline of `100` percent"),
        (BASELINES.replace("Random baseline", "Baseline"), "lacks the column"),
    ],
)
def test_baselines_that_cannot_be_used(tmp_path: Path, baselines: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_tasks(write_bundle(tmp_path, baselines=baselines))


def test_the_real_bundle_has_22_entries_and_every_present_row_can_be_used(real_data: Path) -> None:
    tasks = read_tasks(real_data / "core")
    assert len(tasks) == 22
    absent = [task.label for task in tasks if not task.is_present]
    assert {"hellaswag", "hellaswag_zeroshot", "squad", "coqa"} <= set(absent)
    counts = {task.label: len(read_items(task)) for task in tasks if task.is_present}
    assert counts["arc_easy"] == 2376
    assert counts["bigbench_repeat_copy_logic"] == 32
    assert len(counts) + len(absent) == 22
    assert {task.kind for task in tasks if task.is_present} == set(TaskKind)
    assert all(0 <= task.baseline < 1 for task in tasks)
