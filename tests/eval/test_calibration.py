from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.eval.calibration import calibration
from aquachat.eval.estimates import by_question
from aquachat.eval.predictions import Prediction


def row(
    question: int, probabilities: dict[str, float] | None, gold: str, order: int = 0
) -> Prediction:
    answer = max(probabilities, key=lambda letter: probabilities[letter]) if probabilities else "A"
    return Prediction(
        id=str(question),
        order=order,
        question="",
        gold=gold,
        choices=("A", "B"),
        answer=answer,
        correct=answer == gold,
        reward=0.0,
        reply="",
        finish="stop",
        probabilities=probabilities,
    )


def test_bins_and_errors_are_those_of_a_hand_computation() -> None:
    rows = [
        row(0, {"A": 0.9, "B": 0.1}, "A"),
        row(1, {"A": 0.86, "B": 0.14}, "B"),
        row(2, {"A": 0.4, "B": 0.6}, "B"),
    ]
    found = calibration(by_question(rows))
    assert found is not None
    assert [(b.low, b.high, b.num_replies) for b in found.bins] == [(0.5, 0.6, 1), (0.8, 0.9, 2)]
    assert found.bins[1].confidence == pytest.approx(0.88)
    assert found.bins[1].accuracy == 0.5
    assert found.ece == pytest.approx((abs(1 - 0.6) + 2 * abs(0.5 - 0.88)) / 3)
    assert found.brier == pytest.approx((0.02 + 2 * 0.86**2 + 2 * 0.4**2) / 3)
    assert found.confidence == pytest.approx((0.9 + 0.86 + 0.6) / 3)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=50)
def test_the_bins_hold_every_reply_once(replies: list[tuple[float, bool]]) -> None:
    rows = [
        row(index, {"A": p, "B": 1 - p}, "A" if gold else "B")
        for index, (p, gold) in enumerate(replies)
    ]
    found = calibration(by_question(rows))
    assert found is not None
    assert sum(each.num_replies for each in found.bins) == len(rows)
    assert sum(each.weight for each in found.bins) == pytest.approx(1.0)
    mean = sum(each.weight * each.accuracy for each in found.bins)
    assert mean == pytest.approx(sum(r.correct for r in rows) / len(rows))
    assert all(b.low < b.confidence + 1e-9 and b.confidence <= b.high + 1e-9 for b in found.bins)


def test_a_calibrated_model_has_a_small_error_and_a_boaster_a_large_one() -> None:
    rng = random.Random(0)
    honest = [0.5 + rng.random() / 2 for _ in range(4000)]
    golds = ["A" if rng.random() < p else "B" for p in honest]
    true = [
        row(i, {"A": p, "B": 1 - p}, g) for i, (p, g) in enumerate(zip(honest, golds, strict=True))
    ]
    boast = [row(i, {"A": 0.99, "B": 0.01}, g) for i, g in enumerate(golds)]
    a, b = calibration(by_question(true)), calibration(by_question(boast))
    assert a is not None
    assert b is not None
    assert a.ece < 0.03
    assert b.ece == pytest.approx(0.24, abs=0.03)


def test_questions_count_alike_however_often_they_were_asked() -> None:
    rows = [row(0, {"A": 0.95, "B": 0.05}, "A", order) for order in range(5)]
    rows.append(row(1, {"A": 0.95, "B": 0.05}, "B"))
    found = calibration(by_question(rows))
    assert found is not None
    assert found.bins[0].accuracy == pytest.approx(0.5)


def test_without_probabilities_there_is_none() -> None:
    assert calibration(by_question([row(0, None, "A")])) is None
