"""`aquachat serve` as a process: its first line, its replies, its end, and who may reach it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aquachat.cli.serving import check_access
from aquachat.errors import ConfigError
from tests.cli.programs import KEPT_VARIABLES, Cli

TOKEN = "a-token-for-the-tests"


@contextmanager
def serving(cli: Cli, *arguments: str, **variables: str) -> Iterator[Any]:
    """A process that serves, and the document it printed first."""
    environ = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environ |= {
        "AQUACHAT_HOME": str(cli.home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "aquachat", "serve", "--port", "0", "--json", *arguments]
    process = subprocess.Popen(
        command,
        env=environ | variables,
        cwd=cli.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def test_a_served_reply_is_that_of_chat(trained: Cli) -> None:
    arguments = ("--run", "whole")
    question = "Tom has 3 apples and buys 4. How many has he?"
    chatted = json.loads(
        trained("chat", question, "--json", "--max-new-tokens", "20", *arguments, code=0).stdout
    )
    with serving(trained, *arguments) as (process, document):
        assert document["url"] == f"http://127.0.0.1:{document['port']}"
        assert document["model"].startswith("whole/rl@")
        body = {
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 20,
        }
        url = f"{document['url']}/v1/chat/completions"
        reply = httpx.post(url, json=body, timeout=60).json()
        assert reply["choices"][0]["message"]["content"] == chatted["text"]
        assert reply["usage"]["completion_tokens"] == len(chatted["tokens"])
        assert reply["choices"][0]["finish_reason"] in (chatted["finish"], "stop")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0
        assert stdout == ""  # nothing but the first line
        assert stderr.splitlines()[-1] == "next: `aquachat chat --run whole`"


def test_ctrl_c_lets_an_open_reply_finish(trained: Cli) -> None:
    with serving(trained, "--run", "whole") as (process, document):
        body = {
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "n": 16,
            "max_tokens": 700,
            "temperature": 2,
        }
        url = f"{document['url']}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as held:
            lines = held.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert process.wait(60) == 0


def test_a_token_comes_from_the_environment_and_is_never_shown(trained: Cli) -> None:
    with serving(trained, AQUACHAT_SERVE_TOKEN=TOKEN) as (process, document):
        assert document["needs_token"] is True
        url = f"{document['url']}/v1/models"
        assert httpx.get(url).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(url, headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        assert TOKEN not in stdout + stderr + json.dumps(document)


def test_other_machines_get_in_with_a_token_or_when_told_so(cli: Cli) -> None:
    assert check_access("0.0.0.0", TOKEN, False) == TOKEN
    assert check_access("0.0.0.0", "", True) is None
    assert check_access("127.0.0.1", "", False) is None
    assert check_access("::1", "", False) is None
    for host in ("0.0.0.0", "::", "192.168.1.5", "a.machine.example"):
        with pytest.raises(ConfigError, match="other machines"):
            check_access(host, "", False)
    with pytest.raises(ConfigError, match="at least 16"):
        check_access("127.0.0.1", "short", False)
    outcome = cli("serve", "--host", "0.0.0.0", code=2)
    assert "hint: set AQUACHAT_SERVE_TOKEN" in outcome.stderr
    assert outcome.stdout == ""


def test_a_port_in_use_is_a_sentence(trained: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = trained("serve", "--port", str(port), code=2)
    assert f"cannot listen on 127.0.0.1 port {port}" in outcome.stderr
    assert "hint: choose another with `--port`" in outcome.stderr


def test_without_a_run_there_is_nothing_to_serve(cli: Cli) -> None:
    assert "there is no run" in cli("serve", code=1).stderr


def test_without_the_http_library_one_sentence_says_so(
    trained: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    outcome = trained("serve", code=3)
    assert "`aquachat serve` needs starlette and uvicorn" in outcome.stderr
    assert "hint: run `python -m pip install starlette uvicorn`" in outcome.stderr
