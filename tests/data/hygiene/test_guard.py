from __future__ import annotations

import random

import pytest

from aquachat.data.hygiene.guard import (
    NEAR_QUESTION,
    SAME_QUESTION,
    SHARED_WORDS,
    EvaluationGuard,
    TrainingText,
)
from tests.data.hygiene.questions import (
    REAL_LIKE,
    edited,
    generated_questions,
    renumbered,
    restyled,
)


@pytest.fixture
def guard() -> EvaluationGuard:
    made = EvaluationGuard()
    for row, question in enumerate(REAL_LIKE, start=1):
        made.add("aqua/validation", row, question)
    return made


def row(question: str, rationale: str = "") -> TrainingText:
    return TrainingText(question, f"{question}\n{rationale}")


def test_planted_rows_are_found_with_their_question(guard: EvaluationGuard) -> None:
    rng = random.Random(7)
    for place, question in enumerate(REAL_LIKE):
        found = guard.check(
            [
                row(restyled(question, rng)),
                *(row(edited(question, count, rng)) for count in (1, 2, 3)),
                TrainingText("Another question?", f"Think: {question} So it is 4."),
                TrainingText(None, f"A page. {question} The page goes on."),
            ]
        )
        assert [one.reason if one else None for one in found] == [
            SAME_QUESTION,
            *[NEAR_QUESTION] * 3,
            *[SHARED_WORDS] * 2,
        ]
        assert {one.question.row for one in found if one} == {place + 1}


def test_unrelated_rows_are_left_alone(guard: EvaluationGuard) -> None:
    assert set(guard.check([row(q, "So it is 4.") for q in generated_questions(200)])) == {None}


def test_the_template_with_other_numbers_is_another_question(guard: EvaluationGuard) -> None:
    question = "A train 360 m long is running at a speed of 45 km/hr"  # twelve words in a row
    assert guard.check([row(renumbered(question))]) == [None]
    # ... unless thirteen words in a row are the same
    (found,) = guard.check([row(f"{REAL_LIKE[3].rpartition('22')[0]} 23 enrolled for German.")])
    assert found is not None
    assert found.reason == SHARED_WORDS


@pytest.mark.parametrize("closest", [1, 2])
def test_the_closest_question_is_named(closest: int) -> None:
    bought = "A man buys 12 pens and 5 big red books for 30 rupees"
    other = EvaluationGuard()
    other.add("a/test", 3 - closest, f"{bought} at the fair")
    other.add("a/test", closest, f"{bought} in the old town")
    reverse = EvaluationGuard()
    reverse.add("a/test", closest, f"{bought} in the old town")
    reverse.add("a/test", 3 - closest, f"{bought} at the fair")
    for guard in (other, reverse):
        (found,) = guard.check([row(f"{bought} in the town")])
        assert found is not None
        assert (found.reason, found.question.row) == (NEAR_QUESTION, closest)
        assert found.to_json()["jaccard"] > 0.8


def test_an_empty_guard_finds_nothing() -> None:
    assert (
        EvaluationGuard().check([row("What is 2 + 3?"), TrainingText(None, "text")]) == [None] * 2
    )
    guard = EvaluationGuard()
    guard.add("x/test", 1, " ?! ")
    assert guard.check([row("...")]) == [None]


def test_no_rows_are_no_verdicts(guard: EvaluationGuard) -> None:
    assert guard.check([]) == []
