"""ChatCORE: seven tasks, their baselines, and what is said where some are absent."""

from __future__ import annotations

import pytest

from aquachat.eval.chatcore import CHATCORE_TASKS, chatcore
from aquachat.eval.predictions import Prediction
from aquachat.eval.results import EvalResult, recompute


def make_result(task: str, right: int, count: int = 20, protocol: str | None = None) -> EvalResult:
    rows = [
        Prediction(
            id=f"{task}/{index}",
            question="?",
            gold="A",
            choices=("A", "B", "C", "D"),
            answer="A" if index < right else "B",
            correct=index < right,
            reward=float(index < right),
            reply="",
            finish="stop",
        )
        for index in range(count)
    ]
    return recompute(rows, task=task, split="test", protocol=protocol or CHATCORE_TASKS[task][1])


def test_all_seven_tasks_make_the_score() -> None:
    score = chatcore([make_result(name, 10) for name in CHATCORE_TASKS])
    assert score is not None
    assert score.metric == "chatcore/metric"
    third = (0.5 - 0.25) / 0.75
    assert score.value == pytest.approx((3 * third + 3 * 0.5 + (0.5 - 0.2) / 0.8) / 7)


def test_guessing_scores_0_and_all_right_scores_1() -> None:
    rates = {name: round(100 * baseline) for name, (baseline, _) in CHATCORE_TASKS.items()}
    guessing = chatcore([make_result(name, rate, 100) for name, rate in rates.items()])
    perfect = chatcore([make_result(name, 20) for name in CHATCORE_TASKS])
    assert guessing is not None
    assert perfect is not None
    assert guessing.value == pytest.approx(0.0)
    assert perfect.value == pytest.approx(1.0)


def test_absent_tasks_are_named_and_the_score_has_another_name() -> None:
    score = chatcore([make_result("AQUA", 10), make_result("GSM8K", 4)])
    assert score is not None
    assert score.metric == "chatcore/metric_partial"
    assert score.absent == ("ARC-EASY", "ARC-CHALLENGE", "MMLU", "HUMANEVAL", "SPELLING")
    assert [task.name for task in score.tasks] == ["GSM8K", "AQUA"]


def test_one_task_is_a_score_only_where_it_was_asked_for() -> None:
    results = [make_result("AQUA", 10), make_result("MMLU", 3)][:1]
    assert chatcore(results) is None
    assert chatcore([]) is None
    assert chatcore([], is_asked_for=True) is None
    alone = chatcore(results, is_asked_for=True)
    assert alone is not None
    assert alone.value == pytest.approx((0.5 - 0.2) / 0.8)


def test_a_task_counts_by_its_own_protocol_where_it_was_asked_both_ways() -> None:
    written = make_result("AQUA", 5, protocol="generative")
    chosen = make_result("AQUA", 15)
    other = make_result("GSM8K", 0)
    score = chatcore([written, chosen, other])
    assert score is not None
    assert {task.name: task.protocol for task in score.tasks} == {
        "GSM8K": "generative", "AQUA": "categorical",
    }  # fmt: skip
    assert score.tasks[-1].accuracy == 0.75
    only_written = chatcore([written, other])
    assert only_written is not None
    assert only_written.tasks[-1].protocol == "generative"
