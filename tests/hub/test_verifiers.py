"""The taskset package in `environments/aquachat-aqua`, through verifiers' own loader."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aquachat.tasks.aqua import load_aqua
from aquachat.tasks.multiple_choice import choice_example, gold_parts, question_text
from aquachat.text.conversation import Message, Role

PACKAGE = Path(__file__).parents[2] / "environments" / "aquachat-aqua"

vf = pytest.importorskip("verifiers.v1", reason="the extra `interop` is not installed")

ROWS = [
    {
        "question": f"A train goes {speed} km in an hour. How far does it go in 2 hours?",
        "options": [f"{letter}){value} km" for letter, value in zip("ABCDE", values, strict=True)],
        "rationale": f"{speed} * 2 = {2 * speed}",
        "correct": "ABCDE"[values.index(2 * speed)],
    }
    for speed, values in (
        (30, [60, 50, 70, 90, 15]),
        (40, [60, 80, 70, 90, 20]),
        (50, [25, 50, 70, 90, 100]),
    )
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "train.jsonl").write_text(text, "utf-8")
    return tmp_path


def load(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[Any]:
    """The tasks, found by the id of the package as verifiers finds them."""
    from verifiers.v1.configs.taskset import TasksetConfig
    from verifiers.v1.utils.generic import concrete_type
    from verifiers.v1.utils.loaders import load_taskset, taskset_class

    monkeypatch.syspath_prepend(str(PACKAGE))
    config = concrete_type(taskset_class("aquachat-aqua"), TasksetConfig)
    return list(load_taskset(config(id="aquachat-aqua", **settings)))


def score(task: Any, reply: str) -> tuple[dict[str, float], dict[str, float]]:
    """Rewards and metrics of a rollout that ended with `reply`."""
    trace = vf.Trace.model_construct(root_reply=reply, rewards={}, metrics={}, nodes=[])
    asyncio.run(task.score(trace))
    return {name: r.value for name, r in trace.rewards.items()}, dict(trace.metrics)


def test_tasks_ask_what_aquachat_asks(folder: Path, monkeypatch: pytest.MonkeyPatch):
    tasks = load(monkeypatch, data_dir=folder, permute=False)
    ours = load_aqua(folder, "train")
    assert [task.data.prompt for task in tasks] == [question_text(item) for item in ours.items]
    assert [task.data.id for task in tasks] == [item.id for item in ours.items]


@pytest.mark.parametrize("permute", [False, True])
def test_the_gold_reply_and_no_other_letter_is_rewarded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, permute: bool
):
    for task in load(monkeypatch, data_dir=folder, permute=permute):
        letters = "ABCDE"
        gold = letters[task.data.answer_index]
        assert f"{task.data.options[task.data.answer_index]} {gold}" in task.data.prompt
        for letter in letters:
            rewards, metrics = score(task, f"I think so.\nAnswer: {letter}")
            assert rewards["answer"] == pytest.approx(1.1 if letter == gold else 0.1)
            assert metrics == {"correct": float(letter == gold), "answered": 1.0}
        for reply in ("", task.data.prompt, "no idea"):
            assert score(task, reply) == ({"answer": 0.0}, {"correct": 0.0, "answered": 0.0})


def test_options_are_put_in_other_orders(folder: Path, monkeypatch: pytest.MonkeyPatch):
    plain = load(monkeypatch, data_dir=folder, permute=False)
    turned = load(monkeypatch, data_dir=folder)
    assert [task.data.options for task in plain] != [task.data.options for task in turned]
    for before, after in zip(plain, turned, strict=True):
        assert sorted(before.data.options) == sorted(after.data.options)
        assert (
            before.data.options[before.data.answer_index]
            == after.data.options[after.data.answer_index]
        )


def test_gold_replies_of_real_rows_are_right(real_data: Path, monkeypatch: pytest.MonkeyPatch):
    tasks = load(monkeypatch, data_dir=real_data / "aqua", split="validation", permute=False)
    items = load_aqua(real_data / "aqua", "validation").items
    assert len(tasks) == len(items) > 200
    for task, item in list(zip(tasks, items, strict=True))[::10]:
        gold = Message(Role.ASSISTANT, gold_parts(item)).text
        assert choice_example(item).answer in gold
        assert score(task, gold)[0] == {"answer": pytest.approx(1.1)}


def test_the_package_names_what_it_ships_and_needs():
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    assert project["project"]["name"] == PACKAGE.name
    assert (PACKAGE / project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"][0]).is_dir()
