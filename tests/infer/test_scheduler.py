"""Continuous batching, calculator calls, stopping and cancelling; the model follows a script."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from aquachat.errors import ConfigError
from aquachat.infer.cache import GroupCache
from aquachat.infer.scheduler import Scheduler
from aquachat.infer.types import Completion, Event, Request, RequestId, SamplingParams
from aquachat.infer.vocabulary import ChatVocabulary
from aquachat.model.gpt import GPT
from aquachat.text.conversation import PartKind
from aquachat.text.render import ChatRenderer, StopReason
from tests.infer.models import CPU, TOKENIZER, ScriptedModel

RENDERER = ChatRenderer(TOKENIZER)
PROMPT = tuple(TOKENIZER.encode_ordinary("Q: what?"))
END = RENDERER.assistant_end_id


def make_scheduler(model: ScriptedModel, **sizes: int) -> Scheduler:
    shape = {
        "max_groups": 8,
        "max_rows": 8,
        "max_prompt_tokens": 40,
        "max_new_tokens": 60,
        **sizes,
    }
    cache = GroupCache(model.config, dtype=torch.float32, device=CPU, **cast(Any, shape))
    return Scheduler(
        cast(GPT, model),
        ChatVocabulary.of(TOKENIZER),
        compute_dtype=torch.float32,
        cache=cache,
    )


def drain(scheduler: Scheduler) -> dict[tuple[RequestId, int], Completion]:
    found: dict[tuple[RequestId, int], Completion] = {}
    while scheduler.is_busy:
        for event in scheduler.step():
            if event.completion is not None:
                assert (event.request, event.sample) not in found
                found[event.request, event.sample] = event.completion
    return found


def encode(text: str) -> list[int]:
    """Text with special tokens written out."""
    return list(TOKENIZER.to_tiktoken().encode(text, allowed_special="all"))


def run(script: str, **params: Any) -> Completion:
    """The completion of PROMPT where the model wants to write `script`.

    What is forced takes the place of what is scripted at the same position.
    """
    scheduler = make_scheduler(ScriptedModel([*PROMPT, *encode(script)]))
    request = scheduler.submit(
        Request(PROMPT, SamplingParams(**{"temperature": 0.0, "max_new_tokens": 60, **params}))
    )
    return drain(scheduler)[request, 0]


CALL = "so <|python_start|>60*3<|python_end|>"
RESULT = "<|output_start|>180<|output_end|>"
FILLER = "?" * len(encode(RESULT))


def test_a_calculator_call_is_answered_inside_the_reply() -> None:
    completion = run(f"{CALL}{FILLER} km<|assistant_end|>")
    assert list(completion.tokens) == encode(f"{CALL}{RESULT} km<|assistant_end|>")
    forced = [not sampled for sampled in completion.sampled]
    start = len(encode(CALL))
    assert [i for i, f in enumerate(forced) if f] == list(range(start, start + len(FILLER)))
    assert all(completion.logprobs[i] == 0.0 for i, f in enumerate(forced) if f)
    assert completion.finish is StopReason.STOP
    parts = RENDERER.parse(completion.tokens).parts
    assert [(p.kind, p.text) for p in parts if p.kind is not PartKind.TEXT] == [
        (PartKind.PYTHON, "60*3"),
        (PartKind.PYTHON_OUTPUT, "180"),
    ]


def test_two_calls_in_one_reply_are_both_answered() -> None:
    first = f"{CALL}{FILLER} and <|python_start|>1/8<|python_end|>"
    answer = "<|output_start|>0.125<|output_end|>"
    completion = run(f"{first}{'?' * len(encode(answer))}<|assistant_end|>")
    expected = f"{first.replace(FILLER, RESULT)}{answer}<|assistant_end|>"
    assert list(completion.tokens) == encode(expected)


def test_calls_are_answered_in_each_row_of_a_batch_at_its_own_time() -> None:
    # The script is by position, so a longer prompt comes to its call sooner.
    script = [*[65] * 12, *encode(f"{CALL}{FILLER} km<|assistant_end|>")]
    scheduler = make_scheduler(ScriptedModel(script), max_rows=4)
    requests = {}
    for length in (12, 5, 9, 1, 7):
        for tools in (True, False):
            params = SamplingParams(temperature=0.0, max_new_tokens=60, tools=tools)
            request = scheduler.submit(Request((65,) * length, params))
            requests[request] = (length, tools)
    found = drain(scheduler)
    for request, (length, tools) in requests.items():
        completion = found[request, 0]
        middle = RESULT if tools else FILLER
        lead = [65] * (12 - length)
        assert list(completion.tokens) == lead + encode(f"{CALL}{middle} km<|assistant_end|>")
        forced = len(encode(RESULT)) if tools else 0
        assert completion.sampled.count(False) == forced


@pytest.mark.parametrize("call", ["1/0", "x+1", "9**9**9", ""])
def test_a_call_that_cannot_be_evaluated_forces_nothing(call: str) -> None:
    script = f"<|python_start|>{call}<|python_end|> hm<|assistant_end|>"
    completion = run(script)
    assert list(completion.tokens) == encode(script)
    assert all(completion.sampled)


def test_an_end_of_a_call_without_its_start_forces_nothing() -> None:
    script = "<|python_start|>1+1<|python_end|>"
    filler = "?" * len(encode("<|output_start|>2<|output_end|>"))
    completion = run(f"{script}{filler}1+1<|python_end|>end<|assistant_end|>")
    assert completion.sampled.count(False) == len(filler)


def test_without_tools_nothing_is_forced() -> None:
    script = f"{CALL} km<|assistant_end|>"
    completion = run(script, tools=False)
    assert list(completion.tokens) == encode(script)
    assert all(completion.sampled)


@pytest.mark.parametrize("beyond", range(-1, 7))
def test_forced_tokens_count_towards_the_limit(beyond: int) -> None:
    limit = len(encode(CALL)) + beyond
    completion = run(f"{CALL}{FILLER} km<|assistant_end|>", max_new_tokens=limit)
    expected = encode(f"{CALL}{RESULT} km<|assistant_end|>")
    assert list(completion.tokens) == expected[:limit]
    assert completion.finish is StopReason.LENGTH
    assert len(completion.tokens) == len(completion.logprobs) == len(completion.sampled)


def test_the_stop_token_is_the_last_token_of_the_reply() -> None:
    completion = run("yes<|assistant_end|>never read")
    assert completion.tokens[-1] == END
    assert completion.sampled[-1]
    assert completion.finish is StopReason.STOP


def test_a_stop_token_in_the_last_place_is_a_stop() -> None:
    assert run("yes<|assistant_end|>", max_new_tokens=4).finish is StopReason.STOP


@pytest.mark.parametrize("special", ["<|bos|>", "<|user_start|>", "<|assistant_start|>"])
def test_a_misplaced_special_token_ends_a_malformed_reply(special: str) -> None:
    completion = run(f"yes{special}no<|assistant_end|>")
    assert list(completion.tokens) == encode(f"yes{special}")
    assert completion.finish is StopReason.MALFORMED
    assert RENDERER.parse(completion.tokens).finish is StopReason.MALFORMED


def test_own_stop_tokens_replace_the_default() -> None:
    completion = run("ab<|assistant_end|>cd<|bos|>", stop_ids=(RENDERER.bos_id,))
    assert list(completion.tokens) == encode("ab<|assistant_end|>cd<|bos|>")
    assert completion.finish is StopReason.STOP


def test_finished_rows_do_not_decode_and_waiting_ones_take_their_place() -> None:
    # The script is by position, so a prompt that ends later in it stops sooner.
    model = ScriptedModel([*[ord("a")] * 30, END])
    scheduler = make_scheduler(model, max_rows=2, max_groups=2)
    params = SamplingParams(temperature=0.0, max_new_tokens=60)
    lengths = [30, 10, 29, 28, 20]
    requests = [scheduler.submit(Request((65,) * n, params)) for n in lengths]
    found = drain(scheduler)
    assert [len(found[r, 0].tokens) for r in requests] == [31 - n for n in lengths]
    # The first token of a reply comes from the prompt's forward, the others from decoding.
    decoded_rows = [rows for rows, width in model.shapes if width == 1]
    assert sum(decoded_rows) == sum(30 - n for n in lengths)
    assert max(decoded_rows) == 2


def test_a_prompt_is_run_once_for_all_its_samples() -> None:
    model = ScriptedModel([*PROMPT, ord("a"), END])
    scheduler = make_scheduler(model)
    params = SamplingParams(num_samples=6, temperature=0.0, max_new_tokens=9)
    scheduler.submit(Request(PROMPT, params))
    assert len(drain(scheduler)) == 6
    assert model.shapes == [(1, len(PROMPT)), (6, 1)]


def test_cancelling_ends_active_and_waiting_rows_and_no_others() -> None:
    scheduler = make_scheduler(ScriptedModel([]), max_rows=4)
    params = SamplingParams(temperature=0.0, max_new_tokens=20, num_samples=3)
    kept = scheduler.submit(Request(PROMPT, params))
    waiting = scheduler.submit(Request(PROMPT, params))
    for _ in range(4):
        assert scheduler.step() == []
    scheduler.cancel(waiting)
    late = scheduler.submit(Request(PROMPT[:3], params))
    scheduler.step()
    found = drain(scheduler)
    assert {key for key, c in found.items() if c.finish is StopReason.LENGTH} == {
        (request, sample) for request in (kept, late) for sample in range(3)
    }


def test_a_cancelled_reply_keeps_its_tokens_so_far() -> None:
    scheduler = make_scheduler(ScriptedModel([]))
    params = SamplingParams(temperature=0.0, max_new_tokens=20, num_samples=2)
    request = scheduler.submit(Request(PROMPT, params))
    other = scheduler.submit(Request(PROMPT, params))
    scheduler.step()
    scheduler.cancel(request)
    events: list[Event] = scheduler.step()
    assert [(e.request, e.sample) for e in events] == [(request, 0), (request, 1)]
    for event in events:
        assert event.completion is not None
        assert event.completion.finish is StopReason.CANCELLED
        assert len(event.completion.tokens) == 2
    assert {key[0] for key in drain(scheduler)} == {other}
    scheduler.cancel(request)
    assert not scheduler.is_busy


def test_what_does_not_fit_the_cache_is_refused() -> None:
    scheduler = make_scheduler(ScriptedModel([]), max_prompt_tokens=5)
    with pytest.raises(ConfigError, match="a prompt of 8 and a reply of 4 tokens do not fit"):
        scheduler.submit(Request(PROMPT, SamplingParams(max_new_tokens=4)))
    assert not scheduler.is_busy


def test_one_sample_can_be_cancelled_and_the_others_go_on() -> None:
    scheduler = make_scheduler(ScriptedModel(encode("Q: what?" + "y" * 20 + "<|assistant_end|>")))
    params = SamplingParams(max_new_tokens=40, num_samples=3, temperature=0.0)
    request = scheduler.submit(Request(PROMPT, params))
    events = scheduler.step() + scheduler.step()
    scheduler.cancel(request, sample=1)
    events += scheduler.step()
    cancelled = [event for event in events if event.completion is not None]
    assert [(event.sample, event.completion.finish) for event in cancelled if event.completion] == [
        (1, StopReason.CANCELLED)
    ]
    assert {key[1]: found.finish for key, found in drain(scheduler).items()} == {
        0: StopReason.STOP,
        2: StopReason.STOP,
    }


def test_streamed_tokens_are_scored_under_the_model_itself() -> None:
    scheduler = make_scheduler(ScriptedModel(encode("Q: what?ab<|assistant_end|>")))
    params = SamplingParams(max_new_tokens=40, temperature=0.0)
    scheduler.submit(Request(PROMPT, params, streams=True, num_alternatives=2))
    events: list[Event] = []
    while scheduler.is_busy:
        events += scheduler.step()
    streamed = [event for event in events if event.tokens]
    assert [event.tokens[0] for event in streamed] == encode("ab<|assistant_end|>")
    for event in streamed:
        (score,) = event.scores
        assert score.alternatives[0] == (event.tokens[0], score.logprob)
        assert len(score.alternatives) == 2
        assert score.logprob == pytest.approx(0.0, abs=1e-6)
