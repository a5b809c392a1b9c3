"""Options in a new order over every real row: what each letter names before and after."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.data.conversations import shuffled_options
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.choice_task import load_choice_task
from aquachat.tasks.multiple_choice import choice_conversation
from aquachat.tasks.option_order import refers_to_options, reorder
from aquachat.tasks.rationale import split_letter_statement
from aquachat.text.answer import parse_answer

FILES = ("aqua/dev.json", "aqua/flan_cot_train.jsonl", "mathqa/mathqa_dev_test.jsonl")

# Written apart from the code it judges, and narrower: nobody doubts that these are mentions.
CERTAIN_MENTION = re.compile(
    r"\b(?:answer is|answer must be|answer will be|answer:|answer =|ans is|ans:"
    r"|(?:option|answer choice)(?! [a-e] (?:and|or)))[ ]\(?(?P<letter>[B-E])\)?(?=[.,]|\s*\n| is )",
    re.IGNORECASE,
)
ALLOWED_BEFORE = re.compile(
    r"(?:\b(?:options?|choices?|answers?|ans|is|be|get|choose|none|and|or)\b|[,0-9%\s:=.$-]|\()"
    r"[\s:=.('\u2018\u2019-]*\Z",
    re.IGNORECASE,
)
MENTION_WORD = re.compile(r"\b(?:options?|choices?|answers?|ans)\b", re.IGNORECASE)
NOUNS = "plan|point|train|pipe|type|person|angle|vitamin|machine|city|set|tap|shop|town"
PROTECTED = re.compile(
    rf"""
    [A-E]['\u2019]s\b | \b[A-Z]{{2,}}\b | \b(?:{NOUNS})[ ][A-E]\b
    | \b[A-E][ ]?[-+*/^=<>] | [-+*/^<>][ ]?[A-E]\b | \b[A-E][ ]and[ ][A-E][ ]can\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Names, unknowns and words that hold a capital letter; a mention may stand before them."""


def items_of(folder: Path, file: str) -> list[ChoiceItem]:
    task = load_choice_task(folder / file, name="AQUA", split="test", dataset="aqua")
    return list(task.items)


def reordered(items: list[ChoiceItem], num_orders: int) -> Iterator[tuple[ChoiceItem, ChoiceItem]]:
    """Each item with the same item in some other orders; items that keep theirs are left out."""
    for item in items:
        orders = random.Random(item.id)
        for _ in range(num_orders):
            order = list(range(len(item.options)))
            orders.shuffle(order)
            moved = reorder(item, order)
            if moved is not item:
                yield item, moved


def check_row(item: ChoiceItem, moved: ChoiceItem) -> None:
    """The gold text, the answer line, and every letter of the rationale."""
    gold = item.options[item.answer_index]
    if not refers_to_options(item):
        assert sorted(moved.options) == sorted(item.options), item.id
        assert moved.options[moved.answer_index] == gold, item.id
    question, reply = (m.text for m in choice_conversation(moved).messages)
    assert parse_answer(reply, moved.letters) == moved.answer_letter, item.id
    assert f"{moved.options[moved.answer_index]} {moved.answer_letter}\n" in question, item.id
    before, _ = split_letter_statement(item.rationale, item.letters)
    assert len(moved.rationale) == len(before), item.id
    changed = {place for place, letter in enumerate(before) if moved.rationale[place] != letter}
    for place in changed:
        old, new = before[place], moved.rationale[place]
        assert old.isupper() == new.isupper(), item.id
        assert _names(moved, new) == _names(item, old) or refers_to_options(item), item.id
        assert ALLOWED_BEFORE.search(before[max(0, place - 25) : place]), (item.id, before, place)
        around = before[max(0, place - 1) : place + 2]
        assert not re.search(r"\w{2}", around), (item.id, around)
    for match in PROTECTED.finditer(before):
        if not MENTION_WORD.search(before, max(0, match.start() - 25), match.end()):
            assert not changed & set(range(*match.span())), (item.id, match[0])
    for match in CERTAIN_MENTION.finditer(before):
        letter = moved.rationale[match.start("letter")]
        assert _names(moved, letter) == _names(item, match["letter"]) or refers_to_options(item), (
            *(item.id, match[0]),
        )


def _names(item: ChoiceItem, letter: str) -> str:
    index = item.letters.index(letter.upper())
    return item.options[index]


@pytest.mark.parametrize("file", FILES)
def test_letters_name_the_same_text_in_another_order(real_data: Path, file: str) -> None:
    step = 3 if file == FILES[2] else 1  # the long form takes every row
    items = items_of(real_data, file)[::step]
    for item, moved in reordered(items, 1):
        check_row(item, moved)


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
def test_letters_name_the_same_text_in_many_orders(real_data: Path, file: str) -> None:
    for item, moved in reordered(items_of(real_data, file), 5):
        check_row(item, moved)


def test_a_reply_ends_with_the_letter_of_its_order_and_states_no_other(real_data: Path) -> None:
    for item in items_of(real_data, FILES[2])[::5]:
        moved = shuffled_options(item, 7, 1)
        body = choice_conversation(moved).messages[-1].text.rpartition("\n")[0]
        stated = split_letter_statement(body, item.letters)[1]
        assert stated in (None, moved.answer_letter), item.id
