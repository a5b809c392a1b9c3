from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.infer.sampling import (
    SamplingTable,
    draw,
    policy_logits,
    sample,
    stream_key,
    stream_uniforms,
)
from aquachat.infer.types import SamplingParams

CPU = torch.device("cpu")


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


@given(st.integers(1, 300), st.integers(0, 50), st.integers(0, 2**24 - 1))
@settings(max_examples=60, deadline=None)
def test_draw_inverts_the_distribution_function(vocab: int, seed: int, step: int) -> None:
    logits = random_logits(1, vocab, seed=seed)
    uniform = step / 2**24
    tokens, logprobs = draw(logits, torch.tensor([uniform]))
    token = int(tokens[0])
    ends = np.cumsum(logits[0].double().softmax(0).numpy())
    before = ends[token - 1] if token else 0.0
    assert before - 1e-6 <= uniform <= ends[token] + 1e-6
    assert float(logprobs[0]) == pytest.approx(
        float(logits[0].double().log_softmax(0)[token]), abs=1e-5
    )


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
@pytest.mark.parametrize("allowed", [0, 63, 64, 130, 199])
def test_a_token_of_no_probability_is_never_drawn(uniform: float, allowed: int) -> None:
    logits = torch.full((1, 200), float("-inf"))
    logits[0, allowed] = 2.0
    tokens, logprobs = draw(logits, torch.tensor([uniform]))
    assert tokens.tolist() == [allowed]
    assert logprobs.tolist() == [0.0]


def test_frequencies_are_those_of_the_policy() -> None:
    logits = random_logits(1, 100)
    count = 40_000
    uniforms = torch.from_numpy(stream_uniforms(stream_key(0, [1, 2]), 0, count))
    tokens, _ = draw(logits.expand(count, -1), uniforms)
    observed = torch.bincount(tokens, minlength=100)
    expected = logits[0].softmax(0) * count
    likely = expected > 20
    chi2 = float(((observed - expected)[likely] ** 2 / expected[likely]).sum())
    degrees = int(likely.sum())
    assert chi2 < degrees + 4 * math.sqrt(2 * degrees)


ROWS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.5, top_k=3),
    SamplingParams(temperature=2.0, top_p=0.4),
    SamplingParams(temperature=0.0, top_k=2),
    SamplingParams(temperature=1.0, top_k=7, top_p=0.5),
    SamplingParams(temperature=1.0, top_k=1),
]


def test_each_row_is_filtered_by_its_own_parameters() -> None:
    logits = random_logits(len(ROWS), 50)
    filtered = policy_logits(logits, SamplingTable.build(ROWS, 50, CPU))
    for row, params, found in zip(logits, ROWS, filtered, strict=True):
        scaled = row / (params.temperature or 1.0)
        ranked = scaled.argsort(descending=True)[: params.top_k or None].tolist()
        if params.top_p < 1.0:
            probs = scaled[ranked].softmax(0)
            ranked = [t for i, t in enumerate(ranked) if float(probs[:i].sum()) < params.top_p]
        expected = torch.full_like(row, float("-inf"))
        expected[ranked] = scaled[ranked]
        assert torch.equal(found, expected)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    logits = random_logits(len(ROWS), 50)
    uniforms = torch.linspace(0.05, 0.95, len(ROWS))
    together = sample(logits, SamplingTable.build(ROWS, 50, CPU), uniforms)
    for index, params in enumerate(ROWS):
        table = SamplingTable.build([params], 50, CPU)
        token, logprob = sample(logits[index : index + 1], table, uniforms[index : index + 1])
        assert int(token) == int(together[0][index])
        assert float(logprob) == pytest.approx(float(together[1][index]), abs=1e-6)
    assert int(together[0][3]) == int(logits[3].argmax())
    assert float(together[1][3]) == 0.0


def test_tokens_tied_at_the_edge_of_top_k_stay() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    table = SamplingTable.build([SamplingParams(top_k=2)], 5, CPU)
    assert torch.isfinite(policy_logits(logits, table)).tolist() == [
        [False, True, True, True, False]
    ]


def test_streams_are_prefixes_of_longer_ones_and_differ_by_everything_else() -> None:
    key = stream_key(3, [5, 6, 7])
    assert stream_uniforms(key, 2, 100)[:10].tolist() == stream_uniforms(key, 2, 10).tolist()
    keys = [key, stream_key(4, [5, 6, 7]), stream_key(3, [5, 6]), stream_key(-3, [5, 6, 7])]
    streams = {tuple(stream_uniforms(k, s, 8).tolist()) for k in keys for s in range(3)}
    assert len(streams) == 12
    values = stream_uniforms(key, 0, 10_000)
    assert values.min() >= 0.0
    assert values.max() < 1.0
    assert abs(float(values.mean()) - 0.5) < 0.02


@given(
    st.floats(0.0, 2.0, allow_subnormal=True),
    st.floats(0.0, 1.0, exclude_min=True, allow_subnormal=True),
    st.integers(0, 50),
)
@settings(deadline=None)
def test_no_temperature_and_no_top_p_is_too_small(temperature: float, top_p: float, k: int) -> None:
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=k)
    other = SamplingParams(temperature=1.0)
    logits = random_logits(2, 40) * 10
    table = SamplingTable.build([params, other], 40, CPU)
    tokens, logprobs = sample(logits, table, torch.tensor([0.999999, 0.5]))
    assert 0 <= int(tokens[0]) < 40
    assert bool(torch.isfinite(logprobs).all())
    if temperature < 1e-4 or top_p < 1e-4:
        assert int(tokens[0]) == int(logits[0].argmax())
