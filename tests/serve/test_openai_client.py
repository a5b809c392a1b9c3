"""The real client of OpenAI against a real server."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from aquachat.infer.types import SamplingParams
from tests.infer.models import TOKENIZER
from tests.serve.servers import (
    RENDERER,
    Running,
    made_engine,
    prompt_ids,
    running,
    scripted_engine,
)

HELLO = [{"role": "user", "content": "hello"}]


def client_of(server: Running, token: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=60)


def greedy_text(content: str, max_tokens: int) -> str:
    params = SamplingParams(max_new_tokens=max_tokens, temperature=0.0)
    ((completion,),) = made_engine().generate([prompt_ids(content)], params)
    return RENDERER.parse(completion.tokens).text


def test_the_reply_is_the_engines(server: Running) -> None:
    reply = client_of(server).chat.completions.create(
        model="made/sft@1", messages=HELLO, temperature=0, max_tokens=12
    )
    (choice,) = reply.choices
    assert choice.message.content == greedy_text("hello", 12)
    assert choice.finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(prompt_ids("hello"))
    assert 1 <= reply.usage.completion_tokens <= 12


def test_a_streamed_reply_is_the_whole_one(server: Running) -> None:
    client = client_of(server)
    settings = {"model": "default", "messages": HELLO, "seed": 5, "n": 3, "max_tokens": 20}
    whole = client.chat.completions.create(**settings)
    texts, finishes, usage = ["", "", ""], ["", "", ""], None
    for chunk in client.chat.completions.create(
        **settings, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes[choice.index] = choice.finish_reason or finishes[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert finishes == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage
    assert len(set(texts)) > 1


def test_one_seed_gives_one_reply_whatever_else_is_asked(server: Running) -> None:
    import concurrent.futures

    client = client_of(server)

    def ask(seed: int) -> str | None:
        reply = client.chat.completions.create(
            model="default", messages=HELLO, seed=seed, max_tokens=24, temperature=0.9
        )
        return reply.choices[0].message.content

    alone = [ask(seed) for seed in range(6)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, [*range(6), *range(10, 16)]))
    assert together[:6] == alone
    assert len(set(alone)) > 1


def test_top_p_zero_is_greedy(server: Running) -> None:
    reply = client_of(server).chat.completions.create(
        model="default", messages=HELLO, top_p=0, max_tokens=12, seed=3
    )
    assert reply.choices[0].message.content == greedy_text("hello", 12)


def test_logprobs_name_the_token_among_the_likeliest(server: Running) -> None:
    reply = client_of(server).chat.completions.create(
        model="default", messages=HELLO, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
    )
    scores = reply.choices[0].logprobs
    assert scores is not None
    assert scores.content
    for scored in scores.content:
        assert len(scored.top_logprobs) == 3
        assert scored.top_logprobs[0].bytes == scored.bytes
        assert scored.logprob == pytest.approx(scored.top_logprobs[0].logprob)
        assert scored.logprob < 0
    said = b"".join(bytes(scored.bytes or []) for scored in scores.content)
    assert said.decode(errors="replace") == reply.choices[0].message.content


def test_a_stop_string_ends_the_reply_and_frees_its_place(server: Running) -> None:
    client = client_of(server)
    settings = {"model": "default", "messages": HELLO, "temperature": 0, "max_tokens": 40}
    whole = client.chat.completions.create(**settings).choices[0].message.content or ""
    stop = whole[3:6]
    reply = client.chat.completions.create(**settings, stop=[stop, "never said"])
    assert reply.choices[0].message.content == whole[: whole.index(stop)]
    assert reply.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(**settings, stop=stop, stream=True)
    text = "".join(c.delta.content or "" for chunk in streamed for c in chunk.choices)
    assert text == whole[: whole.index(stop)]


def test_raw_text_is_continued(server: Running) -> None:
    client = client_of(server)
    reply = client.completions.create(
        model="default", prompt=["ab", "cd"], n=2, max_tokens=5, logprobs=2, temperature=0
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in reply.choices]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    ids = [RENDERER.bos_id, *TOKENIZER.encode_ordinary("ab")]
    by_ids = client.completions.create(model="default", prompt=ids, max_tokens=5, temperature=0)
    assert by_ids.choices[0].text == texts[0]
    scores = reply.choices[0].logprobs
    assert scores is not None
    assert scores.tokens is not None
    assert len(scores.tokens) == len(scores.token_logprobs or []) == len(scores.text_offset or [])


def test_the_model_is_listed(server: Running) -> None:
    client = client_of(server)
    assert [model.id for model in client.models.list()] == ["made/sft@1"]
    assert client.models.retrieve("made/sft@1").owned_by == "aquachat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.NotFoundError, match="made/sft@1"):
        client.chat.completions.create(model="gpt-4", messages=HELLO)


def test_calculator_calls_are_parts_beside_the_text(tmp_path: Path) -> None:
    script = (
        "It is <|python_start|>6*7<|python_end|>"  # the result is forced in place of what follows
        + "." * 4
        + "42 B.<|assistant_end|>"
    )
    with running(scripted_engine("hello", script), tmp_path) as server:
        client = client_of(server)
        settings = {"model": "default", "messages": HELLO, "temperature": 0}
        message = client.chat.completions.create(**settings).choices[0].message
        assert message.content == "It is 42 B."
        assert message.tool_calls is None
        parts = message.model_extra["aquachat"]["parts"]
        assert parts == [
            {"type": "text", "text": "It is "},
            {"type": "python", "text": "6*7"},
            {"type": "python_output", "text": "42"},
            {"type": "text", "text": "42 B."},
        ]
        # Given back as it came, the message is rendered with its calls.
        back = [*HELLO, message.model_dump(exclude_none=True), {"role": "user", "content": "?"}]
        again = client.chat.completions.create(model="default", messages=back, max_tokens=1)
        plain = [*HELLO, {"role": "assistant", "content": "It is 42 B."}, back[-1]]
        other = client.chat.completions.create(model="default", messages=plain, max_tokens=1)
        assert again.usage is not None
        assert other.usage is not None
        assert again.usage.prompt_tokens == other.usage.prompt_tokens + 9
        # A stop string that stands on both sides of a call is found.
        stopped = client.chat.completions.create(**settings, stop=" 42")
        assert stopped.choices[0].message.content == "It is"
        without = client.chat.completions.create(**settings, extra_body={"calculator": False})
        assert "42" in (without.choices[0].message.content or "")


def test_a_token_is_asked_for_and_compared(tmp_path: Path) -> None:
    with running(made_engine(), tmp_path, token="a-long-secret-token") as server:
        with pytest.raises(openai.AuthenticationError):
            client_of(server, "a-long-secret-tokem").models.list()
        assert list(client_of(server, "a-long-secret-token").models.list())
        assert server.http.get("/health", headers={"authorization": ""}).status_code == 200
        for path in ("/metrics", "/api/runs", "/v1/models"):
            assert server.http.get(path, headers={"authorization": ""}).status_code == 401
            assert server.http.get(path).status_code == 200
