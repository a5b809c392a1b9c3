"""The laws of grading and rendering over every real row, where AQUACHAT_TEST_DATA names them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from aquachat.tasks.arc import read_arc_row
from aquachat.tasks.base import Task
from aquachat.tasks.chat_rows import load_conversations
from aquachat.tasks.choice_task import ChoiceTask, load_choice_task
from aquachat.tasks.gsm8k import load_gsm8k
from aquachat.tasks.mmlu import read_mmlu_row
from aquachat.tasks.multiple_choice import choice_conversation, option_line, rotate
from aquachat.tasks.rows import RowReason, choice_row, read_choice_row, validate_choice_row
from aquachat.text.answer import answer_line
from aquachat.text.calculator import evaluate
from aquachat.text.conversation import PartKind
from aquachat.text.patterns import SINGLE_DIGIT
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer

FILES = {
    "AQUA": ("aqua/dev.json", "aqua/flan_cot_train.jsonl", "mathqa/mathqa_dev_test.jsonl"),
    "ARC": (
        *("arc/ARC-Easy-train.jsonl", "arc/ARC-Easy-test.jsonl"),
        *("arc/ARC-Challenge-train.jsonl", "arc/ARC-Challenge-test.jsonl"),
    ),
    "MMLU": ("mmlu/dev.parquet", "mmlu/test.parquet"),
    "GSM8K": ("gsm8k/train.jsonl", "gsm8k/test.jsonl"),
}
READERS = {"AQUA": read_choice_row, "ARC": read_arc_row, "MMLU": read_mmlu_row}
CASES = [(name, file) for name, files in FILES.items() for file in files]
CHOICE_CASES = [(name, file) for name, file in CASES if name != "GSM8K"]


def _task(folder: Path, name: str, file: str) -> Task:
    if name == "GSM8K":
        return load_gsm8k(folder / file, "test")
    return _choice_task(folder, name, file)


def _choice_task(folder: Path, name: str, file: str) -> ChoiceTask:
    return load_choice_task(
        folder / file, name=name, split="test", dataset=name.lower(), read_row=READERS[name]
    )


@pytest.mark.parametrize(("name", "file"), CASES)
def test_only_the_gold_reply_is_graded_correct(real_data: Path, name: str, file: str) -> None:
    task = _task(real_data, name, file)
    for index in range(len(task)):
        example = task[index]
        user, gold = (message.text for message in example.conversation.messages)
        grade = task.grade(example, gold)
        assert grade.correct, example.id
        assert grade.reward == pytest.approx(1.1)
        assert grade.answer == example.answer
        question = user if example.item is None else example.item.question
        for reply in ("", question, user):
            assert task.grade(example, reply).reward == 0.0, example.id
        for letter in example.choices:
            if letter != example.answer:
                other = task.grade(example, answer_line(letter))
                assert not other.correct
                assert other.reward == pytest.approx(0.1)


@pytest.mark.parametrize(("name", "file"), CHOICE_CASES)
def test_every_option_order_has_the_same_gold_option(real_data: Path, name: str, file: str) -> None:
    for item in _choice_task(real_data, name, file).items:
        gold = item.options[item.answer_index]
        for by in (1, len(item.options) - 1):
            turned = rotate(item, by)
            if gold in turned.options and item.options.count(gold) == 1:
                assert turned.options[turned.answer_index] == gold, item.id
            assert len(set(turned.options)) == len(set(item.options))


@pytest.mark.parametrize("file", FILES["AQUA"])
def test_no_row_is_lost_and_each_survives_being_written(real_data: Path, file: str) -> None:
    task = _choice_task(real_data, "AQUA", file)
    assert task.rejected == ()
    assert len(task) == sum(1 for line in (real_data / file).open(encoding="utf-8"))
    for item in task.items:
        read = read_choice_row(choice_row(item), item.id).item
        assert read is not None
        assert (read.question, read.options, read.answer_index, read.rationale) == (
            *(item.question, item.options, item.answer_index),
            item.rationale,
        )


def test_known_flaws_of_dev_are_found(real_data: Path) -> None:
    task = _choice_task(real_data, "AQUA", "aqua/dev.json")
    reasons = [reason for flaws in task.flagged.values() for reason in flaws]
    assert reasons.count(RowReason.EQUAL_OPTIONS) == 1
    assert RowReason.RATIONALE_NAMES_OTHER_LETTER not in reasons


def test_few_training_rows_have_a_flaw(real_data: Path) -> None:
    for file in FILES["AQUA"][1:]:
        items = _choice_task(real_data, "AQUA", file).items
        kept = [i for i in items if not isinstance(validate_choice_row(choice_row(i)), RowReason)]
        assert len(kept) > 0.95 * len(items)


def test_calculator_calls_of_gsm8k_are_what_the_calculator_answers(real_data: Path) -> None:
    task = load_gsm8k(real_data / "gsm8k/train.jsonl", "train")
    num_calls = 0
    for index in range(len(task)):
        parts = task[index].conversation.messages[-1].parts
        for call, output in itertools.pairwise(parts):
            if call.kind is PartKind.PYTHON:
                num_calls += 1
                assert (output.kind, output.text) == (
                    PartKind.PYTHON_OUTPUT,
                    evaluate(call.text),
                )
        assert not any("<<" in part.text for part in parts)
    assert num_calls > 20_000


def test_chat_rows_are_conversations(real_data: Path) -> None:
    for path in sorted((real_data / "chat").glob("*.jsonl")):
        rows = load_conversations(path)
        assert rows.conversations
        assert len(rows.rejected) <= 0.01 * len(rows.conversations), path.name


def _tokens_by_end(ids: Sequence[int], tokenizer: Tokenizer) -> dict[int, int]:
    """The token that ends at each byte of the text."""
    ends = itertools.accumulate(len(tokenizer.tokens[token]) for token in ids)
    return dict(zip(ends, ids, strict=True))


@pytest.mark.parametrize("file", FILES["AQUA"])
def test_answer_letter_is_the_token_of_the_option_lines(real_data: Path, file: str) -> None:
    letters = tuple(f" {letter}".encode() for letter in "ABCDE")
    tokenizer = Tokenizer((*(bytes([b]) for b in range(256)), *letters), SINGLE_DIGIT)
    renderer = ChatRenderer(tokenizer)
    letter_ids = renderer.letter_ids("ABCDE")
    prime = renderer.answer_prime()
    for item in _choice_task(real_data, "AQUA", file).items:
        conversation = choice_conversation(item)
        ids = renderer.supervised(conversation, 10**6).ids
        tail = [*prime, letter_ids[item.answer_index], renderer.assistant_end_id]
        assert ids[-len(tail) :] == tail, item.id
        user = conversation.messages[0].text
        user_ids = renderer.prompt(conversation.without_last())[2:-2]
        tokens = _tokens_by_end(user_ids, tokenizer)
        end = len(item.question.encode())
        for index in range(len(item.options)):
            end += 1 + len(option_line(item, index).encode())
            assert user.encode()[:end].endswith(option_line(item, index).encode())
            assert tokens[end] == letter_ids[index], item.id
