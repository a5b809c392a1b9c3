"""The same text in other tokens: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.loader import validation_batches
from aquachat.data.retokenized import retokenized_batches
from aquachat.errors import DataError
from aquachat.model.batch import IGNORE, Batch
from aquachat.text.tokenizer import Tokenizer
from tests.data.byte_tokenizer import byte_tokenizer

BYTES = byte_tokenizer()
WORDS = Tokenizer(tokens=(*BYTES.tokens, b"the", b" the", b"\xc3\xa9", b"ing"))
DOCUMENTS = [f"the {n} things, é and the other \N{EURO SIGN}" * (1 + n % 3) for n in range(12)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("corpus")
    held_out = {"a": DOCUMENTS}
    write_corpus(directory, {"a": ["for training"]}, BYTES, validation_sources=held_out)
    return Corpus.open(directory, "validation")


def retokenized(corpus: Corpus, tokenizer: Tokenizer = WORDS, **changes: int) -> list[Batch]:
    settings = {"source_seq_len": 16, "seq_len": 16, "device_batch_size": 3, **changes}
    return list(retokenized_batches(corpus, BYTES, tokenizer, **settings))  # type: ignore[arg-type]


def tokens_of(batches: Sequence[Batch]) -> list[int]:
    """The first input and all targets: the tokens in order."""
    found = [int(batches[0].inputs[0, 0])]
    for batch in batches:
        assert batch.num_targets == int((batch.targets != IGNORE).sum())
        found += batch.targets[batch.targets != IGNORE].tolist()
    return found


def test_the_text_is_the_same_in_other_tokens(corpus: Corpus) -> None:
    own = list(validation_batches(corpus, seq_len=16, device_batch_size=3))
    other = retokenized(corpus)
    assert WORDS.decode(tokens_of(other)) == BYTES.decode(tokens_of(own))
    assert len(tokens_of(other)) < len(tokens_of(own))
    lengths = WORDS.token_bytes()[tokens_of(other)[1:]]
    assert lengths.sum() == sum(len(text.encode()) for text in DOCUMENTS)


def test_inputs_are_the_tokens_before_the_targets(corpus: Corpus) -> None:
    tokens = tokens_of(retokenized(corpus))
    inputs = torch.cat([batch.inputs.flatten() for batch in retokenized(corpus)]).tolist()
    assert inputs[: len(tokens) - 1] == tokens[:-1]


def test_with_its_own_tokenizer_nothing_changes(corpus: Corpus) -> None:
    own = list(validation_batches(corpus, seq_len=16, device_batch_size=3))
    same = retokenized(corpus, BYTES)
    assert [(b.inputs.tolist(), b.targets.tolist()) for b in same] == [
        (b.inputs.tolist(), b.targets.tolist()) for b in own
    ]


@pytest.mark.parametrize("limit", [1, 40, 41, 42, 43, 200])
def test_a_part_of_the_text_is_that_part(corpus: Corpus, limit: int) -> None:
    own = list(validation_batches(corpus, seq_len=16, device_batch_size=3, max_tokens=limit))
    other = retokenized(corpus, max_tokens=limit)
    ignored = BYTES.decode_bytes(tokens_of(own)[1:]).decode(errors="ignore")
    assert WORDS.decode(tokens_of(other)[1:]) == ignored


def test_processes_share_the_rows(corpus: Corpus) -> None:
    whole = tokens_of(retokenized(corpus))[1:]
    shares = [tokens_of(retokenized(corpus, rank=rank, world_size=3))[1:] for rank in range(3)]
    assert [token for share in shares for token in share] == whole


def test_another_writer_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="was written with tokenizer"):
        list(
            retokenized_batches(
                corpus, WORDS, BYTES, source_seq_len=16, seq_len=16, device_batch_size=1
            )
        )
