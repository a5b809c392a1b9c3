"""A real server on loopback in a thread of this process, over a model that is made, not trained."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import torch

from aquachat.infer.engine import Engine
from aquachat.model.gpt import GPT
from aquachat.pipeline.problems import Problems
from aquachat.serve.model import ServedModel
from aquachat.serve.server import open_socket, serve, url_of
from aquachat.serve.service import Service
from aquachat.serve.worker import ModelWorker
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer
from tests.infer.models import TOKENIZER, ScriptedModel, chat_model, make_engine
from tests.model.models import make_model
from tests.text.test_render import TOKENIZER as LETTER_TOKENIZER

RENDERER = ChatRenderer(TOKENIZER)
TIMEOUT_S = 60.0


class CopyableScript(ScriptedModel):
    """A `ScriptedModel` that an `Engine` takes for a `GPT`; `pause_s` goes before each token."""

    pause_s = 0.0

    def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
        time.sleep(self.pause_s)
        return super().__call__(*arguments, **options)

    def compute_copy(self, dtype: torch.dtype) -> CopyableScript:
        return self


@dataclass(frozen=True, slots=True)
class Running:
    """A server and a client of it."""

    service: Service
    url: str
    http: httpx.Client

    def chat(self, content: str = "hello", **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.http.post("/v1/chat/completions", json=body)


def made_engine(max_seq_len: int = 512, seed: int = 0) -> Engine:
    return make_engine(chat_model(max_seq_len=max_seq_len, seed=seed))


def scripted_engine(prompt: str, reply: str) -> Engine:
    """Writes `reply`, special tokens written out, after the user said `prompt`."""
    ids = prompt_ids(prompt)
    special = list(TOKENIZER.to_tiktoken().encode(reply, allowed_special="all"))
    return make_engine(cast(GPT, CopyableScript([*ids, *special], max_seq_len=400)))


def endless_engine(max_seq_len: int = 4096, *, pause_s: float = 0.0) -> Engine:
    """Never ends a reply by itself."""
    model = CopyableScript([], max_seq_len=max_seq_len)
    model.pause_s = pause_s
    return make_engine(cast(GPT, model))


def letter_engine(max_seq_len: int = 700) -> Engine:
    """With a vocabulary that has a token for each letter."""
    model = make_model("nanochat", vocab_size=LETTER_TOKENIZER.n_vocab, max_seq_len=max_seq_len)
    cpu = torch.device("cpu")
    return Engine(model, LETTER_TOKENIZER, device=cpu, dtype=torch.float32)


def prompt_ids(content: str) -> list[int]:
    from aquachat.text.conversation import Conversation, Role, text_message

    return RENDERER.prompt(Conversation((text_message(Role.USER, content),)))


@contextmanager
def running(
    engine: Engine,
    folder: Path,
    *,
    token: str | None = None,
    max_rows: int = 8,
    max_waiting: int = 64,
    grace_s: float = 5.0,
    tokenizer: Tokenizer = TOKENIZER,
) -> Iterator[Running]:
    renderer = ChatRenderer(tokenizer)
    served = ServedModel("made", "sft@1", engine, renderer, tokenizer, 1_700_000_000)
    worker = ModelWorker(engine, max_rows=max_rows, max_waiting=max_waiting, max_tokens=4096)
    problems = Problems(folder / "data", folder / "data" / "aqua")
    service = Service(served, worker, problems, folder / "runs")
    listener = open_socket("127.0.0.1", 0)
    is_ready = threading.Event()
    failures: list[BaseException] = []
    stop: list[Any] = []

    def work() -> None:
        try:
            serve(
                service,
                listener,
                host="127.0.0.1",
                token=token,
                grace_s=grace_s,
                on_ready=is_ready.set,
                on_server=stop.append,
            )
        except BaseException as error:
            failures.append(error)
        finally:
            is_ready.set()

    thread = threading.Thread(target=work)
    url = url_of(listener)
    thread.start()
    assert is_ready.wait(TIMEOUT_S)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers) as client:
            yield Running(service, url, client)
    finally:
        if stop:
            stop[0].stop()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        listener.close()
    if failures:
        raise failures[0]


def raw_request(url: str, request: bytes) -> socket.socket:
    """A connection on which `request` was sent."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
    connection.sendall(request)
    return connection
