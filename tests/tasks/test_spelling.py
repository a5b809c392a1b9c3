from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.data.conversations import TaskConversations
from aquachat.errors import ConfigError
from aquachat.tasks.spelling import (
    COUNT_QUESTIONS,
    LENGTH_QUESTIONS,
    SPELL_QUESTIONS,
    SPELLING_SPLITS,
    SpellingTask,
    common_words,
    is_test_word,
    spelling_problem,
)
from aquachat.text.answer import answer_line
from aquachat.text.calculator import evaluate
from aquachat.text.conversation import PartKind


@pytest.mark.parametrize("split", SPELLING_SPLITS)
def test_only_the_gold_reply_is_graded_correct(split: str) -> None:
    task = SpellingTask(split, count=600)
    for index in range(len(task)):
        example = task[index]
        user, gold = (message.text for message in example.conversation.messages)
        grade = task.grade(example, gold)
        assert (grade.correct, grade.answer) == (True, example.answer)
        assert grade.reward == pytest.approx(1.1)
        for reply in ("", user, user.split("\n")[0]):
            assert task.grade(example, reply).reward == 0.0
        for wrong in ("99", "-1", "q q q", "x"):
            assert not task.grade(example, answer_line(wrong)).correct


@given(st.sampled_from(SPELLING_SPLITS), st.integers(0, 10**6), st.integers(0, 10**6))
def test_answer_is_what_python_counts(split: str, seed: int, index: int) -> None:
    problem = spelling_problem(split, seed, index)
    word = problem.word
    assert (
        problem.answer
        == {
            "count": str(word.count(problem.letter)) if problem.letter else "",
            "length": str(len(word)),
            "spell": " ".join(word),
        }[problem.kind]
    )
    assert word in problem.question.lower()
    assert re.fullmatch("[a-z]{3,}", word)
    assert is_test_word(word) == (split == "test")
    assert problem == spelling_problem(split, seed, index)


def test_no_word_is_in_both_splits() -> None:
    words = {
        split: {spelling_problem(split, 0, index).word for index in range(3000)}
        for split in SPELLING_SPLITS
    }
    assert words["test"].isdisjoint(words["train"])
    assert len(words["train"] & set(common_words())) > 500
    assert len(words["train"] - set(common_words())) > 500
    held_out = [word for word in common_words() if is_test_word(word)]
    assert 0.08 < len(held_out) / len(common_words()) < 0.18


def test_words_are_many_plain_and_listed_once() -> None:
    words = common_words()
    assert len(words) > 1000
    assert len(set(words)) == len(words)
    assert all(re.fullmatch("[a-z]{3,14}", word) for word in words)


def test_replies_count_each_letter_and_call_the_calculator() -> None:
    calls = 0
    for index in range(300):
        example = SpellingTask("train")[index]
        parts = example.conversation.messages[-1].parts
        for call, output in itertools.pairwise(parts):
            if call.kind is PartKind.PYTHON:
                calls += 1
                assert (output.kind, output.text) == (
                    PartKind.PYTHON_OUTPUT,
                    evaluate(call.text),
                )
    assert calls > 10
    problem = next(
        problem
        for problem in (spelling_problem("train", 0, index) for index in range(500))
        if problem.kind == "count" and problem.answer == "2" and not problem.adds_up
    )
    reply = SpellingTask("train")[int(problem.id.rsplit("/", 1)[1])].conversation.messages[-1].text
    lines = reply.split("\n")
    assert lines[0] == f"{problem.word} is spelled {' '.join(problem.word)}."
    assert lines[1].startswith(f"Counting {problem.letter}: ")
    assert lines[1].endswith(" 2.")


def test_no_answer_is_given_away_by_being_common() -> None:
    counts = [
        problem.answer
        for problem in (spelling_problem("test", 0, index) for index in range(2000))
        if problem.kind == "count"
    ]
    assert max(counts.count(answer) for answer in set(counts)) < 0.45 * len(counts)
    assert set(counts) >= {"0", "1", "2", "3"}


def test_spelled_answers_are_read_in_their_usual_forms() -> None:
    task = SpellingTask("train", count=2000)
    example = next(
        task[index] for index in range(2000) if task[index].attributes["category"] == "spell"
    )
    letters = example.answer.split()
    for right in (" ".join(letters), "-".join(letters), ", ".join(letters).upper() + "."):
        assert task.grade(example, answer_line(right)).correct
    for wrong in ("".join(letters), " ".join(letters[:-1]), " ".join(reversed(letters)) + " z"):
        assert not task.grade(example, answer_line(wrong)).correct


def test_problems_are_many_and_every_phrasing_occurs() -> None:
    questions = [spelling_problem("train", 0, index).question for index in range(4000)]
    assert len(set(questions)) > 3900
    for templates in (COUNT_QUESTIONS, LENGTH_QUESTIONS, SPELL_QUESTIONS):
        for template in templates:
            start = template.split("{")[0].lower() or template.split("}")[1].lower()
            assert any(start in question.lower() for question in questions), template


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(ConfigError, match="SPELLING has no split `dev`"):
        SpellingTask("dev")
    with pytest.raises(IndexError):
        SpellingTask("test", count=1)[1]


def test_task_is_a_source_of_training_conversations() -> None:
    source = TaskConversations(SpellingTask("train", seed=3), seed=3, count=10)
    assert len(source) == 10
    assert source.get(4, 0) == source.get(4, 1) == SpellingTask("train", seed=3)[4].conversation
