"""Whatever the shape, the batch and the cache, generation is the plain computation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.infer import scheduler as scheduling
from aquachat.infer.cache import CPU_BLOCK_GROUPS, GroupCache
from aquachat.infer.sampling import first_largest
from aquachat.infer.types import Request, SamplingParams
from aquachat.model.gpt import GPT
from tests.infer.models import CPU, chat_model, full_logits, make_engine, make_prompts
from tests.infer.test_engine import reference_greedy, reference_logprobs

SHAPES = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "hidden_size": st.sampled_from([16, 32]),
        "num_heads": st.sampled_from([2, 4]),
        "num_kv_heads": st.sampled_from([1, 2]),
    }
)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


@given(
    SHAPES, st.sampled_from(["nanochat", "smear"]), LENGTHS, st.integers(1, 6), st.integers(0, 99)
)
@settings(max_examples=10, deadline=None)
def test_greedy_tokens_equal_a_plain_decode_for_any_shape(
    shape: dict[str, int], arch: str, lengths: list[int], max_rows: int, seed: int
) -> None:
    model = chat_model(arch, seed=seed, **shape)
    prompts = make_prompts(lengths, seed)
    params = SamplingParams(max_new_tokens=9, temperature=0.0, tools=False)
    replies = make_engine(model, max_rows=max_rows).generate(prompts, params)
    for prompt, (reply,) in zip(prompts, replies, strict=True):
        assert list(reply.tokens) == reference_greedy(model, prompt, params)


@given(
    LENGTHS, st.integers(1, 4), st.integers(1, 9), st.integers(0, 99), st.sampled_from([0, 1, 7])
)
@settings(max_examples=6, deadline=None)
def test_a_sample_is_the_same_in_any_batch(
    lengths: list[int], num_samples: int, max_rows: int, seed: int, top_k: int
) -> None:
    model = chat_model(num_kv_heads=2)
    prompts = make_prompts(lengths, seed)
    params = SamplingParams(max_new_tokens=10, num_samples=num_samples, seed=seed, top_k=top_k)
    together = make_engine(model, max_rows=max_rows).generate(prompts, params)
    for prompt, group in zip(prompts, together, strict=True):
        (alone,) = make_engine(model).generate([prompt], params)
        assert [reply.tokens for reply in group] == [reply.tokens for reply in alone]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 1, 2)], ids=["one-row-each", "groups"])
def test_many_prompts_are_attended_to_in_blocks(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chat_model(num_kv_heads=2)
    prompts = make_prompts([60, 9, 33, 5, 41, 2, 17][: 2 * len(sizes)])
    params = SamplingParams(max_new_tokens=12, temperature=0.7, num_samples=max(sizes))
    whole = make_engine(model).generate(prompts, params)
    assert len(prompts) < CPU_BLOCK_GROUPS
    monkeypatch.setattr("aquachat.infer.cache.CPU_BLOCK_GROUPS", 2)
    blocks = make_engine(model).generate(prompts, params)
    for prompt, a, b in zip(prompts, whole, blocks, strict=True):
        assert [reply.tokens for reply in a] == [reply.tokens for reply in b]
        expected = reference_logprobs(model, prompt, b[0], params)
        assert b[0].logprobs == pytest.approx(expected, abs=2e-4)


def test_prompts_are_run_in_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chat_model()
    monkeypatch.setattr(scheduling, "CPU_PREFILL_NUMBERS", 40 * model.config.mlp_size)
    assert scheduling.prefill_tokens(model.config, CPU) == 40
    assert scheduling.prefill_tokens(model.config, torch.device("cuda")) == 16_384
    prompts = make_prompts([30, 19, 19, 60, 3])
    params = SamplingParams(max_new_tokens=6, temperature=0.0, tools=False)
    engine = make_engine(model)
    for prompt, (reply,) in zip(prompts, engine.generate(prompts, params), strict=True):
        assert list(reply.tokens) == reference_greedy(model, prompt, params)
    found = engine.next_logits(prompts, [1, 2, 3])
    expected = torch.stack([full_logits(model, prompt)[-1, 1:4] for prompt in prompts])
    assert torch.allclose(found, expected, atol=1e-4)


def storage(cache: GroupCache) -> list[int]:
    return [store.data_ptr() for part in (cache.prompts, cache.replies) for store in part.pair()]


def test_the_cache_is_never_made_again() -> None:
    scheduler = make_engine(chat_model(), max_rows=3).scheduler(
        max_prompt_tokens=40, max_new_tokens=20, max_rows=3, max_groups=3
    )
    cache = scheduler._cache
    before = storage(cache)
    for prompt in make_prompts([40, 3, 17, 9, 25, 30, 12]):
        scheduler.submit(Request(tuple(prompt), SamplingParams(max_new_tokens=20, seed=3)))
    num_finished = 0
    while scheduler.is_busy:
        num_finished += sum(event.completion is not None for event in scheduler.step())
        assert scheduler.num_active_rows <= 3
        assert storage(cache) == before
    assert num_finished == 7


@given(st.integers(1, 300), st.integers(1, 4), st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_largest_logit_is_the_first_of_equals(
    vocab: int, rows: int, seed: int, with_ties: bool
) -> None:
    logits = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))
    if with_ties:
        logits = logits.round()
    expected = [min(i for i, x in enumerate(row) if x == max(row)) for row in logits.tolist()]
    assert first_largest(logits).tolist() == expected


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_the_last_hidden_state_is_that_of_a_whole_forward(arch: str, kv_heads: int) -> None:
    model: GPT = chat_model(arch, num_kv_heads=kv_heads)
    tokens = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(0))
    places = torch.tensor([19, 0, 7])
    for twin in (model, model.compute_copy(torch.float32)):
        with torch.no_grad():
            whole = twin(tokens)
            last = twin(tokens, places=places)
        assert torch.allclose(last, whole[torch.arange(3), places], atol=1e-5)
        columns = twin.logits(last, torch.tensor([5, 9]))
        assert torch.allclose(columns, twin.logits(last)[:, [5, 9]], atol=1e-6)


def test_a_compute_copy_follows_its_model() -> None:
    model, trained = chat_model(num_kv_heads=2), chat_model(num_kv_heads=2, seed=5)
    twin = model.compute_copy(torch.float32)
    tokens = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for own, new in zip(twin.parameters(), trained.parameters(), strict=True):
            own.copy_(new)
        assert torch.allclose(twin(tokens), trained(tokens), atol=1e-5)
