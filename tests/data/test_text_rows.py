"""Rows of both packings and of mixtures: the laws that hold for every one of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.loader import TextSource, validation_batches
from aquachat.data.text_rows import BosRows, Packing, StreamRows, TextRows, make_rows
from aquachat.errors import ConfigError
from aquachat.model.batch import IGNORE, Batch
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
BOS = TOKENIZER.special_id("<|bos|>")
T = 16
PACKINGS: tuple[Packing, ...] = ("stream", "bos")
MIXTURES: tuple[dict[str, float] | None, ...] = (None, {"long": 0.7, "short": 0.3})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("corpus")
    sources = {
        "long": [f"{i:02d}" + chr(65 + i % 50) * (1 + i * 37 % 61) for i in range(40)],
        "none": [" "],
        "short": [f"s{i:02d}" for i in range(30)],
    }
    write_corpus(directory, sources, TOKENIZER, shard_tokens=97)
    return Corpus.open(directory)


def bos_rows(corpus: Corpus, plan_documents: int = 13, seq_len: int = T, seed: int = 1) -> BosRows:
    documents = range(corpus.num_documents)
    return BosRows(corpus, seq_len, (seed, "text"), documents, plan_documents=plan_documents)


def read(rows: TextRows, first: int, count: int, seq_len: int = T) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.zeros((count, seq_len), dtype=np.int64)
    targets = np.zeros_like(inputs)
    rows.fill(first, inputs, targets)
    return inputs, targets


def rows_of_epoch(rows: BosRows, epoch: int) -> range:
    """The numbers of the rows of an epoch."""
    rows._place_of(0)
    while len(rows._rows_before) <= (epoch + 1) * rows._blocks_per_epoch:
        rows._place_of(rows._rows_before[-1])
    ends = rows._rows_before
    return range(ends[epoch * rows._blocks_per_epoch], ends[(epoch + 1) * rows._blocks_per_epoch])


def texts_of(inputs: np.ndarray, targets: np.ndarray) -> list[list[int]]:
    """The pieces of packed rows: what stands between `<|bos|>` and padding, with its end."""
    pieces = []
    for row, learned in zip(inputs.tolist(), targets.tolist(), strict=True):
        places = [i for i, token in enumerate(row) if token == BOS]
        for start, end in zip(places, [*places[1:], len(row)], strict=True):
            piece = row[start:end]
            ends = learned[end - 1] == BOS
            pieces.append([*piece, BOS] if ends else piece)
    return [piece for piece in pieces if piece != [BOS]]


@settings(deadline=None, max_examples=30)
@given(seq_len=st.integers(2, 70), plan_documents=st.integers(1, 80), seed=st.integers(0, 9))
def test_a_packed_epoch_holds_every_token_as_input_and_every_successor_as_target(
    corpus: Corpus, seq_len: int, plan_documents: int, seed: int
) -> None:
    rows = bos_rows(corpus, plan_documents, seq_len, seed)
    documents = [corpus.document(i).tolist() for i in range(corpus.num_documents)]
    successors = Counter(token for ids in documents for token in [*ids[1:], BOS])
    texts = Counter(token for ids in documents for token in ids[1:])
    for epoch in range(2):
        numbers = rows_of_epoch(rows, epoch)
        inputs, targets = read(rows, numbers.start, len(numbers), seq_len)
        assert (inputs[:, 0] == BOS).all()
        assert Counter(targets[targets != IGNORE].tolist()) == successors
        assert Counter(inputs[inputs != BOS].tolist()) == texts
        inside = (targets[:, :-1] != IGNORE) & (inputs[:, 1:] != BOS)
        assert np.array_equal(targets[:, :-1][inside], inputs[:, 1:][inside])


def test_documents_that_fit_a_row_are_whole_and_their_ends_are_learned(corpus: Corpus) -> None:
    rows = bos_rows(corpus, 1000, 80)
    numbers = rows_of_epoch(rows, 0)
    pieces = texts_of(*read(rows, numbers.start, len(numbers), 80))
    documents = [[*corpus.document(i).tolist(), BOS] for i in range(corpus.num_documents)]
    whole = [piece for piece in pieces if piece in documents]
    assert len(whole) >= 0.9 * len(documents)
    rest = {tuple(piece) for piece in pieces} - {tuple(piece) for piece in whole}
    missing = [document for document in documents if document not in whole]
    assert sorted(t for p in rest for t in p if t != BOS) == sorted(
        t for d in missing for t in d if t != BOS
    )


def test_epochs_and_seeds_have_other_rows(corpus: Corpus) -> None:
    rows = bos_rows(corpus)
    epochs = [read(rows, (n := rows_of_epoch(rows, e)).start, len(n))[0].tolist() for e in (0, 1)]
    assert epochs[0] != epochs[1]
    assert read(bos_rows(corpus, seed=2), 0, 5)[0].tolist() != epochs[0][:5]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_row_is_a_function_of_seed_and_number(
    corpus: Corpus, packing: Packing, mixture: dict[str, float] | None
) -> None:
    walked = make_rows(corpus, seq_len=T, packing=packing, seed=3, mixture=mixture)
    inputs, targets = read(walked, 0, 300)
    fresh = make_rows(corpus, seq_len=T, packing=packing, seed=3, mixture=mixture)
    for first, count in ((290, 10), (0, 1), (133, 60), (7, 1)):
        some_inputs, some_targets = read(fresh, first, count)
        assert np.array_equal(some_inputs, inputs[first : first + count])
        assert np.array_equal(some_targets, targets[first : first + count])


def source(
    corpus: Corpus,
    packing: Packing,
    mixture: dict[str, float] | None = None,
    *,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 2,
    document_mask: bool = False,
) -> TextSource:
    return TextSource(
        corpus,
        tokens_per_step=11 * T,
        seq_len=T,
        device_batch_size=2,
        seed=5,
        rank=rank,
        world_size=world_size,
        packing=packing,
        mixture=mixture,
        prefetch=prefetch,
        document_mask=document_mask,
    )


def flat(batches: list[Batch]) -> list[tuple[list[int], list[int]]]:
    return [
        (inputs, targets)
        for batch in batches
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
    ]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_resume_on_other_processes_trains_on_the_same_rows(
    corpus: Corpus, packing: Packing, mixture: dict[str, float] | None
) -> None:
    alone = source(corpus, packing, mixture)
    wanted = [flat(list(alone.step_batches(step))) for step in range(12)]
    got = []
    for world_size, steps in ((1, range(3)), (2, range(3, 6)), (3, range(6, 9)), (8, range(9, 12))):
        ranks = [
            source(corpus, packing, mixture, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for step in steps:
            got.append([row for rank in ranks for row in flat(list(rank.step_batches(step)))])
        for rank in ranks:
            rank.close()
    alone.close()
    assert got == wanted


@pytest.mark.parametrize("packing", PACKINGS)
def test_prefetching_changes_no_batch(corpus: Corpus, packing: Packing) -> None:
    plain, ahead = source(corpus, packing, prefetch=0), source(corpus, packing, prefetch=3)
    for step in (0, 1, 2, 9, 10, 4):
        assert flat(list(plain.step_batches(step))) == flat(list(ahead.step_batches(step)))
    assert ahead.step_metrics()["train/data_wait_s"] >= 0.0
    ahead.close()


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("mixture", [*MIXTURES, {"short": 1.0}])
def test_accounting_is_what_a_count_of_the_tokens_gives(
    corpus: Corpus, packing: Packing, mixture: dict[str, float] | None
) -> None:
    text = source(corpus, packing, mixture)
    in_long = {token for i in range(40) for token in corpus.document(i)[3:].tolist()}
    counted = Counter[str]()
    for step in range(40):
        use = text.accounting(step)
        assert set(use) == {"long", "short"}
        assert sum(u.tokens for u in use.values()) == counted["all"]
        assert use["short"].tokens >= counted["s"]
        assert use["long"].tokens >= counted["long"]
        for batch in text.step_batches(step):
            inputs = batch.inputs
            padding = 0
            if packing == "bos":
                # A `<|bos|>` without a target is padding, or begins a piece that goes on.
                padding = int(((inputs == BOS) & (batch.targets == IGNORE)).sum())
            counted["all"] += inputs.numel() - padding
            counted["s"] += int((inputs == ord("s")).sum())
            counted["long"] += sum(token in in_long for token in inputs.flatten().tolist())
    if mixture == {"short": 1.0}:
        assert text.accounting(40)["long"].tokens == 0
    text.close()


def test_a_mixture_takes_rows_in_the_ratio_of_its_weights(corpus: Corpus) -> None:
    rows = make_rows(corpus, seq_len=T, packing="stream", seed=0, mixture=MIXTURES[1])
    for num_rows in (10, 130, 1000):
        by_source = rows.tokens_by_source(num_rows).tolist()
        assert by_source == [num_rows * T * 7 // 10, 0, num_rows * T * 3 // 10]


def test_a_part_of_a_mixture_is_shuffled_alone(corpus: Corpus) -> None:
    mixed = make_rows(corpus, seq_len=T, packing="bos", seed=0, mixture={"long": 1, "short": 1})
    only = make_rows(corpus, seq_len=T, packing="bos", seed=0, mixture={"short": 2})
    both = read(mixed, 0, 20)[0]
    assert np.array_equal(both[1::2], read(only, 0, 10)[0])


def test_a_document_mask_numbers_the_documents_of_a_row(corpus: Corpus) -> None:
    for packing in PACKINGS:
        masked, plain = (source(corpus, packing, document_mask=m) for m in (True, False))
        for batch, other in zip(masked.step_batches(3), plain.step_batches(3), strict=True):
            assert flat([batch]) == flat([other])
            assert other.segments is None
            assert batch.segments is not None
            starts = (batch.inputs == BOS)[:, 1:]
            assert (batch.segments.document_ids.diff(dim=1) == starts.long()).all()


def test_validation_is_masked_as_training_is(corpus: Corpus) -> None:
    for masked in (True, False):
        batches = validation_batches(corpus, seq_len=T, device_batch_size=4, document_mask=masked)
        for batch in batches:
            assert (batch.segments is not None) == masked
            if batch.segments is not None:
                starts = (batch.inputs == BOS)[:, 1:]
                assert (batch.segments.document_ids.diff(dim=1) == starts.long()).all()


def test_targets_are_counted(corpus: Corpus) -> None:
    for batch in source(corpus, "bos", prefetch=0).step_batches(1):
        assert batch.num_targets == int((batch.targets != IGNORE).sum()) > 0


def test_an_unknown_source_or_weight_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="has no source `nope`") as caught:
        source(corpus, "stream", {"nope": 1.0})
    assert "long, none, short" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match=r"the source `none` .* has no document"):
        source(corpus, "bos", {"none": 1.0})
    with pytest.raises(ConfigError, match="has weight 0"):
        source(corpus, "stream", {"long": 0.0})
    with pytest.raises(ConfigError, match="at least 2 tokens"):
        make_rows(corpus, seq_len=1, packing="bos", seed=0)


def test_stream_rows_of_all_documents_are_those_of_the_stream(corpus: Corpus) -> None:
    rows = StreamRows(corpus, T, (1, "text"), range(corpus.num_documents))
    inputs, targets = read(rows, 4, 9)
    assert np.array_equal(inputs.flatten()[1:], targets.flatten()[:-1])
