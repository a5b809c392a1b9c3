from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.data.hygiene.words import (
    SHINGLE_CHARS,
    normalised_question,
    numbers_of,
    shingle_sets,
    without_numbers,
)

texts = st.text(max_size=60)


@given(texts)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised_question(normalised_question(text)) == normalised_question(text)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Rs. 1,000 at 5%", "rs 1000 at 5 %", True),
        ("12,345,678", "12345678", True),
        ("the points (1,200)", "the points (1, 200)", False),
        ("x = 1,5", "x = 15", False),
        ("\N{FULLWIDTH DIGIT THREE} km", "3 km", True),
    ],
)
def test_commas_between_thousands_say_nothing(one: str, other: str, equal: bool) -> None:
    assert (normalised_question(one) == normalised_question(other)) is equal


def test_numbers_are_read_as_digits_and_as_words() -> None:
    question = "three pens cost 12 and 5 and one is free"
    assert numbers_of(question) == ("12", "5")
    assert numbers_of(question, spelt=True) == ("12", "3", "5")
    assert without_numbers("a train 120 m long in 8 s") == "a train 0 m long in 0 s"


@given(st.lists(texts.map(normalised_question), max_size=8))
def test_shingles_are_the_runs_of_characters_of_each_text(questions: list[str]) -> None:
    sets = shingle_sets(questions)
    assert len(sets) == len(questions)
    ids: dict[int, str] = {}
    for index, question in enumerate(questions):
        padded = f" {question} ".ljust(SHINGLE_CHARS)
        runs = {padded[i : i + SHINGLE_CHARS] for i in range(len(padded) - SHINGLE_CHARS + 1)}
        hashes = sets.of(index)
        assert len(hashes) == len(runs)
        assert (np.diff(hashes.astype(object)) > 0).all()
        alone = shingle_sets([question]).of(0)
        assert alone.tolist() == hashes.tolist()  # whatever stands beside it
    for run in {question[:SHINGLE_CHARS] for question in questions if len(question) > 5}:
        (value,) = shingle_sets([run]).of(0).tolist()[:1]
        assert ids.setdefault(value, run) == run
