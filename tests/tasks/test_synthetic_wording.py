from __future__ import annotations

import re

import pytest

from aquachat.tasks.synthetic.catalogue import native_kinds
from aquachat.tasks.synthetic.chains import chain_kinds
from aquachat.tasks.synthetic.wording import facts_first, question_first, reworded


@pytest.mark.parametrize(
    ("sentence", "question", "facts"),
    [
        (
            "A car drives {s} km. How far is that?",
            "How far is that, if a car drives {s} km?",
            "If a car drives {s} km, how far is that?",
        ),
        (
            "{name} has {n} pens. Each costs {p} dollars. What do they cost, in dollars?",
            "What do they cost, in dollars, if {name} has {n} pens and each costs {p} dollars?",
            "If {name} has {n} pens and each costs {p} dollars, what do they cost, in dollars?",
        ),
    ],
)
def test_clauses_change_places(sentence: str, question: str, facts: str) -> None:
    assert question_first(sentence, "if") == question
    assert facts_first(sentence) == facts


@pytest.mark.parametrize(
    "sentence",
    [
        "Find the area of a square.",
        "What is {p} percent of {n}?",
        "If x = {a}, y = {b}. What is x + y?",
        "A. B. C. D. What is that?",
        "A car drives {s} km. Find the distance.",
    ],
)
def test_other_forms_are_left_alone(sentence: str) -> None:
    assert reworded(sentence) == [sentence]


def _plain(sentence: str) -> str:
    return re.sub(r"\W+", " ", re.sub(r"\{\w+\}", "#", sentence)).lower().strip()


def test_no_reworded_training_pattern_is_a_held_out_one() -> None:
    kinds = [*native_kinds(), *chain_kinds(2)]
    held_out = {_plain(s) for kind in kinds for p in kind.heldout for s in p.sentences()}
    training = {
        _plain(form)
        for kind in kinds
        for pattern in kind.train
        for sentence in pattern.sentences()
        for form in reworded(sentence)
    }
    assert len(held_out) > 250
    assert not held_out & training
