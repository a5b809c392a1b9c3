"""Prompts and scored spans, against a plain rendering and against the published program."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.eval.core_prompts import PromptMaker, Span, common_prefix, common_suffix
from aquachat.eval.core_tasks import CoreItem, CoreTask, TaskKind, read_items, read_tasks
from aquachat.text.patterns import GPT2, GPT4, NANOCHAT
from aquachat.text.tokenizer import Tokenizer
from tests.data.byte_tokenizer import byte_tokenizer
from tests.eval.core_bundle import write_bundle

BOS = 256
BYTES = byte_tokenizer()
PEER_DIGESTS = {
    "bigbench_qa_wikidata": "f92328cd9b564451",
    "arc_easy": "04c014fc59cfb653",
    "arc_challenge": "7914cf5bd57f5fb5",
    "copa": "189215a40bc1438e",
    "commonsense_qa": "2fb1a952d8ac9c90",
    "piqa": "ea311cdfd1db1fb1",
    "openbook_qa": "99e3457bdaffdb84",
    "winograd": "9cbb410a9f98af84",
    "winogrande": "18aabfe7a047eb50",
    "bigbench_dyck_languages": "b1aa4e149fd3170f",
    "bigbench_cs_algorithms": "658170c90888d857",
    "bigbench_operators": "5e91dc9071db99c0",
    "bigbench_repeat_copy_logic": "899224dc6b41bded",
    "boolq": "9f38dc66484d7020",
    "bigbench_language_identification": "5686715a49d14a09",
}
"""SHA-256, cut, of the tokens (bytes, after 256) and starts of spans that nanochat 92d63d4 makes of
the first 12 questions of each task."""


def make_maker(
    items: Sequence[CoreItem],
    kind: TaskKind,
    *,
    num_fewshot: int = 0,
    delimiter: str = " ",
    num_asked: int | None = None,
    context: int = 100_000,
    tokenizer: Tokenizer = BYTES,
) -> PromptMaker:
    task = CoreTask("made", Path("made.jsonl"), kind, num_fewshot, delimiter, 0.0)
    return PromptMaker(tokenizer, task, items, num_asked or len(items), context)


def choices(query: str, *options: str, gold: int = 0) -> CoreItem:
    return CoreItem(1, (query,), options, gold)


def text_of(span: Span) -> tuple[str, str]:
    """What is given and what is scored."""
    before, after = span.tokens[1 : span.start], span.tokens[span.start :]
    assert span.tokens[0] == BOS
    return bytes(before).decode(), bytes(after).decode()


def test_options_are_scored_where_they_differ() -> None:
    items = [choices("Q: sky?", "blue", "black", gold=0)]
    spans = make_maker(items, TaskKind.MULTIPLE_CHOICE, delimiter="\nA: ").spans(0)
    assert [text_of(span) for span in spans] == [
        ("Q: sky?\nA: bl", "ue"),
        ("Q: sky?\nA: bl", "ack"),
    ]


def test_the_ending_of_a_schema_is_scored_after_each_context() -> None:
    item = CoreItem(
        1, ("The cat saw the dog, the cat", "The cat saw the dog, the dog"), ("ran.",), 1
    )
    spans = make_maker([item], TaskKind.SCHEMA).spans(0)
    assert [text_of(span) for span in spans] == [
        ("The cat saw the dog, the cat", " ran."),
        ("The cat saw the dog, the dog", " ran."),
    ]


def test_the_continuation_of_a_text_is_scored_with_its_space() -> None:
    items = [CoreItem(1, ("One, two,",), ("three",), 0), CoreItem(2, ("A, B,",), ("C",), 0)]
    spans = make_maker(items, TaskKind.LANGUAGE_MODELING, num_fewshot=1).spans(1)
    assert [text_of(span) for span in spans] == [("One, two, three\n\nA, B,", " C")]


def test_examples_show_the_right_option_and_never_the_question() -> None:
    items = [choices(f"Q{n}", f"{n}a", f"{n}b", gold=n % 2) for n in range(6)]
    maker = make_maker(items, TaskKind.MULTIPLE_CHOICE, num_fewshot=5)
    for index in range(6):
        assert sorted([*maker.example_indexes(index), index]) == list(range(6))
        before, _ = text_of(maker.spans(index)[0])
        shown = before.split("\n\n")[:-1]
        assert sorted(shown) == [f"Q{n} {n}{'ab'[n % 2]}" for n in range(6) if n != index]


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(2, 400), st.integers(0, 10))
def test_examples_are_drawn_as_published(index: int, count: int, num_fewshot: int) -> None:
    index, num_fewshot = index % count, min(num_fewshot, count - 1)
    items = [choices("Q", "a", "b")] * count
    maker = make_maker(items, TaskKind.MULTIPLE_CHOICE, num_fewshot=num_fewshot)
    others = [place for place in range(count) if place != index]
    expected = random.Random(1234 + index).sample(others, num_fewshot)
    assert maker.example_indexes(index) == expected


def test_few_questions_still_get_all_their_examples() -> None:
    items = [choices(f"Q{n}", "a", "b") for n in range(20)]
    few = make_maker(items, TaskKind.MULTIPLE_CHOICE, num_fewshot=10, num_asked=5)
    whole = make_maker(items, TaskKind.MULTIPLE_CHOICE, num_fewshot=10)
    assert [few.example_indexes(i) for i in range(5)] == [
        whole.example_indexes(i) for i in range(5)
    ]
    half = make_maker(items, TaskKind.MULTIPLE_CHOICE, num_fewshot=10, num_asked=11)
    assert all(max(half.example_indexes(index)) <= 10 for index in range(11))


def test_what_does_not_fit_is_cut_at_the_start() -> None:
    items = [choices("A long question, is it?", "yes indeed", "no")]
    maker = make_maker(items, TaskKind.MULTIPLE_CHOICE, context=14)
    question = maker.question(0)
    rows = [
        request.prefix + continuation.tokens
        for request in question.requests
        for continuation in request.continuations
    ]
    assert [bytes(row).decode() for row in rows] == ["it? yes indeed", "tion, is it? no"[1:]]
    scored = [
        bytes(continuation.tokens[continuation.num_given :]).decode()
        for request in question.requests
        for continuation in request.continuations
    ]
    assert scored == ["yes indeed", "no"]
    assert (question.num_tokens, question.num_cut) == (14, 35 - 14)


def test_an_option_longer_than_the_context_is_scored_but_for_its_first_token() -> None:
    maker = make_maker([choices("Q", "0123456789", "x")], TaskKind.MULTIPLE_CHOICE, context=6)
    requests = maker.question(0).requests
    continuation = requests[0].continuations[0]
    assert bytes(requests[0].prefix + continuation.tokens) == b"456789"
    assert bytes(continuation.tokens[continuation.num_given :]) == b"56789"


def test_options_share_what_they_have_in_common() -> None:
    item = choices("A question that is long", "short", "shore", "long")
    (request,) = make_maker([item], TaskKind.MULTIPLE_CHOICE).question(0).requests
    assert bytes(request.prefix[1:]) == b"A question that is long "
    assert [bytes(each.tokens) for each in request.continuations] == [b"short", b"shore", b"long"]
    schema = CoreItem(1, ("He said he", "He said she"), ("left.",), 0)
    (request,) = make_maker([schema], TaskKind.SCHEMA).question(0).requests
    assert bytes(request.prefix[1:]) == b"He said "
    assert [each.num_given for each in request.continuations] == [2 - 2, 3 - 2]


def test_equal_and_nested_options_are_no_error() -> None:
    same = make_maker([choices("Q", "a", "a")], TaskKind.MULTIPLE_CHOICE).question(0)
    assert [each.tokens for each in same.requests[0].continuations] == [(), ()]
    nested = make_maker([choices("Q", "a", "a b")], TaskKind.MULTIPLE_CHOICE).question(0)
    assert [each.tokens for each in nested.requests[0].continuations] == [(), (32, 98)]
    alike = CoreItem(1, ("same", "same"), ("end",), 0)
    (request,) = make_maker([alike], TaskKind.SCHEMA).question(0).requests
    assert [each.num_given for each in request.continuations] == [0, 0]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=4))
def test_common_ends_are_the_longest(rows: list[list[int]]) -> None:
    count = common_prefix(rows)
    assert all(row[:count] == rows[0][:count] for row in rows)
    longer = [row[: count + 1] for row in rows]
    assert any(len(row) <= count for row in rows) or any(row != longer[0] for row in longer)
    assert common_suffix(rows) == common_prefix([row[::-1] for row in rows])


def _bpe(pattern: str) -> Tokenizer:
    """Merges of spaces and line ends with their neighbours, the ones that could go wrong."""
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [b"\n\n", b"\n ", b"  ", b" a", b"\n\n\n", b"?\n", b"?\n\n", b" \n", b"aa", b"\r\n"]
    return Tokenizer(tokens=tuple(tokens), pattern=pattern)


TEXTS = st.text(alphabet="ab? \n\r\t1.\u00a0\u2028\u0085é", min_size=1, max_size=12)


@pytest.mark.parametrize("pattern", [NANOCHAT, GPT4, GPT2], ids=["nanochat", "gpt4", "gpt2"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_prompts_in_parts_have_the_tokens_of_the_whole(pattern: str, data: st.DataObject) -> None:
    tokenizer = _bpe(pattern)
    rows = data.draw(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=4, max_size=4))
    items = [choices(query, *options) for query, *options in rows]
    maker = make_maker(items, TaskKind.MULTIPLE_CHOICE, num_fewshot=3, tokenizer=tokenizer)
    for index, item in enumerate(items):
        examples = [items[place].texts(" ")[0] + "\n\n" for place in maker.example_indexes(index)]
        for span, text in zip(maker.spans(index), item.texts(" "), strict=True):
            whole = tokenizer.encode_ordinary("".join(examples) + text)
            assert list(span.tokens) == [tokenizer.special_id("<|bos|>"), *whole]


def test_a_token_across_the_end_of_the_context_is_scored() -> None:
    tokens = (*(bytes([byte]) for byte in range(256)), b":7")
    tokenizer = Tokenizer(tokens=tokens, pattern=r"(?s:.+)")
    item = CoreItem(1, ("5, 6,",), ("7",), 0)
    maker = make_maker([item], TaskKind.LANGUAGE_MODELING, delimiter=":", tokenizer=tokenizer)
    (span,) = maker.spans(0)
    assert tokenizer.decode(span.tokens[1 : span.start]) == "5, 6,"
    assert span.tokens[span.start :] == (256,)


def test_a_bundle_becomes_questions(tmp_path: Path) -> None:
    for task in read_tasks(write_bundle(tmp_path)):
        if task.is_present:
            items = read_items(task)
            maker = PromptMaker(BYTES, task, items, len(items), 4096)
            for index, item in enumerate(items):
                spans = maker.spans(index)
                texts = [bytes(span.tokens[1:]).decode() for span in spans]
                ends = item.texts(task.delimiter)
                assert [t.split("\n\n")[-1] for t in texts] == ends


def test_prompts_and_spans_of_the_real_tasks_are_those_of_the_published_program(
    real_data: Path,
) -> None:
    found = {}
    for task in read_tasks(real_data / "core"):
        if not task.is_present:
            continue
        items = read_items(task)
        maker = PromptMaker(BYTES, task, items, len(items), 4096)
        digest = hashlib.sha256()
        for index in range(12):
            for span in maker.spans(index):
                digest.update(json.dumps([list(span.tokens), span.start]).encode())
        found[task.label] = digest.hexdigest()[:16]
    assert found == {label: PEER_DIGESTS[label] for label in found}
    assert len(found) >= 15
