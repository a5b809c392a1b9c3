from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aquachat.eval.lm import bits_per_byte
from aquachat.model.batch import IGNORE, Batch, Segments
from aquachat.world import World
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
