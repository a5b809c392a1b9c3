from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.hygiene import document_guard
from aquachat.data.hygiene.document_guard import DocumentGuard, RunFilter
from aquachat.data.hygiene.guard import EvaluationGuard, TrainingText
from aquachat.data.hygiene.ngrams import NgramIndex
from aquachat.data.manifest import GuardSplit
from tests.data.hygiene.questions import REAL_LIKE, edited, generated_questions, restyled

vocabulary = [
    "train",
    "Trains",
    "of",
    "60",
    "3,000",
    "km/h",
    "Müller's",
    "ratio",
    "½",
    "a",
    "profit",
]
words = st.lists(st.sampled_from(vocabulary), max_size=40)
spaces = st.sampled_from([" ", "  ", "\n", ", ", " - ", " … "])


def guard_of(questions: list[str]) -> tuple[EvaluationGuard, DocumentGuard]:
    guard = EvaluationGuard()
    for row, question in enumerate(questions, 1):
        guard.add(f"set{row % 3}/test", row, question)
    searched = [GuardSplit("set0/test", len(questions))]
    return guard, DocumentGuard(guard, searched)


def found_by_the_exact_search(guard: EvaluationGuard, texts: list[str]) -> dict[int, str]:
    found = guard.check([TrainingText(None, text) for text in texts])
    return {place: one.question.split for place, one in enumerate(found) if one is not None}


@settings(deadline=None, max_examples=150)
@given(st.lists(words, max_size=4), st.lists(words, max_size=4), spaces, st.data())
def test_the_documents_are_those_that_the_exact_search_finds(
    questions: list[list[str]], texts: list[list[str]], space: str, data: st.DataObject
) -> None:
    asked = [" ".join(question) for question in questions]
    if questions:
        planted = data.draw(st.sampled_from(questions))[data.draw(st.integers(0, 3)) :]
        texts = [*texts, ["before", *planted, "after"], [word.upper() for word in planted]]
    searched = [space.join(text) for text in texts]
    exact, quick = guard_of(asked)
    found = {one.document: one.split for one in quick.search([text.encode() for text in searched])}
    assert found == found_by_the_exact_search(exact, searched)


def test_questions_in_long_texts_are_found_as_by_the_exact_search() -> None:
    chance = random.Random(3)
    questions = [*REAL_LIKE, *generated_questions(200)]
    filler = " ".join(generated_questions(300, seed=8)).split(" ")
    texts = []
    for number in range(120):
        question = questions[number % len(questions)]
        for change in (restyled(question, chance), edited(question, number % 4, chance)):
            start = chance.randrange(len(filler) - 60)
            text = " ".join([*filler[start : start + 30], change, *filler[start + 30 : start + 60]])
            texts.append(text)
    exact, quick = guard_of(questions)
    expected = found_by_the_exact_search(exact, texts)
    assert 60 < len(expected) <= len(texts)
    found = quick.search([text.encode() for text in texts])
    assert {one.document: one.split for one in found} == expected


def test_most_documents_are_let_go_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    search = NgramIndex.search

    def counted(self: NgramIndex, texts: list[str]) -> object:
        read.extend(texts)
        return search(self, texts)

    monkeypatch.setattr(NgramIndex, "search", counted)
    _, quick = guard_of([*REAL_LIKE])
    texts = [" ".join(REAL_LIKE[0].split()[:12]), *generated_questions(500), REAL_LIKE[2]]
    (found,) = quick.search([text.encode() for text in texts])
    assert (found.document, found.words[:8]) == (501, "two pipe")
    assert len(read) == 1


def test_a_run_does_not_go_on_into_the_next_document() -> None:
    _, quick = guard_of([*REAL_LIKE])
    words = REAL_LIKE[0].split()
    halves = [" ".join(words[:9]).encode(), " ".join(words[9:18]).encode()]
    assert quick.search(halves) == []
    assert quick.search([b" ".join(halves)])


def test_words_in_another_order_are_no_candidate() -> None:
    index = NgramIndex(["one two three four five six seven eight"])
    assert RunFilter.of(index).candidates([b"one two three four five six seven eight"]) == [0]
    for place in range(7):
        changed = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
        changed[place], changed[place + 1] = changed[place + 1], changed[place]
        assert RunFilter.of(index).candidates([" ".join(changed).encode()]) == []


def test_what_hashes_pass_in_vain_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = np.ones(1, dtype=np.bool_)
    monkeypatch.setattr(
        document_guard, "_are_among", lambda known, hashes: everything.repeat(len(hashes))
    )
    monkeypatch.setattr(
        document_guard._BitTable, "has", lambda self, hashes: everything.repeat(len(hashes))
    )
    _, quick = guard_of([*REAL_LIKE])
    texts = [text.encode() for text in generated_questions(30)]
    assert quick._filter.candidates(texts)
    assert quick.search(texts) == []


def test_no_questions_and_no_text_are_no_find() -> None:
    _, without = guard_of([])
    assert without.search([b"some words", b""]) == []
    _, quick = guard_of([*REAL_LIKE])
    assert quick.search([]) == quick.search([b""]) == quick.search([b"one"]) == []


def test_a_copy_sent_to_another_process_finds_the_same() -> None:
    _, quick = guard_of([*REAL_LIKE])
    texts = [text.encode() for text in (REAL_LIKE[1], "nothing", REAL_LIKE[3])]
    assert pickle.loads(pickle.dumps(quick)).search(texts) == quick.search(texts)
    assert [one.document for one in quick.search(texts)] == [0, 2]


def test_the_fingerprint_is_of_the_questions_in_any_order() -> None:
    _, one = guard_of([*REAL_LIKE])
    _, other = guard_of([question.upper() for question in reversed(REAL_LIKE)])
    _, fewer = guard_of([*REAL_LIKE[1:]])
    assert one.fingerprint == other.fingerprint != fewer.fingerprint
    assert one.num_questions == len(REAL_LIKE)
