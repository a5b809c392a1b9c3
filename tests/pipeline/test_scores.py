"""Which tasks an evaluation asks, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aquachat.config.recipes import EvalRecipe
from aquachat.errors import MissingFileError, PreflightError
from aquachat.eval.chatcore import CHATCORE_TASKS
from aquachat.pipeline.names import is_base_task
from aquachat.pipeline.scores import asked_tasks
from aquachat.tasks.base import Task
from tests.eval.engines import make_task

NAMES = ("AQUA", "ARC-EASY")


def load(reference: str) -> Task:
    """AQUA and ARC-Easy are prepared, MMLU cannot be asked here."""
    name, _, split = reference.upper().partition("/")
    if name == "MMLU":
        raise PreflightError("not on this machine")
    if name not in NAMES:
        raise MissingFileError(f"{name} is not prepared")
    task = make_task(3)
    task.name, task.split = name, split.lower() or "test"
    return task


def asked(*tasks: str, protocols: tuple[str, ...] = ("generative",)) -> list[tuple[str, str, str]]:
    recipe = replace(EvalRecipe(), tasks=list(tasks), protocols=list(protocols))
    return [(task.name, task.split, how) for task, how in asked_tasks(recipe, load)]


def test_tasks_are_asked_by_the_protocols_of_the_recipe_in_their_order() -> None:
    assert asked("AQUA", "ARC-EASY/validation", protocols=("categorical", "generative")) == [
        ("AQUA", "test", "categorical"),
        ("AQUA", "test", "generative"),
        ("ARC-EASY", "validation", "categorical"),
        ("ARC-EASY", "validation", "generative"),
    ]


def test_core_and_bits_per_byte_are_no_chat_tasks() -> None:
    assert asked("CORE", "bpb/train", "CORE/copa", "AQUA") == [("AQUA", "test", "generative")]
    assert is_base_task("core")
    assert not is_base_task("CHATCORE")


def test_chatcore_is_what_can_be_asked_each_by_its_own_protocol() -> None:
    assert asked("chatcore") == [
        ("ARC-EASY", "test", "categorical"),
        ("AQUA", "test", "categorical"),
    ]


def test_a_task_that_is_named_twice_is_asked_once() -> None:
    both = asked("AQUA", "CHATCORE", "AQUA", protocols=("categorical",))
    assert both == [("AQUA", "test", "categorical"), ("ARC-EASY", "test", "categorical")]


def test_a_task_that_is_named_must_be_there() -> None:
    with pytest.raises(MissingFileError, match="GSM8K is not prepared"):
        asked("GSM8K")


def test_chatcore_of_nothing_says_what_to_prepare() -> None:
    def nothing(reference: str) -> Task:
        raise MissingFileError("nothing is there")

    with pytest.raises(MissingFileError, match="no task of ChatCORE is prepared") as found:
        asked_tasks(replace(EvalRecipe(), tasks=["CHATCORE"]), nothing)
    assert found.value.hint is not None
    assert found.value.hint.startswith("run `aquachat prepare arc-easy arc-challenge mmlu gsm8k")
    assert len(CHATCORE_TASKS) == 7
