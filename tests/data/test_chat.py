from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.chat import ChatSource, MixturePart, conversation_batches
from aquachat.data.conversations import FixedConversations, TaskConversations
from aquachat.data.packing import grouped_by_length, pack
from aquachat.errors import ConfigError, DataError
from aquachat.model.batch import IGNORE, Batch
from aquachat.tasks.base import ChoiceItem, Example, Grade
from aquachat.tasks.multiple_choice import choice_conversation, choice_example, grade_choice
from aquachat.text.answer import parse_answer
from aquachat.text.conversation import Conversation, PartKind, Role, text_message
from aquachat.text.render import ChatRenderer, Rendered
from tests.data.byte_tokenizer import byte_tokenizer

RENDERER = ChatRenderer(byte_tokenizer())


def talk(question: str, reply: str) -> Conversation:
    return Conversation((text_message(Role.USER, question), text_message(Role.ASSISTANT, reply)))


def numbered(name: str, count: int) -> FixedConversations:
    return FixedConversations([talk(name, f"{name}{i}" + "." * (i * 5 % 13)) for i in range(count)])


PARTS = (
    MixturePart("a", numbered("a", 17), 0.5),
    MixturePart("b", numbered("b", 5), 0.3),
    MixturePart("c", numbered("c", 40), 0.2),
)


def source(parts: Sequence[MixturePart] = PARTS, **changes: Any) -> ChatSource:
    settings: dict[str, Any] = {
        "examples_per_step": 10,
        "max_tokens": 64,
        "device_batch_tokens": 128,
        "seed": 3,
        "prefetch": 0,
    }
    return ChatSource(parts, RENDERER, **{**settings, **changes})


def trained_rows(batches: Sequence[Batch]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each row as its inputs and targets up to its last target, whatever the padding."""
    rows = []
    for batch in batches:
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            length = 1 + max(i for i, target in enumerate(targets) if target != IGNORE)
            rows.append((tuple(inputs[:length]), tuple(targets[:length])))
    return sorted(rows)


@pytest.mark.parametrize("world_size", [2, 3, 4, 11])
def test_the_rows_of_all_processes_are_those_of_one(world_size: int) -> None:
    alone = source()
    ranks = [source(rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in (0, 7, 50):
        together = [batch for rank in ranks for batch in rank.step_batches(step)]
        expected = alone.step_batches(step)
        assert trained_rows(together) == trained_rows(expected)
        assert sum(b.num_targets for b in together) == sum(b.num_targets for b in expected)


@pytest.mark.parametrize("prefetch", [0, 1])
def test_a_step_is_a_pure_function_of_seed_and_step(prefetch: int) -> None:
    walked = source(prefetch=prefetch)
    steps = [walked.step_batches(step) for step in range(12)]
    fresh = source(prefetch=0)
    fresh.load_state_dict(walked.state_dict())
    for step in (11, 0, 5, 5):
        again = fresh.step_batches(step)
        assert len(again) == len(steps[step])
        for one, other in zip(again, steps[step], strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)
    other_seed = source(seed=4).step_batches(0)
    assert trained_rows(other_seed) != trained_rows(steps[0])
    walked.close()


def test_micro_batches_hold_at_most_the_asked_positions_and_count_their_targets() -> None:
    for step in range(6):
        for batch in source().step_batches(step):
            assert batch.inputs.shape == batch.targets.shape
            assert batch.num_tokens <= 128
            assert batch.num_targets == int((batch.targets != IGNORE).sum())
            assert batch.inputs.shape[1] % 8 == 0


def test_only_the_assistant_is_learned_unless_all_is_asked_for() -> None:
    parts = [MixturePart("p", FixedConversations([talk("question", "reply")]), 1.0)]
    rendered = RENDERER.supervised(talk("question", "reply"), 64)
    (batch,) = source(parts, examples_per_step=1).step_batches(0)
    learned = [i for i, keep in zip(rendered.ids, rendered.loss_mask, strict=True) if keep]
    assert [t for t in batch.targets[0].tolist() if t != IGNORE] == learned
    assert batch.inputs[0].tolist()[: len(rendered.ids) - 1] == rendered.ids[:-1]
    (batch,) = source(parts, examples_per_step=1, train_on="all").step_batches(0)
    assert [t for t in batch.targets[0].tolist() if t != IGNORE] == rendered.ids[1:]


def test_the_mixture_is_accounted_for_exactly() -> None:
    mixed = source()
    for step in range(10):
        mixed.step_batches(step)
    examples = {name: use.examples for name, use in mixed.accounting(10).items()}
    assert examples == {"a": 50, "b": 30, "c": 20}
    tokens = mixed.token_accounting(10)
    assert {name: use.examples for name, use in tokens.items()} == examples
    trained = [batch for step in range(10) for batch in source().step_batches(step)]
    assert sum(use.targets for use in tokens.values()) == sum(b.num_targets for b in trained)


@pytest.mark.parametrize("prefetch", [0, 1])
def test_token_accounting_does_not_depend_on_what_was_trained_here(prefetch: int) -> None:
    expected = source().token_accounting(8)
    resumed = source(prefetch=prefetch)
    for step in range(5, 8):
        resumed.step_batches(step)
    assert resumed.token_accounting(8) == expected
    ahead = source(prefetch=prefetch)
    for step in range(9):
        ahead.step_batches(step)
    assert ahead.token_accounting(8) == expected
    assert source(rank=1, world_size=2).token_accounting(8) == expected
    resumed.close()
    ahead.close()


class CountingRenderer(ChatRenderer):
    """Counts the examples that are rendered."""

    num_rendered = 0

    def supervised(self, conversation: Conversation, max_tokens: int) -> Rendered:
        self.num_rendered += 1
        return super().supervised(conversation, max_tokens)


def test_the_books_survive_a_resume_so_that_nothing_is_rendered_twice() -> None:
    whole = source()
    for step in range(5):
        whole.step_batches(step)
    saved = json.loads(json.dumps(whole.state_dict()))
    renderer = CountingRenderer(byte_tokenizer())
    settings = {"examples_per_step": 10, "max_tokens": 64, "device_batch_tokens": 128, "seed": 3}
    resumed = ChatSource(PARTS, renderer, prefetch=0, **settings)
    resumed.load_state_dict(saved)
    for step in range(5, 8):
        resumed.step_batches(step)
    assert resumed.token_accounting(8) == source().token_accounting(8)
    assert renderer.num_rendered == 30
    old = source()
    old.load_state_dict({})  # of a checkpoint without books
    old.step_batches(5)
    assert old.token_accounting(6) == source().token_accounting(6)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_books_of_all_processes_are_summed_also_after_a_resume(world_size: int) -> None:
    shared = Gathering(world_size)
    ranks = [
        source(rank=rank, world_size=world_size, gather=shared.of(rank))
        for rank in range(world_size)
    ]
    for step in range(6):
        for rank in ranks:
            rank.step_batches(step)
    expected = source().token_accounting(6)
    assert shared.together([rank.state_dict for rank in ranks])[0]["token_use"]["num_steps"] == 6
    counted = shared.together([lambda r=rank: r.token_accounting(6) for rank in ranks])
    assert counted == [expected] * world_size
    saved = shared.together([rank.state_dict for rank in ranks])[0]
    others = [
        source(rank=rank, world_size=world_size, gather=shared.of(rank))
        for rank in range(world_size)
    ]
    for other in others:
        other.load_state_dict(saved)
        other.step_batches(6)
    counted = shared.together([lambda r=other: r.token_accounting(7) for other in others])
    assert counted == [source().token_accounting(7)] * world_size


class Gathering:
    """Stands in for the processes of one run: each in a thread, meeting where they gather."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._given: list[object] = [None] * size
        self._meeting = threading.Barrier(size)

    def of(self, rank: int) -> Callable[[object], list[object]]:
        def gather(value: object) -> list[object]:
            self._given[rank] = value
            self._meeting.wait(20)
            gathered = list(self._given)
            self._meeting.wait(20)
            return gathered

        return gather

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        with ThreadPoolExecutor(self._size) as pool:
            return [future.result() for future in [pool.submit(call) for call in calls]]


def test_a_long_conversation_is_cut_or_skipped_and_counted() -> None:
    long = FixedConversations([talk("q", "r" * 100), talk("q", "short")])
    parts = [MixturePart("p", long, 1.0)]
    settings: dict[str, Any] = {"examples_per_step": 2, "max_tokens": 32, "device_batch_tokens": 32}
    cut = source(parts, **settings)
    assert max(batch.inputs.shape[1] for batch in cut.step_batches(0)) <= 32
    use = cut.token_accounting(1)["p"]
    assert (use.examples, use.truncated, use.skipped) == (2, 1, 0)
    skipping = source(parts, on_long="skip", **settings)
    assert sum(len(batch.inputs) for batch in skipping.step_batches(0)) == 1
    use = skipping.token_accounting(1)["p"]
    assert (use.examples, use.truncated, use.skipped) == (1, 0, 1)


def test_an_example_without_a_target_is_left_out_and_never_divides_zero_by_zero() -> None:
    endless_question = FixedConversations([talk("q" * 100, "r")])
    silent = source([MixturePart("p", endless_question, 1.0)], examples_per_step=2)
    assert silent.step_batches(0) == []
    assert silent.token_accounting(1)["p"].skipped == 2


def test_a_step_may_leave_a_process_without_a_batch() -> None:
    shares = [source(examples_per_step=1, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(len(share.step_batches(0)) for share in shares) == [0, 0, 1]


def test_a_micro_batch_too_small_for_one_example_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not hold one example of 64"):
        source(device_batch_tokens=63)


@pytest.mark.parametrize("prefetch", [0, 1])
def test_an_error_in_a_data_set_reaches_the_caller(prefetch: int) -> None:
    question = FixedConversations([Conversation((text_message(Role.USER, "hello"),))])
    broken = source([MixturePart("p", question, 1.0)], prefetch=prefetch)
    with pytest.raises(DataError, match="must end with a message of the assistant"):
        broken.step_batches(0)
    broken.close()


lengths_st = st.lists(st.integers(1, 50), max_size=40)


@given(lengths=lengths_st, budget=st.integers(1, 200), multiple=st.sampled_from([1, 8]))
def test_grouping_keeps_every_row_once_and_the_budget(
    lengths: list[int], budget: int, multiple: int
) -> None:
    groups = grouped_by_length(lengths, budget, multiple)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        width = -(-max(lengths[i] for i in group) // multiple) * multiple
        assert len(group) == 1 or len(group) * width <= budget


def test_grouping_wastes_less_than_filling_each_batch_would() -> None:
    lengths = [100, 100, 100, 10, 10, 10, 10, 10]
    assert grouped_by_length(lengths, 800, 1) == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert grouped_by_length([100, 99, 98], 800, 1) == [[0, 1, 2]]


@settings(deadline=None, max_examples=30)
@given(
    examples=st.lists(
        st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=20), max_size=9
    )
)
def test_packing_loses_no_target(examples: list[list[tuple[int, bool]]]) -> None:
    rendered = [Rendered([i for i, _ in pairs], [k for _, k in pairs]) for pairs in examples]
    batches = pack(
        rendered,
        train_on="assistant",
        device_batch_tokens=32,
        pad_multiple=4,
    )
    expected = sorted(
        (r.ids[i - 1], r.ids[i]) for r in rendered for i in range(1, len(r.ids)) if r.loss_mask[i]
    )
    found = sorted(
        (i, t)
        for batch in batches
        for i, t in zip(
            batch.inputs.flatten().tolist(), batch.targets.flatten().tolist(), strict=True
        )
        if t != IGNORE
    )
    assert found == expected
    assert all(batch.num_targets > 0 for batch in batches)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_takes_each_conversation_once(world_size: int) -> None:
    data = numbered("v", 11)
    batches = [
        batch
        for rank in range(world_size)
        for batch in conversation_batches(
            data,
            RENDERER,
            max_tokens=64,
            device_batch_tokens=100,
            max_examples=9,
            rank=rank,
            world_size=world_size,
        )
    ]
    expected = [RENDERER.supervised(data.get(i, 0), 64) for i in range(9)]
    assert sum(len(batch.inputs) for batch in batches) == 9
    assert sum(batch.num_targets for batch in batches) == sum(sum(r.loss_mask) for r in expected)


ITEMS = [
    ChoiceItem(
        id=f"test/{i}",
        question=f"What is {i} + 2?",
        options=tuple(str(i + k) for k in range(5)),
        answer_index=2,
        rationale=f"{i} + 2 = {i + 2}",
    )
    for i in range(12)
]


def gold_value(conversation: Conversation) -> str:
    question, reply = (message.text for message in conversation.messages)
    letter = parse_answer(reply, "ABCDE")
    (line,) = [line for line in question.splitlines() if line.endswith(f" {letter}")]
    return line.split()[0]


class SmallTask:
    name, split = "SMALL", "train"
    protocols = frozenset({"generative"})

    def __len__(self) -> int:
        return len(ITEMS) + 1

    def __getitem__(self, index: int) -> Example:
        if index < len(ITEMS):
            return choice_example(ITEMS[index])
        return Example("free", talk("2 + 2?", "4"), "4")

    def grade(self, example: Example, reply: str) -> Grade:
        return grade_choice(example, reply)


def test_options_stand_in_another_order_each_epoch_and_the_gold_stays_right() -> None:
    data = TaskConversations(SmallTask(), seed=0)
    letters = set()
    for epoch in range(8):
        for index in range(len(ITEMS)):
            conversation = data.get(index, epoch)
            assert gold_value(conversation) == str(index + 2)
            letters.add(parse_answer(conversation.messages[-1].text, "ABCDE"))
    assert letters == set("ABCDE")
    assert data.get(3, 1) == TaskConversations(SmallTask(), seed=0).get(3, 1)
    assert [data.get(3, e) for e in range(4)] != [
        TaskConversations(SmallTask(), 1).get(3, e) for e in range(4)
    ]


def test_options_keep_their_order_when_asked() -> None:
    fixed = TaskConversations(SmallTask(), seed=0, shuffle_options=False)
    assert all(fixed.get(i, 5) == choice_conversation(item) for i, item in enumerate(ITEMS))


@pytest.mark.parametrize("shuffle_options", [False, True])
def test_calls_are_added_without_changing_what_is_read(shuffle_options: bool) -> None:
    plain = TaskConversations(SmallTask(), seed=0, shuffle_options=shuffle_options)
    marked = TaskConversations(SmallTask(), 0, shuffle_options, calculator=True)
    for epoch in range(3):
        for index, item in enumerate(ITEMS):
            before, after = plain.get(index, epoch).messages, marked.get(index, epoch).messages
            assert [message.text for message in after] == [message.text for message in before]
            calls = [part.text for part in after[-1].parts if part.kind is PartKind.PYTHON]
            assert calls == [item.rationale.partition(" =")[0].replace(" ", "")]
    assert marked.get(12, 0) == talk("2 + 2?", "4")


def test_a_task_becomes_conversations() -> None:
    data = TaskConversations(SmallTask(), seed=0)
    assert len(data) == 13
    assert data.get(12, 7) == talk("2 + 2?", "4")
    assert len(TaskConversations(SmallTask(), seed=0, count=5)) == 5
    assert len(TaskConversations(SmallTask(), seed=0, count=50)) == 13
