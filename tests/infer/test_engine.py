"""The laws of generation: a cache, a batch and a refill change nothing."""

from __future__ import annotations

import pytest
import torch

from aquachat.errors import ConfigError
from aquachat.infer.types import Completion, SamplingParams
from aquachat.model.gpt import GPT
from aquachat.text.render import StopReason
from tests.infer.models import TOKENIZER, chat_model, full_logits, make_engine, make_prompts

ARCHITECTURES = [
    pytest.param("nanochat", 4, id="nanochat-mha"),
    pytest.param("nanochat", 2, id="nanochat-gqa"),
    pytest.param("smear", 4, id="smear-mha"),
    pytest.param("smear", 1, id="smear-mqa"),
]
GREEDY = SamplingParams(max_new_tokens=12, temperature=0.0, tools=False)


def reference_greedy(model: GPT, prompt: list[int], params: SamplingParams) -> list[int]:
    """Plain decoding: the whole sequence is computed again for each token."""
    tokens = list(prompt)
    specials = set(TOKENIZER.special_tokens.values())
    ends = {TOKENIZER.special_id("<|assistant_end|>")} | {
        TOKENIZER.special_tokens[name]
        for name in ("<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>")
    }
    assert ends < specials
    limit = min(params.max_new_tokens, model.config.max_seq_len - len(prompt))
    while len(tokens) - len(prompt) < limit:
        tokens.append(int(full_logits(model, tokens)[-1].argmax()))
        if tokens[-1] in ends:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize(("arch", "kv_heads"), ARCHITECTURES)
def test_greedy_tokens_equal_a_full_recompute(arch: str, kv_heads: int) -> None:
    model = chat_model(arch, num_kv_heads=kv_heads)
    prompts = make_prompts([5, 31, 1, 12, 12, 90, 7, 20])
    engine = make_engine(model, max_rows=3)
    completions = engine.generate(prompts, GREEDY)
    for prompt, (completion,) in zip(prompts, completions, strict=True):
        assert list(completion.tokens) == reference_greedy(model, prompt, GREEDY)
        assert set(completion.logprobs) == {0.0}
        assert all(completion.sampled)


def reference_logprobs(
    model: GPT, prompt: list[int], completion: Completion, params: SamplingParams
) -> list[float]:
    """One position at a time, with sorted lists instead of masks."""
    logits = full_logits(model, [*prompt, *completion.tokens])[len(prompt) - 1 : -1]
    found = []
    for row, token in zip(logits, completion.tokens, strict=True):
        ranked = sorted(enumerate((row / params.temperature).tolist()), key=lambda x: -x[1])
        ranked = ranked[: params.top_k or None]
        probs = torch.tensor([value for _, value in ranked]).softmax(0)
        kept = 1 + int((probs.cumsum(0)[:-1] < params.top_p).sum()) if params.top_p < 1 else None
        ids, values = zip(*ranked[:kept], strict=True)
        assert token in ids
        found.append(float(torch.tensor(values).log_softmax(0)[ids.index(token)]))
    return found


@pytest.mark.parametrize(("arch", "kv_heads"), ARCHITECTURES)
@pytest.mark.parametrize(
    "choices",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.3, "top_p": 0.6},
        {"temperature": 1.6, "top_k": 20, "top_p": 0.7},
    ],
    ids=lambda choices: "-".join(choices),
)
def test_logprobs_are_those_of_a_full_forward(
    arch: str, kv_heads: int, choices: dict[str, float]
) -> None:
    model = chat_model(arch, num_kv_heads=kv_heads)
    prompts = make_prompts([9, 33, 17])
    params = SamplingParams(max_new_tokens=20, num_samples=3, tools=False, **choices)  # type: ignore[arg-type]
    replies = make_engine(model, max_rows=7).generate(prompts, params)
    for prompt, samples in zip(prompts, replies, strict=True):
        assert len({sample.tokens for sample in samples}) == 3
        for sample in samples:
            expected = reference_logprobs(model, prompt, sample, params)
            assert sample.logprobs == pytest.approx(expected, abs=2e-4)


def test_a_prompt_gets_the_same_tokens_in_any_batch() -> None:
    model = chat_model("smear", num_kv_heads=2)
    prompts = make_prompts([14, 3, 40, 25, 8, 9, 10])
    params = SamplingParams(max_new_tokens=24, num_samples=4, seed=7)
    together = make_engine(model, max_rows=9).generate(prompts, params)
    alone = [make_engine(model).generate([prompt], params)[0] for prompt in prompts]
    reverse = make_engine(model, max_rows=64).generate(prompts[::-1], params)[::-1]
    tokens = [[[c.tokens for c in group] for group in run] for run in (together, alone, reverse)]
    assert tokens[0] == tokens[1] == tokens[2]


def test_samples_and_seeds_differ_and_repeat() -> None:
    engine = make_engine(chat_model())
    (prompt,) = make_prompts([11])

    def draw(seed: int) -> list[tuple[int, ...]]:
        params = SamplingParams(max_new_tokens=16, num_samples=5, seed=seed)
        return [completion.tokens for completion in engine.generate([prompt], params)[0]]

    assert draw(1) == draw(1)
    assert len({*draw(1), *draw(2)}) == 10


def test_a_group_larger_than_the_cache_is_complete() -> None:
    model = chat_model()
    (prompt,) = make_prompts([6])
    params = SamplingParams(max_new_tokens=5, num_samples=11)
    few = make_engine(model, max_rows=4).generate([prompt], params)
    many = make_engine(model, max_rows=64).generate([prompt], params)
    assert [c.tokens for c in few[0]] == [c.tokens for c in many[0]]


def test_little_memory_means_fewer_rows_and_the_same_replies() -> None:
    model = chat_model()
    prompts = make_prompts([10, 12, 14, 16])
    scarce = make_engine(model, max_cache_bytes=60 * 2 * 2 * 32 * 4)
    scheduler = scarce.scheduler(
        max_prompt_tokens=16, max_new_tokens=12, max_rows=16, max_groups=16
    )
    assert scheduler.max_rows == 2
    plenty = make_engine(model)
    assert scarce.generate(prompts, GREEDY) == plenty.generate(prompts, GREEDY)


def test_a_stream_gives_the_tokens_of_generate() -> None:
    engine = make_engine(chat_model())
    (prompt,) = make_prompts([10])
    params = SamplingParams(max_new_tokens=15, seed=3)
    events = list(engine.stream(prompt, params))
    streamed = [token for event in events for token in event.tokens]
    completion = events[-1].completion
    assert completion is not None
    assert tuple(streamed) == completion.tokens
    assert completion == engine.generate([prompt], params)[0][0]


def test_a_reply_ends_where_the_context_does() -> None:
    model = chat_model(max_seq_len=20)
    prompts = make_prompts([19, 10, 18])
    params = SamplingParams(max_new_tokens=50, temperature=0.0, stop_ids=())
    replies = make_engine(model).generate(prompts, params)
    assert [len(samples[0].tokens) for samples in replies] == [1, 10, 2]
    assert {samples[0].finish for samples in replies} == {StopReason.LENGTH}


@pytest.mark.parametrize(("length", "message"), [(0, "empty prompt"), (96, "96 tokens leaves no")])
def test_prompts_that_cannot_be_continued_are_refused(length: int, message: str) -> None:
    engine = make_engine(chat_model())
    with pytest.raises(ConfigError, match=message) as caught:
        engine.generate([*make_prompts([5]), *make_prompts([length])], GREEDY)
    assert caught.value.hint


def test_no_prompts_give_no_replies() -> None:
    assert make_engine(chat_model()).generate([], GREEDY) == []


def test_refresh_takes_over_trained_weights() -> None:
    model, trained = chat_model(seed=0), chat_model(seed=9)
    engine = make_engine(model)
    prompts = make_prompts([8, 9])
    model.load_state_dict(trained.state_dict())
    stale = engine.generate(prompts, GREEDY)
    engine.refresh()
    fresh = engine.generate(prompts, GREEDY)
    assert fresh != stale
    assert fresh == make_engine(trained).generate(prompts, GREEDY)


def test_next_logits_are_those_of_a_full_forward() -> None:
    model = chat_model("smear", num_kv_heads=2)
    prompts = make_prompts([40, 3, 96, 17, 5, 60])
    candidates = [65, 3, 200]
    found = make_engine(model).next_logits(prompts, candidates)
    expected = torch.stack([full_logits(model, prompt)[-1, candidates] for prompt in prompts])
    assert torch.allclose(found, expected, atol=1e-4)


def test_bfloat16_logprobs_are_near_those_of_training() -> None:
    model = chat_model()
    prompts = make_prompts([30, 50])
    params = SamplingParams(max_new_tokens=16, tools=False, stop_ids=())
    replies = make_engine(model, dtype=torch.bfloat16).generate(prompts, params)
    for prompt, (reply,) in zip(prompts, replies, strict=True):
        tokens = torch.tensor([[*prompt, *reply.tokens]])
        with torch.no_grad():
            logits = model.logits(model(tokens, compute_dtype=torch.bfloat16)[0])
        targets = torch.tensor(reply.tokens)
        logprobs = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, targets[:, None])
        assert reply.logprobs == pytest.approx(logprobs[:, 0].tolist(), abs=0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"num_samples": 0},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SamplingParams(**wrong)  # type: ignore[arg-type]
