from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.hygiene import ngrams
from aquachat.data.hygiene.ngrams import MIN_QUESTION_WORDS, NGRAM_WORDS, NgramIndex

vocabulary = [f"{a}{b}" for a in "abcd" for b in "xyz"]
texts = st.lists(st.sampled_from(vocabulary), max_size=30).map(" ".join)


def runs_of(question: str) -> set[tuple[str, ...]]:
    """The rule, spelt out."""
    words = question.split()
    if len(words) < MIN_QUESTION_WORDS:
        return set()
    width = min(len(words), NGRAM_WORDS)
    runs = {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}
    return {run for run in runs if 2 * len(set(run)) >= width}


def holds(text: str, question: str) -> bool:
    words = text.split()
    return any(
        tuple(words[i : i + len(run)]) == run
        for run in runs_of(question)
        for i in range(len(words) - len(run) + 1)
    )


@settings(deadline=None)
@given(st.lists(texts, max_size=5), st.lists(texts, max_size=5), st.data())
def test_exactly_the_texts_that_hold_a_run_are_found(
    questions: list[str], searched: list[str], data: st.DataObject
) -> None:
    if questions:
        words = data.draw(st.sampled_from(questions)).split()
        searched = [*searched, " ".join(["before", *words[2:], "after"])]
    found = NgramIndex(questions).search(searched)
    assert [shared.text for shared in found] == [
        index
        for index, text in enumerate(searched)
        if any(holds(text, question) for question in questions)
    ]
    for shared in found:
        assert f" {shared.words} " in f" {searched[shared.text]} "
        assert tuple(shared.words.split()) in runs_of(questions[shared.question])


LONG = (
    "one day a farmer took some apples to the market and sold half of them before noon at two each"
)
SHORT = "what percent of the number 80 is 20"


def test_a_long_question_is_found_by_thirteen_words_in_a_row() -> None:
    index = NgramIndex([LONG])
    words = LONG.split()
    assert index.search(["x " + " ".join(words[3:16]) + " y"])[0].words == " ".join(words[3:16])
    assert index.search([" ".join(words[3:15])]) == []
    broken = [*words[:10], "green", *words[10:]]
    assert index.search([" ".join(broken[:20])]) == []


def test_a_short_question_is_found_as_a_whole() -> None:
    index = NgramIndex([SHORT])
    assert index.search([f"so {SHORT} we ask"])[0].question == 0
    assert index.search([SHORT.rsplit(" ", 1)[0]]) == []
    assert NgramIndex(["what is 15 % of 30"]).search(["what is 15 % of 30 is easy"]) == []


def test_equal_hashes_of_different_words_are_no_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "mixed", lambda hashes: hashes % np.uint64(3))
    index = NgramIndex([LONG, SHORT])
    other = "so many words that nobody asked for stand here in a row of no use at all today"
    assert index.search([other, f"{other} {other}"]) == []


def test_a_run_does_not_go_on_into_the_next_text() -> None:
    words = LONG.split()
    assert NgramIndex([LONG]).search([" ".join(words[:8]), " ".join(words[8:16])]) == []


@pytest.mark.parametrize(
    "noise", ["- " * 20, "0 1 2 3 4 5 6 7 8 9 a b c d e f", "the the the of of of " * 4]
)
def test_dashes_digits_and_repetition_are_no_question(noise: str) -> None:
    assert NgramIndex([noise.strip()]).search([f"look {noise} here"]) == []


@settings(deadline=None)
@given(st.lists(texts, max_size=6))
def test_links_join_all_texts_that_share_a_run(questions: list[str]) -> None:
    index = NgramIndex(questions)
    group = list(range(len(questions)))
    for text, question in index.links(questions):
        old, new = group[text], group[question]
        group = [new if one == old else one for one in group]
    for i, one in enumerate(questions):
        for j, other in enumerate(questions):
            if runs_of(one) & runs_of(other) or holds(one, other):
                assert group[i] == group[j]
