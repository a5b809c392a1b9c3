"""`/api/problems` and `/api/attempts`: a question drawn, answered and graded before your eyes.

An attempt is a stream of server-sent events:

    event: letters   {"position": 12, "probabilities": {"A": 0.1, ...}}
    event: pieces    {"parts": [{"type": "text", "text": "..."}, ...]}
    event: grade     {"answer": "B", "gold": "B", "correct": true, "reward": 1.1, ...}

`letters` are what the model would say if it had to answer after `position` tokens of its reply:
the probabilities of the letters after `Answer:`, which share the mass of all letters. They are
computed between two steps of the model, one at a time, so a slow model skips some positions.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aquachat.errors import AquachatError, ConfigError
from aquachat.infer.types import Request as ModelRequest
from aquachat.serve.errors import ApiError
from aquachat.serve.fields import Fields
from aquachat.serve.model import ServedModel
from aquachat.serve.replies import Delta, chat_readers, deltas
from aquachat.serve.requests import Job, sampling_params
from aquachat.serve.service import Service, merged, stopping
from aquachat.serve.wire import CompactJSON, EventStream, event, read_json
from aquachat.serve.worker import ModelStoppedError, ModelWorker, Ticket
from aquachat.tasks.base import Example
from aquachat.tasks.multiple_choice import grade_choice
from aquachat.text.answer import ANSWER_PRIME, parse_answer
from aquachat.text.reply_stream import ReplyStream, parts_of


def routes(service: Service) -> list[Route]:
    """The routes of the AQuA panel."""

    async def draw(source: str, number: int | None) -> tuple[int, Example]:
        try:
            return await run_in_threadpool(service.problems.draw, source, number)
        except AquachatError as error:
            raise ApiError(404, error.message, code="not_found") from error

    async def sources(request: Request) -> Response:
        return CompactJSON({"sources": await run_in_threadpool(service.problems.sources)})

    async def problem(request: Request) -> Response:
        fields = Fields(dict(request.query_params), "the query")
        source, number = fields.text("source"), _whole(fields.get("number"))
        fields.refuse_others()
        return CompactJSON(_problem_json(source, *await draw(source, number)))

    async def attempt(request: Request) -> Response:
        fields = Fields(await read_json(request))
        source = fields.text("source")
        number = fields.integer("number", 0, 0, 2**31)
        params = sampling_params(fields, "max_tokens", tools=fields.flag("calculator", True))
        fields.refuse_others()
        if params.num_samples != 1:
            raise ApiError(400, "an attempt is one reply", parameter="n")
        _, example = await draw(source, number)
        prompt = service.served.renderer.prompt(example.conversation.without_last())
        service.served.check_length(prompt)
        requests = (ModelRequest(tuple(prompt), params, streams=True),)
        job = Job(requests, True, False, (), None)
        ticket = service.submit(job)
        events = _attempted(service, example, job, ticket)
        return EventStream(events, lambda: service.worker.cancel(ticket))

    return [
        Route("/api/problems/sources", sources, methods=["GET"]),
        Route("/api/problems", problem, methods=["GET"]),
        Route("/api/attempts", attempt, methods=["POST"]),
    ]


@dataclass(slots=True)
class LetterProbe:
    """Asks, while a reply is written, which letter the model would answer now."""

    served: ServedModel
    prompt: tuple[int, ...]
    letters: tuple[str, ...]
    _tokens: list[int] = field(default_factory=list)
    _text: str = ""
    _awaits_result: bool = False
    """Whether a calculator call has just ended: its result comes next."""
    _candidates: tuple[int, ...] = ()
    _stream: ReplyStream = field(init=False)

    def __post_init__(self) -> None:
        self._stream = ReplyStream(self.served.renderer, self.served.tokenizer)
        try:
            self._candidates = self.served.renderer.letter_ids(self.letters)
        except ConfigError:  # a vocabulary without the letters can still answer
            self._candidates = ()

    def push(self, tokens: Sequence[int]) -> None:
        """Take new tokens of the reply."""
        for token in tokens:
            self._tokens.append(token)
            pieces = self._stream.push(token)
            self._awaits_result = any(p.kind == "python" and p.ends for p in pieces)
            self._text += "".join(piece.text for piece in pieces if piece.kind == "text")

    @property
    def position(self) -> int:
        """Tokens so far."""
        return len(self._tokens)

    def question(self) -> tuple[int, ...] | None:
        """The ids after which a letter is to come; None where that cannot be asked now.

        Not inside a calculator call, not within the answer line itself, not after it.
        """
        line = self._text.rpartition("\n")[2]
        if self._stream.in_call or self._awaits_result:
            return None
        if not self._candidates or parse_answer(self._text, self.letters):
            return None
        if line == ANSWER_PRIME:
            prime = ""
        elif line.startswith(ANSWER_PRIME) or (line and ANSWER_PRIME.startswith(line)):
            return None
        else:
            prime = f"\n{ANSWER_PRIME}" if line else ANSWER_PRIME
        ids = self.served.tokenizer.encode_ordinary(prime)
        asked = (*self.prompt, *self._tokens, *ids)
        return asked if len(asked) <= self.served.engine.context_tokens else None

    async def ask(self, worker: ModelWorker) -> dict[str, Any] | None:
        """The `letters` event of this moment, None where it cannot be asked."""
        position, question = self.position, self.question()
        if question is None:
            return None
        logits = await worker.score(question, self._candidates)
        top = max(logits)
        weights = [math.exp(logit - top) for logit in logits]
        shares = [weight / sum(weights) for weight in weights]
        probabilities = dict(zip(self.letters, shares, strict=True))
        return {"position": position, "probabilities": probabilities}


async def _attempted(
    service: Service, example: Example, job: Job, ticket: Ticket
) -> AsyncIterator[bytes]:
    probe = LetterProbe(service.served, job.requests[0].prompt, example.choices)
    whole = Delta(0)
    news = deltas(service.worker, ticket, chat_readers(service.served, job), probe.push)
    coming = asyncio.ensure_future(anext(news, None))
    asking: asyncio.Task[dict[str, Any] | None] | None
    asking, asked = asyncio.create_task(probe.ask(service.worker)), 0
    try:
        while True:
            waited: set[asyncio.Future[Any]] = {coming} if asking is None else {coming, asking}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if asking is not None and asking.done():
                if (found := asking.result()) is not None:
                    yield event(found, "letters")
                asking = None
            if coming.done():
                fresh = coming.result()
                if fresh is None:
                    break
                for delta in fresh:
                    merged(whole, delta)
                    if delta.pieces:
                        yield event(_pieces_json(delta), "pieces")
                coming = asyncio.ensure_future(anext(news, None))
            if asking is None and probe.position > asked:
                asking, asked = asyncio.create_task(probe.ask(service.worker)), probe.position
        if asking is not None and (found := await asking) is not None:
            yield event(found, "letters")
        service.note_finished(ticket)
        yield event(_grade_json(example, whole), "grade")
    except ModelStoppedError:
        yield event(stopping().to_json(), "error")
    finally:
        for task in (coming, asking):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})
        await news.aclose()


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ApiError(400, "`number` must be a whole number", parameter="number")
    return int(text)


def _problem_json(source: str, number: int, example: Example) -> dict[str, Any]:
    assert example.item is not None
    return {
        "source": source,
        "number": number,
        "id": example.id,
        "question": example.item.question,
        "options": [
            {"letter": letter, "text": text}
            for letter, text in zip(example.item.letters, example.item.options, strict=True)
        ],
        "prompt": example.conversation.messages[0].text,
    }


def _pieces_json(delta: Delta) -> dict[str, Any]:
    return {
        "parts": [
            {
                "type": str(piece.kind),
                "text": piece.text,
                "starts": piece.starts,
                "ends": piece.ends,
            }
            for piece in delta.pieces
        ]
    }


def _grade_json(example: Example, whole: Delta) -> dict[str, Any]:
    assert example.item is not None
    grade = grade_choice(example, whole.text)
    gold = [{"type": str(p.kind), "text": p.text} for p in example.conversation.messages[-1].parts]
    return {
        "answer": grade.answer,
        "gold": example.answer,
        "correct": grade.correct,
        "reward": grade.reward,
        "finish": whole.finish,
        "num_tokens": whole.num_tokens,
        "text": whole.text,
        "parts": [{"type": str(p.kind), "text": p.text} for p in parts_of(whole.pieces)],
        "gold_parts": gold,
    }
