"""Scores of a shared prefix are those of plain rows, whatever the batch."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch

from aquachat.errors import ConfigError
from aquachat.infer import scoring
from aquachat.infer.scoring import (
    Continuation,
    ContinuationScore,
    ContinuationScorer,
    ScoringRequest,
)
from aquachat.model.gpt import GPT
from tests.model.models import make_model

CPU = torch.device("cpu")
ARCHS = pytest.mark.parametrize(
    ("arch", "shape"),
    [("nanochat", {}), ("smear", {}), ("nanochat", {"num_kv_heads": 2})],
    ids=["nanochat", "smear", "shared_heads"],
)


def make_scorer(model: GPT) -> ContinuationScorer:
    return ContinuationScorer(model, device=CPU, dtype=torch.float32)


def make_requests(count: int, seed: int = 0) -> list[ScoringRequest]:
    rng = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(61) for _ in range(rng.randint(low, high)))

    requests = []
    for _ in range(count):
        continuations = []
        for _ in range(rng.randint(1, 5)):
            drawn = tokens(0, 9)
            continuations.append(Continuation(drawn, rng.randint(0, len(drawn))))
        requests.append(ScoringRequest(tokens(1, 50), tuple(continuations)))
    return requests


@torch.no_grad()
def plain_score(
    model: GPT, prefix: Sequence[int], continuation: Continuation
) -> tuple[float, tuple[int, ...]]:
    """By one forward of the whole row and a softmax over all of it."""
    row = [*prefix, *continuation.tokens]
    logprobs = model.logits(model(torch.tensor([row])))[0].double().log_softmax(-1)
    places = range(len(prefix) + continuation.num_given, len(row))
    nats = -sum(float(logprobs[place - 1, row[place]]) for place in places)
    return nats, tuple(int(logprobs[place - 1].argmax()) for place in places)


@ARCHS
def test_scores_are_those_of_whole_rows(arch: str, shape: dict[str, int]) -> None:
    model = make_model(arch, **shape)
    requests = make_requests(40)
    for request, scores in zip(requests, make_scorer(model).score(requests), strict=True):
        assert len(scores) == len(request.continuations)
        for continuation, score in zip(request.continuations, scores, strict=True):
            nats, greedy = plain_score(model, request.prefix, continuation)
            assert score.nats == pytest.approx(nats, abs=2e-4)
            assert score.greedy == greedy
            assert score.is_greedy == (greedy == continuation.tokens[continuation.num_given :])


def test_a_request_scores_the_same_alone_and_in_company(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = make_scorer(make_model())
    requests = make_requests(25, seed=3)
    together = scorer.score(requests)
    alone = [scorer.score([request])[0] for request in requests]
    monkeypatch.setattr(scoring, "CPU_BATCH_TOKENS", 70)
    monkeypatch.setattr(scoring, "CPU_HEAD_ELEMENTS", 200)
    small = scorer.score(requests)
    for scores in zip(together, alone, small, strict=True):
        for first, *others in zip(*scores, strict=True):
            for other in others:
                assert other.nats == pytest.approx(first.nats, abs=2e-4)
                assert other.greedy == first.greedy


def test_the_padding_of_a_batch_is_bounded() -> None:
    scorer = make_scorer(make_model())
    requests = make_requests(200, seed=1)
    batches = list(scorer._batches(requests))
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    for batch in batches:
        lengths = [requests[index].num_row_tokens for index in batch]
        assert max(lengths) * len(lengths) * (1 - scoring.MAX_PADDING) <= sum(lengths)


def test_a_row_may_fill_the_context_and_no_more() -> None:
    scorer = make_scorer(make_model())
    full = ScoringRequest((1,) * 60, (Continuation((2, 3, 4, 5)), Continuation((6,))))
    assert [score.num_tokens for score in scorer.score([full])[0]] == [4, 1]
    with pytest.raises(ConfigError, match="61 and a continuation of 4 tokens do not fit"):
        scorer.score([ScoringRequest((1,) * 61, full.continuations)])
    with pytest.raises(ConfigError, match="an empty prefix"):
        scorer.score([ScoringRequest((), full.continuations)])


def test_nothing_to_score_costs_nothing() -> None:
    scorer = make_scorer(make_model())
    empty = ContinuationScore(nats=0.0, greedy=(), is_greedy=True)
    assert scorer.score([]) == []
    request = ScoringRequest((1, 2), (Continuation(()), Continuation((3, 4), num_given=2)))
    assert scorer.score([request]) == [[empty, empty]]


def test_progress_counts_every_request() -> None:
    seen: list[int] = []
    make_scorer(make_model()).score(make_requests(30, seed=2), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 30


def test_bfloat16_scores_are_near_those_of_float32() -> None:
    model = make_model()
    requests = make_requests(20, seed=4)
    exact = make_scorer(model).score(requests)
    rough = ContinuationScorer(model, device=CPU, dtype=torch.bfloat16).score(requests)
    for ours, theirs in zip(exact, rough, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert math.isclose(a.nats, b.nats, abs_tol=0.05 * (1 + a.num_tokens))
