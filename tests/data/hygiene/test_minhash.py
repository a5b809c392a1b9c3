from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.hygiene.minhash import (
    FEW_NUMBERS,
    MIN_NUMBERS,
    SAME_NUMBERS,
    MinHashIndex,
    near_pairs,
)
from aquachat.data.hygiene.words import normalised_question, numbers_of
from tests.data.hygiene.questions import REAL_LIKE, edited, generated_questions, renumbered


def jaccard(one: str, other: str) -> float:
    sets = []
    for text in (one, other):
        padded = f" {text} ".ljust(5)
        sets.append({padded[i : i + 5] for i in range(len(padded) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def is_near(one: str, other: str) -> bool:
    """The rule, spelt out: what the index has to agree with."""
    for spelt in (False, True):
        numbers = numbers_of(one, spelt=spelt)
        if numbers == numbers_of(other, spelt=spelt):
            rule = SAME_NUMBERS if len(numbers) >= MIN_NUMBERS else FEW_NUMBERS
            if jaccard(one, other) >= rule.jaccard:
                return True
    return False


words = st.sampled_from(
    ["a", "train", "of", "120", "45", "two", "metres", "long", "passes", "the", "bridge", "in", "2"]
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.lists(words, max_size=14).map(" ".join), max_size=12, unique=True))
def test_exactly_the_pairs_of_the_rule_are_found(questions: list[str]) -> None:
    expected = {
        (i, j)
        for j in range(len(questions))
        for i in range(j)
        if is_near(questions[i], questions[j])
    }
    found = near_pairs(questions)
    assert {(pair.left, pair.right) for pair in found} == expected
    for pair in found:
        assert pair.jaccard == pytest.approx(jaccard(questions[pair.left], questions[pair.right]))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.lists(words, max_size=14).map(" ".join), max_size=8, unique=True),
    st.lists(st.lists(words, max_size=14).map(" ".join), max_size=8, unique=True),
)
def test_others_are_matched_by_the_same_rule(questions: list[str], others: list[str]) -> None:
    found = MinHashIndex(questions).matches(others)
    assert {(pair.left, pair.right) for pair in found} == {
        (i, j)
        for i, other in enumerate(others)
        for j, question in enumerate(questions)
        if is_near(other, question)
    }


def test_planted_edits_are_found_and_nothing_else() -> None:
    rng = random.Random(3)
    unrelated = [normalised_question(q) for q in generated_questions(300)]
    before = {(p.left, p.right) for p in near_pairs(unrelated)}
    planted = []
    for question in REAL_LIKE:
        planted.append(normalised_question(question))
        planted += [normalised_question(edited(question, count, rng)) for count in (1, 2, 3)]
    found = {(p.left, p.right) for p in near_pairs([*unrelated, *planted])}
    start = len(unrelated)
    expected = {
        (start + 4 * i, start + 4 * i + j) for i in range(len(REAL_LIKE)) for j in range(1, 4)
    }
    assert expected <= found
    for left, right in found - before:
        assert left >= start
        assert (left - start) // 4 == (right - start) // 4


def test_other_numbers_make_another_question() -> None:
    for question in REAL_LIKE:
        one, other = normalised_question(question), normalised_question(renumbered(question))
        assert jaccard(one, other) > SAME_NUMBERS.jaccard
        assert near_pairs([one, other]) == []


def test_numbers_may_be_spelt() -> None:
    one = "three candidates contested an election and received 1136 7636 and 11628 votes"
    other = re.sub("three", "3", one)
    assert [(p.left, p.right) for p in near_pairs([one, other])] == [(0, 1)]


def test_one_word_makes_another_question_where_there_are_no_numbers() -> None:
    questions = [
        "which of these is an example of kinetic energy",
        "which of these is an example of potential energy",
    ]
    assert near_pairs(questions) == []


def test_the_order_of_questions_does_not_matter() -> None:
    rng = random.Random(4)
    questions = [normalised_question(q) for q in (*REAL_LIKE, *generated_questions(60))]
    questions += [normalised_question(edited(q, 2, rng)) for q in REAL_LIKE]
    shuffled = rng.sample(questions, len(questions))

    def found(asked: list[str]) -> set[tuple[frozenset[str], float]]:
        return {(frozenset((asked[p.left], asked[p.right])), p.jaccard) for p in near_pairs(asked)}

    assert found(questions) == found(shuffled)
    assert near_pairs(questions) == near_pairs(questions)


@pytest.mark.parametrize("questions", [[], [""], ["", ""], ["x"], ["\ud800", "1 2"]])
def test_degenerate_questions_are_no_error(questions: list[str]) -> None:
    near_pairs(questions)
    assert MinHashIndex(questions).matches([]) == []
    assert MinHashIndex([]).matches(questions) == []


def test_a_pair_at_the_threshold_is_found_almost_surely() -> None:
    assert SAME_NUMBERS.recall > 0.999
    assert FEW_NUMBERS.recall > 0.999
