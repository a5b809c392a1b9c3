"""What is refused, with which status and sentence: limits, bodies, hosts, and a full queue."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from aquachat.serve.limits import LIMITS
from tests.serve.servers import Running, endless_engine, raw_request, running

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def refused(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"temperature": 2.01}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_k": 201}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 4097}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"seed": "x"}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"temprature": 0.5}, "temprature"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [user("x"), user("y")]}, "messages"),
        ({"messages": [user("x"), assistant("y")]}, "messages"),
        ({"messages": [assistant("x")]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user(None)]}, "messages[0].content"),
        ({"messages": [user([{"type": "image_url", "image_url": {}}])]}, None),
        ({"messages": [user("x" * (LIMITS.message_chars + 1))]}, "messages"),
        ({"messages": [user("x"), assistant("y")] * 251}, "messages"),
        ({"messages": [user("x" * 7000), assistant("y" * 7000)] * 3 + [user("z")]}, "messages"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    server: Running, fields: dict[str, Any], parameter: str | None
) -> None:
    reply = server.http.post("/v1/chat/completions", json={**HELLO, **fields})
    error = refused(reply, 400)
    assert error["param"] == parameter
    assert len(error["message"]) < 300
    assert server.chat(max_tokens=1).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2, "top_k": 200, "max_tokens": 4096, "stop": "zzzz"},
        {"temperature": None, "stop": None, "tools": [], "seed": -3},
        {"max_tokens": 2.0, "response_format": {"type": "text"}, "user": "me"},
        {"messages": [{"role": "developer", "content": "be brief"}, user("x")]},
        {"messages": [user([{"type": "text", "text": "x"}])]},
        {"messages": [user("é" * 60)]},
        {"messages": [user("\ud800")]},
        {"messages": [user("<|assistant_end|>")]},
        {"model": "made"},
    ],
)
def test_what_is_at_the_limit_is_allowed(server: Running, fields: dict[str, Any]) -> None:
    reply = server.http.post(
        "/v1/chat/completions",
        content=json.dumps({"max_tokens": 3, **HELLO, **fields}),
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 200, reply.text


def test_a_prompt_that_fills_the_context_is_refused(server: Running) -> None:
    error = refused(server.chat("x" * 600), 400)
    assert error["code"] == "context_length_exceeded"
    assert "512" in error["message"]


def test_prompts_of_raw_text_are_checked(server: Running) -> None:
    for prompt in (None, 5, [], [[]], [5, "x"], [-1], [10**6], [True], ["x"] * 17, "x" * 8001):
        refused(server.http.post("/v1/completions", json={"prompt": prompt}), 400)
    for fields in ({"echo": True}, {"suffix": "x"}, {"best_of": 2}, {"logprobs": 6}):
        refused(server.http.post("/v1/completions", json={"prompt": "x", **fields}), 400)


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"messages": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"messages": []}', "text/plain", 415),
        (b" " * (LIMITS.body_bytes + 1), "application/json", 413),
    ],
)
def test_bodies_that_are_no_json_objects_are_refused(
    server: Running, content: bytes, content_type: str, status: int
) -> None:
    headers = {"content-type": content_type}
    refused(server.http.post("/v1/chat/completions", content=content, headers=headers), status)


def test_unknown_paths_and_methods_are_refused_in_the_same_form(server: Running) -> None:
    assert refused(server.http.get("/v2/chat"), 404)["code"] == "not_found"
    reply = server.http.get("/v1/chat/completions")
    refused(reply, 405)
    assert reply.headers["allow"] == "POST"
    refused(server.http.get("/page/..%2Fserver.py"), 404)
    refused(server.http.get("/page/app.py"), 404)


def test_another_name_is_not_answered(server: Running) -> None:
    """A foreign page that was made to point here (DNS rebinding) comes with its own name."""
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        refused(server.http.get("/health", headers={"host": host}), 421)
    for host in ("localhost", "localhost:1", "[::1]:80", "127.0.0.1"):
        assert server.http.get("/health", headers={"host": host}).status_code == 200


def test_every_answer_forbids_what_a_page_must_not_do(server: Running) -> None:
    for path in ("/", "/health", "/nothing", "/page/style.css"):
        headers = server.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    engine = endless_engine(pause_s=0.005)
    with running(engine, tmp_path, max_rows=2, max_waiting=2) as server:
        reply = server.chat(n=5)
        refused(reply, 429)
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert server.chat(n=4, max_tokens=2).status_code == 200
        with server.http.stream(
            "POST",
            "/v1/chat/completions",
            json={**HELLO, "stream": True, "n": 3, "max_tokens": 4000},
        ) as held:
            assert next(held.iter_lines())
            refused(server.chat(n=4), 429)
        metrics = server.http.get("/metrics").text
        assert "aquachat_refused_total 2\n" in metrics
        assert 'requests_total{path="/v1/chat/completions",status="429"} 2\n' in metrics


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    with running(endless_engine(4096), tmp_path, max_rows=4) as server:
        counts = server.service.worker.counts
        for stream in (True, False):
            body = json.dumps({**HELLO, "max_tokens": 4000, "stream": stream, "n": 2}).encode()
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
                f"{len(body)}\r\ncontent-type: application/json\r\n\r\n"
            )
            connection = raw_request(server.url, head.encode() + body)
            wait_until(lambda: counts.active_rows == 2)
            before = counts.cancelled_samples
            connection.close()
            wait_until(lambda: counts.open_samples == 0)
            assert counts.cancelled_samples == before + 2
        assert server.chat(max_tokens=3).status_code == 200


def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    with running(endless_engine(512), tmp_path, max_rows=4) as server:
        body = json.dumps(
            {**HELLO, "max_tokens": 400, "stream": True, "n": 2, "logprobs": True}
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
            f"{len(body)}\r\ncontent-type: application/json\r\n\r\n"
        )
        connection = raw_request(server.url, head.encode() + body)
        wait_until(lambda: server.service.worker.counts.completion_tokens > 10)
        assert server.chat(max_tokens=3).status_code == 200
        # The model finishes although nothing was read.
        wait_until(lambda: server.service.worker.counts.open_samples == 0)
        assert server.service.worker.counts.cancelled_samples == 0
        connection.close()


def test_open_replies_may_finish_when_the_server_stops(tmp_path: Path) -> None:
    with running(endless_engine(512), tmp_path, grace_s=30.0) as server:
        whole = server.chat(max_tokens=100, seed=1).json()["choices"][0]["message"]["content"]
        body = {**HELLO, "stream": True, "max_tokens": 100, "seed": 1}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as held:
            lines = held.iter_lines()
            first = next(lines)
            server.service.is_stopping = True
            refused(httpx.post(f"{server.url}/v1/chat/completions", json=HELLO), 503)
            assert httpx.get(f"{server.url}/health").status_code == 503
            rest = [line for line in [first, *lines] if line.startswith("data: ")]
        assert rest[-1] == "data: [DONE]"
        deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in rest[:-1]]
        assert "".join(delta.get("content", "") for delta in deltas) == whole


def test_a_reply_that_is_late_when_the_server_stops_ends_with_an_error(tmp_path: Path) -> None:
    with running(endless_engine(4096), tmp_path, grace_s=0.0) as server:
        body = {**HELLO, "stream": True, "max_tokens": 4000}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as held:
            lines = held.iter_lines()
            next(lines)
            server.service.worker.stop()
            rest = [line for line in lines if line.startswith("data: ")]
        assert json.loads(rest[-1][6:])["error"]["code"] == "stopping"
