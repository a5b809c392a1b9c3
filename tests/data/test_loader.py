from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.loader import TextSource, share_of, validation_batches
from aquachat.data.token_stream import TokenStream
from aquachat.errors import ConfigError
from aquachat.model.batch import IGNORE, Batch
from tests.data.byte_tokenizer import byte_tokenizer

T = 8
BOS = byte_tokenizer().special_id("<|bos|>")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("corpus")
    documents = [chr(65 + i % 50) * (1 + i * 7 % 23) for i in range(60)]
    write_corpus(directory, {"a": documents}, byte_tokenizer(), shard_tokens=97)
    return Corpus.open(directory)


def source(corpus: Corpus, *, rank: int = 0, world_size: int = 1, **changes: int) -> TextSource:
    settings = {"tokens_per_step": 7 * T, "seq_len": T, "device_batch_size": 2, "seed": 1}
    return TextSource(corpus, **{**settings, **changes}, rank=rank, world_size=world_size)


def rows(batches: Sequence[Batch]) -> list[tuple[list[int], list[int]]]:
    return [
        (inputs, targets)
        for batch in batches
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
    ]


@pytest.mark.parametrize("world_size", [2, 3, 4, 9])
def test_the_rows_of_all_processes_are_those_of_one(corpus: Corpus, world_size: int) -> None:
    alone = source(corpus)
    ranks = [source(corpus, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in (0, 3, 40):
        together = [row for rank in ranks for row in rows(rank.step_batches(step))]
        assert together == rows(alone.step_batches(step))


def test_a_step_is_a_pure_function_of_seed_and_step(corpus: Corpus) -> None:
    walked = source(corpus)
    steps = [rows(walked.step_batches(step)) for step in range(30)]
    fresh = source(corpus)
    fresh.load_state_dict(walked.state_dict())
    for step in (29, 0, 17, 17):
        assert rows(fresh.step_batches(step)) == steps[step]
    assert rows(source(corpus, seed=2).step_batches(0)) != steps[0]


def test_micro_batches_change_nothing_but_their_size(corpus: Corpus) -> None:
    small, large = source(corpus, device_batch_size=1), source(corpus, device_batch_size=64)
    assert rows(small.step_batches(5)) == rows(large.step_batches(5))
    assert [batch.inputs.shape for batch in source(corpus).step_batches(0)] == [
        (2, T),
        (2, T),
        (2, T),
        (1, T),
    ]


def test_targets_are_the_next_tokens_and_are_counted(corpus: Corpus) -> None:
    for batch in source(corpus).step_batches(2):
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert torch.equal(batch.inputs.flatten()[1:], batch.targets.flatten()[:-1])
        assert batch.num_targets == batch.targets.numel()
        assert batch.segments is None


@settings(deadline=None, max_examples=25)
@given(seq_len=st.integers(1, 40), rows_per_step=st.integers(1, 9), seed=st.integers(0, 99))
def test_each_token_is_a_target_once_an_epoch(
    corpus: Corpus, seq_len: int, rows_per_step: int, seed: int
) -> None:
    text = source(corpus, tokens_per_step=seq_len * rows_per_step, seq_len=seq_len, seed=seed)
    num_epochs = 3
    wanted = num_epochs * corpus.num_tokens
    stream: list[int] = text.step_batches(0)[0].inputs[0, :1].tolist()
    step = 0
    while len(stream) < wanted:
        stream += [t for batch in text.step_batches(step) for t in batch.targets.flatten().tolist()]
        step += 1
    every = sorted(tuple(corpus.document(i).tolist()) for i in range(corpus.num_documents))
    orders = []
    for epoch in range(num_epochs):
        tokens = stream[epoch * corpus.num_tokens : (epoch + 1) * corpus.num_tokens]
        documents = split_documents(tokens)
        assert sorted(documents) == every
        orders.append(documents)
    assert orders[0] != orders[1]
    assert orders[1] != orders[2]


def split_documents(tokens: list[int]) -> list[tuple[int, ...]]:
    starts = [place for place, token in enumerate(tokens) if token == BOS]
    assert starts[0] == 0
    return [tuple(tokens[a:b]) for a, b in zip(starts, [*starts[1:], None], strict=True)]


def test_any_stretch_of_the_stream_is_that_of_the_whole(corpus: Corpus) -> None:
    whole = TokenStream(corpus, 5).read(0, 3 * corpus.num_tokens)
    stream = TokenStream(corpus, 5)
    random = np.random.default_rng(0)
    for _ in range(200):
        start = int(random.integers(0, len(whole)))
        count = int(random.integers(0, len(whole) - start + 1))
        assert np.array_equal(stream.read(start, count), whole[start : start + count])


def test_a_step_that_is_no_whole_number_of_rows_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="not a multiple") as caught:
        source(corpus, tokens_per_step=7 * T + 1)
    assert caught.value.hint == "use 56 tokens per step"


@settings(deadline=None, max_examples=30)
@given(seq_len=st.integers(1, 50), batch=st.integers(1, 7), world_size=st.integers(1, 4))
def test_validation_scores_each_token_once_on_any_number_of_processes(
    corpus: Corpus, seq_len: int, batch: int, world_size: int
) -> None:
    batches = [
        scored
        for rank in range(world_size)
        for scored in validation_batches(
            corpus,
            seq_len=seq_len,
            device_batch_size=batch,
            rank=rank,
            world_size=world_size,
        )
    ]
    first = batches[0].inputs[0, 0].item()
    targets = [t for b in batches for t in b.targets.flatten().tolist() if t != IGNORE]
    assert sum(b.num_targets for b in batches) == len(targets) == corpus.num_tokens - 1
    every = Counter(t for i in range(corpus.num_documents) for t in corpus.document(i).tolist())
    assert Counter([first, *targets]) == every
    assert all(len(b.inputs) <= batch for b in batches)


def test_validation_can_be_shortened_to_whole_rows(corpus: Corpus) -> None:
    batches = list(validation_batches(corpus, seq_len=T, device_batch_size=4, max_tokens=5 * T - 3))
    assert [tuple(b.inputs.shape) for b in batches] == [(4, T), (1, T)]


@given(count=st.integers(0, 1000), world_size=st.integers(1, 16))
def test_shares_are_even_and_whole(count: int, world_size: int) -> None:
    ranges = [share_of(count, rank, world_size) for rank in range(world_size)]
    assert [place for a, b in ranges for place in range(a, b)] == list(range(count))
    sizes = [b - a for a, b in ranges]
    assert max(sizes) - min(sizes) <= 1
