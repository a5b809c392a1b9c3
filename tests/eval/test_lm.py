from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.eval.lm import TextLoss, bits_per_byte
from aquachat.model.batch import IGNORE, Batch, Segments
from aquachat.text.tokenizer import Tokenizer
from aquachat.world import World
from tests.data.byte_tokenizer import byte_tokenizer
from tests.model.models import make_model, make_tokens

WORLD = World(rank=0, size=1, device=torch.device("cpu"), dtype=torch.float32)
LENGTHS = np.array([1 + index % 5 for index in range(58)] + [0, 0, 0], dtype=np.int32)


def make_batch(rows: int, length: int, seed: int, *, segmented: bool = False) -> Batch:
    tokens = make_tokens(rows, length + 1, seed=seed)
    targets = tokens[:, 1:].clone()
    targets[:, ::4] = IGNORE
    documents = (torch.arange(length) >= length // 2).long().expand(rows, -1)
    return Batch(
        inputs=tokens[:, :-1],
        targets=targets,
        num_targets=int((targets != IGNORE).sum()),
        segments=Segments(documents) if segmented else None,
    )


@torch.no_grad()
def test_bits_per_byte_is_the_sum_over_tokens_by_the_plain_formula() -> None:
    model = make_model()
    batches = [make_batch(3, 20, 1), make_batch(2, 33, 2, segmented=True)]
    nats = text_nats = 0.0
    num_bytes = count = 0
    for batch in batches:
        hidden = model(batch.inputs, segments=batch.segments)
        logprobs = model.logits(hidden).double().log_softmax(-1)
        for row, targets in zip(logprobs, batch.targets.tolist(), strict=True):
            for line, target in zip(row, targets, strict=True):
                if target != IGNORE:
                    nats -= float(line[target])
                    count += 1
                    num_bytes += int(LENGTHS[target])
                    text_nats -= float(line[target]) * bool(LENGTHS[target])
    found = bits_per_byte(model, batches, LENGTHS, WORLD)
    assert found.bits_per_byte == pytest.approx(text_nats / math.log(2) / num_bytes, rel=1e-5)
    assert found.nats_per_token == pytest.approx(nats / count, rel=1e-5)
    assert (found.num_bytes, found.num_tokens) == (num_bytes, count)
    assert text_nats < nats


def test_a_uniform_model_needs_log2_of_the_vocabulary_per_token() -> None:
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    batch = make_batch(2, 30, 3)
    ones = np.ones(61, dtype=np.int32)
    found = bits_per_byte(model, [batch], ones, WORLD)
    assert found.bits_per_byte == pytest.approx(math.log2(61), rel=1e-6)
    assert found.nats_per_token == pytest.approx(math.log(61), rel=1e-6)


def test_no_text_has_no_bits_per_byte() -> None:
    found = bits_per_byte(make_model(), [], LENGTHS, WORLD)
    assert math.isnan(found.bits_per_byte)
    assert math.isnan(found.nats_per_token)


HALF_CHARACTERS = (
    b"\xe2\x80",
    b"\x80\x99",
    b"\xc3",
    b"\xa9 ",
    b"\xf0\x9f",
    b"\x98\x80",
    b"\xff\xfe",
)
"""Tokens that are no text of their own."""


BYTES = byte_tokenizer()
QUOTE = "\N{RIGHT SINGLE QUOTATION MARK}"


@cache
def merged_tokenizer() -> Tokenizer:
    """Bytes, words, and pieces of characters."""
    whole = (b"th", b"the", b" the", b"\n\n", b"  ", b"ing", "é".encode(), QUOTE.encode())
    singles = tuple(bytes([byte]) for byte in range(256))
    halves = tuple(token for token in HALF_CHARACTERS if len(token) > 1)
    return Tokenizer(tokens=(*singles, *halves, *whole))


TEXTS = st.text(max_size=60) | st.text(alphabet=f"the ing{QUOTE}é😀\n", max_size=60)


@settings(deadline=None)
@given(TEXTS)
def test_the_bytes_of_a_text_are_those_of_its_tokens(text: str) -> None:
    for tokenizer in (merged_tokenizer(), BYTES):
        lengths = tokenizer.token_bytes()
        ids = tokenizer.encode_ordinary(text)
        assert int(lengths[ids].sum()) == len(tokenizer.decode_bytes(ids))
        assert tokenizer.decode(ids).encode() == tokenizer.decode_bytes(ids)


def test_half_characters_count_their_own_bytes_and_special_tokens_none() -> None:
    tokenizer = merged_tokenizer()
    lengths = tokenizer.token_bytes()
    for rank, token in enumerate(tokenizer.tokens):
        assert lengths[rank] == len(token)
        assert len(tokenizer.decode_single_token_bytes(rank)) == len(token)
    assert all(lengths[token_id] == 0 for token_id in tokenizer.special_tokens.values())
    ids = [tokenizer.mergeable_ranks()[b"\xe2\x80"], tokenizer.mergeable_ranks()[b"\x99"]]
    assert tokenizer.decode(ids) == QUOTE
    assert lengths[ids].tolist() == [2, 1]
    shown = [len(tokenizer.decode([token_id]).encode()) for token_id in ids]
    assert shown == [3, 3], "what counting the bytes of decoded tokens would give"


def token_batches(ids: Sequence[int], width: int, rows: int) -> list[Batch]:
    """Rows of `width` tokens, the last one padded, `rows` in a batch."""
    count = -(-(len(ids) - 1) // width)
    inputs = torch.zeros(count * width, dtype=torch.int64)
    targets = torch.full_like(inputs, IGNORE)
    inputs[: len(ids) - 1] = torch.tensor(ids[:-1])
    targets[: len(ids) - 1] = torch.tensor(ids[1:])
    return [
        Batch(x, y, int((y != IGNORE).sum()))
        for x, y in zip(
            inputs.view(count, width).split(rows),
            targets.view(count, width).split(rows),
            strict=True,
        )
    ]


def document(tokenizer: Tokenizer, text: str) -> list[int]:
    return [tokenizer.special_id("<|bos|>"), *tokenizer.encode_ordinary(text)]


@settings(max_examples=25, deadline=None)
@given(TEXTS.filter(bool))
def test_a_uniform_model_needs_log2_of_the_vocabulary_for_each_token_of_a_text(text: str) -> None:
    tokenizer = merged_tokenizer()
    model = make_model(vocab_size=tokenizer.n_vocab)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    ids = document(tokenizer, text)
    found = bits_per_byte(model, token_batches(ids, 16, 4), tokenizer.token_bytes(), WORLD)
    num_bytes = len(tokenizer.decode_bytes(ids[1:]))
    assert found.num_bytes == num_bytes
    expected = math.log2(tokenizer.n_vocab) * (len(ids) - 1) / num_bytes
    assert found.bits_per_byte == pytest.approx(expected, rel=1e-6)


def test_the_split_into_batches_changes_nothing() -> None:
    tokenizer, model = merged_tokenizer(), make_model(vocab_size=merged_tokenizer().n_vocab)
    ids = document(tokenizer, f"the thing{QUOTE}s é, and the other\n\nthing " * 9)
    whole = bits_per_byte(model, token_batches(ids, 16, 100), tokenizer.token_bytes(), WORLD)
    for rows in (1, 2, 5):
        parts = bits_per_byte(model, token_batches(ids, 16, rows), tokenizer.token_bytes(), WORLD)
        assert (parts.num_bytes, parts.num_tokens) == (whole.num_bytes, whole.num_tokens)
        assert parts.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-6)


class _ByTheByte:
    """Gives every token 1 / 512 for each of its bytes, and what is left to `<|bos|>`.

    The same model of text whatever the vocabulary: 9 bits a byte.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        cap = 15.0
        probability = 512.0 ** -torch.tensor([len(t) for t in tokenizer.tokens]).double()
        rest = torch.full((len(tokenizer.special_names),), 1e-9, dtype=torch.float64)
        rest[0] = 1 - probability.sum() - rest[1:].sum()
        logits = torch.cat((probability, rest)).log() + 14.0
        self.config = SimpleNamespace(logit_softcap=cap)
        self.lm_head = SimpleNamespace(weight=(cap * torch.atanh(logits / cap)).float()[:, None])

    def __call__(self, inputs: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.ones(*inputs.shape, 1)


def measured(tokenizer: Tokenizer, text: str) -> TextLoss:
    model = cast(Any, _ByTheByte(tokenizer))
    ids = document(tokenizer, text)
    return bits_per_byte(model, token_batches(ids, 16, 8), tokenizer.token_bytes(), WORLD)


@settings(max_examples=25, deadline=None)
@given(TEXTS.filter(bool))
def test_an_equal_model_of_text_has_equal_bits_whatever_its_vocabulary(text: str) -> None:
    merged, single = measured(merged_tokenizer(), text), measured(BYTES, text)
    assert merged.num_bytes == single.num_bytes
    assert merged.num_tokens <= single.num_tokens
    assert single.bits_per_byte == pytest.approx(9.0, rel=1e-5)
    assert merged.bits_per_byte == pytest.approx(9.0, rel=1e-5)


def test_what_begins_a_document_is_no_text() -> None:
    tokenizer = BYTES
    bos = tokenizer.special_id("<|bos|>")
    ids = [bos, *b"ab", bos, *b"cd"]
    found = bits_per_byte(
        cast(Any, _ByTheByte(tokenizer)), token_batches(ids, 8, 1), tokenizer.token_bytes(), WORLD
    )
    assert (found.num_tokens, found.num_bytes) == (5, 4)
    assert found.bits_per_byte == pytest.approx(9.0, rel=1e-5)
