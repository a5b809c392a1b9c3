from __future__ import annotations

import hashlib
import re
from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest

from aquachat.errors import ConfigError
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.multiple_choice import choice_conversation
from aquachat.tasks.synthetic import (
    SPLITS,
    Split,
    families,
    generate_documents,
    generate_drills,
    generate_items,
)
from aquachat.tasks.synthetic.catalogue import native_kinds
from aquachat.tasks.synthetic.chains import chain_kinds
from aquachat.text.calculator import evaluate
from aquachat.text.conversation import PartKind

CALL = re.compile(r"<<([^=<>]+)=([^=<>]+)>>")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?")


def _items(split: Split, count: int, seed: int = 5) -> list[ChoiceItem]:
    return list(generate_items(split, seed, count))


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


@pytest.mark.parametrize("split", SPLITS)
def test_every_item_is_well_formed_and_its_rationale_is_right(split: Split) -> None:
    for item in _items(split, 2000):
        values = [_value(option) for option in item.options]
        assert len(set(values)) == len(values) == 5, item
        calls = CALL.findall(item.rationale)
        assert len(calls) == item.attributes["num_steps"], item
        for expression, result in calls:
            assert evaluate(expression) == result, (item, expression)
        assert item.rationale.endswith(item.options[item.answer_index]), item
        assert len(item.rationale.split()) <= 25, item
        assert not re.search(r"\b[A-E]\b", item.rationale), item


@pytest.mark.parametrize("split", SPLITS)
def test_the_letter_is_uniform(split: Split) -> None:
    counts = Counter(item.answer_letter for item in _items(split, 3000))
    assert set(counts) == set("ABCDE")
    # 600 each; 95 is more than 4 standard deviations of a binomial(3000, 1/5).
    assert all(abs(count - 600) < 95 for count in counts.values()), counts


def test_there_are_at_least_24_families_with_phrasings_for_training_and_held_out() -> None:
    rows = families()
    assert len(rows) >= 24
    assert all(row.num_train_phrasings >= 2 and row.num_heldout_phrasings >= 2 for row in rows)
    seen = Counter(item.attributes["family"] for item in _items("train", 2900))
    assert set(seen) == {row.name for row in rows}
    assert max(seen.values()) < 3 * min(seen.values())


def test_tiers_follow_the_number_of_steps_and_more_steps_has_one_more_than_training() -> None:
    steps = {
        split: {int(item.attributes["num_steps"]) for item in _items(split, 1500)}
        for split in SPLITS
    }
    assert steps["train"] == {1, 2, 3}
    assert steps["more_steps"] == {4}
    for item in _items("train", 500):
        is_one = item.attributes["num_steps"] == 1
        assert item.attributes["tier"] == ("one_step" if is_one else "two_three_steps")


def test_held_out_numbers_never_occur_in_training() -> None:
    """Of the same kind, with the same numbers in the same roles."""

    def keys(split: Split, count: int) -> set[tuple[object, ...]]:
        return {
            (item.attributes["family"], item.attributes["kind"], *CALL.findall(item.rationale))
            for item in _items(split, count)
        }

    training = keys("train", 20_000)
    held_out = keys("new_numbers", 2000) | keys("new_phrasings", 2000)
    assert len(held_out) > 2500
    assert not training & held_out


def test_held_out_phrasings_are_other_sentences_with_known_words() -> None:
    kinds = [*native_kinds(), *chain_kinds(2), *chain_kinds(3)]

    def sentences(part: str) -> list[str]:
        return [s for kind in kinds for p in getattr(kind, part) for s in p.sentences()]

    def plain(sentence: str) -> str:
        return re.sub(r"\W+", " ", re.sub(r"\{\w+\}", "#", sentence)).lower().strip()

    training, held_out = sentences("train"), sentences("heldout")
    assert not {plain(s) for s in training} & {plain(s) for s in held_out}
    known = {word for s in training for word in plain(s).split()}
    unknown = {word for s in held_out for word in plain(s).split()} - known
    assert not unknown


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = _items("train", 300, seed=9)
    assert first == _items("train", 300, seed=9)
    assert first[100:200] == list(generate_items("train", 9, 100, start=100))
    assert first != _items("train", 300, seed=10)
    digest = hashlib.sha256(repr(_items("new_phrasings", 200, seed=3)).encode()).hexdigest()
    again = hashlib.sha256(repr(_items("new_phrasings", 200, seed=3)).encode()).hexdigest()
    assert digest == again


def test_tiers_weigh_the_splits_and_unknown_ones_are_refused() -> None:
    tiers = {"one_step": 1.0, "two_three_steps": 3.0}
    counts = Counter(i.attributes["tier"] for i in generate_items("train", 1, 2000, tiers))
    assert 1400 < counts["two_three_steps"] < 1600
    for bad in ({"hard": 1.0}, {"one_step": 0.0}, {"one_step": -1.0}):
        with pytest.raises(ConfigError):
            next(generate_items("train", 1, 1, bad))
    with pytest.raises(ConfigError):
        next(generate_items("dev", 1, 1))  # type: ignore[arg-type]


def test_drills_find_the_letter_that_stands_behind_the_value() -> None:
    lookups = 0
    for conversation in generate_drills(4, 1500):
        question, reply = conversation.messages
        for part, output in zip(reply.parts, reply.parts[1:], strict=False):
            if part.kind is PartKind.PYTHON:
                assert evaluate(part.text) == output.text
        lines = question.text.splitlines()
        answer = re.search(r"(?m)^Answer: ([A-E])$", reply.text)
        if answer is not None:
            lookups += 1
            assert reply.text.splitlines()[0] in lines[:5]
            assert reply.text.splitlines()[0].endswith(f" {answer[1]}")
    assert lookups > 300


def test_documents_are_prose_of_the_training_split() -> None:
    documents = list(islice(generate_documents(2, 400), 400))
    assert documents == list(generate_documents(2, 400))
    assert len(set(documents)) > 390
    assert all(document.strip() and "<<" not in document for document in documents)


def test_a_question_reads_as_a_prompt() -> None:
    item = _items("train", 1)[0]
    user, assistant = choice_conversation(item).messages
    assert all(
        f"{option} {letter}\n" in user.text
        for option, letter in zip(item.options, item.letters, strict=True)
    )
    assert assistant.text.endswith(
        f"{item.options[item.answer_index]} {item.answer_letter}\nAnswer: {item.answer_letter}"
    )
