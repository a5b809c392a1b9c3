"""The published formula on numbers worked out by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.eval.centred import CentredScore, CentredTask, centred
from aquachat.eval.stats import wilson_interval


def make_task(name: str, right: int, count: int, baseline: float) -> CentredTask:
    interval = wilson_interval(right, count)
    return CentredTask(name, right / count, interval, baseline, count, "core")


@pytest.mark.parametrize(
    ("accuracy", "baseline", "expected"),
    [
        (0.25, 0.25, 0.0),
        (1.0, 0.25, 1.0),
        (0.625, 0.25, 0.5),
        (0.0, 0.25, -1 / 3),
        (0.3, 0.0, 0.3),
        (0.5, 0.62, -6 / 19),
    ],
)
def test_centred_is_0_for_guessing_and_1_for_all_right(
    accuracy: float, baseline: float, expected: float
) -> None:
    assert centred(accuracy, baseline) == pytest.approx(expected)


@pytest.mark.parametrize("baseline", [1.0, 25.0, -0.1])
def test_a_baseline_that_leaves_nothing_is_refused(baseline: float) -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        centred(0.5, baseline)


def test_a_score_is_the_mean_over_tasks_and_not_over_questions() -> None:
    tasks = (make_task("a", 5, 8, 0.25), make_task("b", 300, 1000, 0.0))
    score = CentredScore("CORE", tasks, ())
    assert score.value == pytest.approx((0.5 + 0.3) / 2)
    assert score.metrics() == {
        "core/metric": pytest.approx(0.4), "core/a": pytest.approx(0.5), "core/b": 0.3,
    }  # fmt: skip


def test_a_score_with_an_absent_task_has_another_name() -> None:
    score = CentredScore("CORE", (make_task("a", 5, 8, 0.25),), ("b", "c"))
    assert score.metric == "core/metric_partial"
    assert "core/metric" not in score.metrics()
    document = score.to_json()
    assert (document["num_tasks"], document["num_measured"]) == (3, 1)
    assert document["absent"] == ["b", "c"]


def test_a_score_of_nothing_is_no_score() -> None:
    with pytest.raises(ValueError, match="of no task"):
        CentredScore("CORE", (), ("a",))


def test_the_interval_of_one_task_is_that_of_the_task() -> None:
    task = make_task("a", 5, 8, 0.25)
    score = CentredScore("CORE", (task,), ())
    assert score.ci95 == pytest.approx(task.centred_ci95)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.62])), min_size=1, max_size=6
    )
)
def test_the_interval_holds_the_value_and_narrows_with_tasks(
    drawn: list[tuple[int, float]],
) -> None:
    tasks = tuple(make_task(str(i), right, 40, base) for i, (right, base) in enumerate(drawn))
    score, twice = CentredScore("X", tasks, ()), CentredScore("X", tasks + tasks, ())
    low, high = score.ci95
    assert low <= score.value <= high
    assert high - low > 0
    assert twice.value == pytest.approx(score.value)
    assert twice.ci95[1] - twice.ci95[0] == pytest.approx((high - low) / 2**0.5)


def test_a_task_is_read_back_as_it_was_written() -> None:
    task = make_task("arc", 5, 8, 0.25)
    assert CentredTask.from_json("arc", json.loads(json.dumps(task.to_json()))) == task
    with pytest.raises(KeyError):
        CentredTask.from_json("arc", {})
