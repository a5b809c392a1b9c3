"""`/v1`: chat completions, completions and models, as OpenAI's clients expect them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aquachat.serve.errors import ApiError
from aquachat.serve.formats import ChatFormat, Format, TextFormat, usage_of
from aquachat.serve.model import ServedModel
from aquachat.serve.replies import Delta, ReplyReader, chat_readers, deltas, raw_readers
from aquachat.serve.requests import Job, chat_job, completion_job
from aquachat.serve.service import Service, merged, stopping
from aquachat.serve.wire import (
    DONE,
    CompactJSON,
    EventStream,
    event,
    read_json,
    unless_client_leaves,
)
from aquachat.serve.worker import ModelStoppedError, Ticket


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What differs between the two ways of asking."""

    parse: Callable[[object, ServedModel], Job]
    readers: Callable[[ServedModel, Job], list[ReplyReader]]
    format: Callable[[ServedModel, Job], Format]


CHAT = _Endpoint(
    chat_job,
    chat_readers,
    lambda served, job: ChatFormat(served, scores=job.num_alternatives is not None),
)
TEXT = _Endpoint(
    completion_job,
    raw_readers,
    lambda served, job: TextFormat(served, scores=job.num_alternatives is not None),
)


def routes(service: Service) -> list[Route]:
    """The routes of `/v1`."""

    async def chat_completions(request: Request) -> Response:
        return await _complete(service, CHAT, request)

    async def completions(request: Request) -> Response:
        return await _complete(service, TEXT, request)

    async def models(request: Request) -> Response:
        return CompactJSON({"object": "list", "data": [_model_json(service.served)]})

    async def model(request: Request) -> Response:
        if request.path_params["name"] not in (service.served.name, "default"):
            raise ApiError(404, "there is no such model", code="model_not_found")
        return CompactJSON(_model_json(service.served))

    return [
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
    ]


async def _complete(service: Service, endpoint: _Endpoint, request: Request) -> Response:
    job = endpoint.parse(await read_json(request), service.served)
    ticket = service.submit(job)
    form = endpoint.format(service.served, job)
    readers = endpoint.readers(service.served, job)
    if job.streams:
        events = _streamed(service, job, ticket, readers, form)
        return EventStream(events, lambda: service.worker.cancel(ticket))
    replies = [Delta(reader.reply) for reader in readers]
    try:
        await unless_client_leaves(request, _collect(service, ticket, readers, replies))
    except ModelStoppedError as error:
        raise stopping() from error
    finally:  # nothing where all is finished
        service.worker.cancel(ticket)
    usage = _usage(job, replies)
    return CompactJSON(form.whole(replies, usage))


async def _collect(
    service: Service, ticket: Ticket, readers: list[ReplyReader], replies: list[Delta]
) -> None:
    is_first = True
    news = deltas(service.worker, ticket, readers)
    try:
        async for fresh in news:
            if is_first:
                service.note_first_token(ticket)
            is_first = False
            for delta in fresh:
                merged(replies[delta.reply], delta)
    finally:
        await news.aclose()
    service.note_finished(ticket)


async def _streamed(
    service: Service, job: Job, ticket: Ticket, readers: list[ReplyReader], form: Format
) -> AsyncIterator[bytes]:
    totals = [Delta(reader.reply) for reader in readers]
    news = deltas(service.worker, ticket, readers)
    try:
        opening = [form.first(reader.reply) for reader in readers]
        if opened := b"".join(event(chunk) for chunk in opening if chunk is not None):
            yield opened
        is_first = True
        async for fresh in news:
            if is_first:
                service.note_first_token(ticket)
            is_first = False
            for delta in fresh:
                totals[delta.reply].num_tokens += delta.num_tokens
            told = [delta for delta in fresh if delta.pieces or delta.scores or delta.finish]
            if told:
                yield b"".join(event(form.chunk(delta)) for delta in told)
        service.note_finished(ticket)
        if job.includes_usage:
            yield event(form.usage_chunk(_usage(job, totals)))
        yield DONE
    except ModelStoppedError:
        yield event(stopping().to_json())
    finally:
        await news.aclose()


def _usage(job: Job, replies: list[Delta]) -> dict[str, int]:
    return usage_of(job.num_prompt_tokens, sum(reply.num_tokens for reply in replies))


def _model_json(served: ServedModel) -> dict[str, object]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created_s,
        "owned_by": "aquachat",
        "context_tokens": served.engine.context_tokens,
    }
