"""Bodies in, streams out, and what happens when a client goes away or does not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from aquachat.serve.errors import ApiError
from aquachat.serve.limits import LIMITS

T = TypeVar("T")
CLIENT_LEFT = 499
"""nginx's status for a client that left before its answer; nobody reads it."""


class CompactJSON(JSONResponse):
    """JSON that is always valid: what is not finite must have been replaced before."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return encode(content)


def encode(content: Any) -> bytes:
    """JSON of plain values; a lone surrogate stays escaped."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def event(content: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    prefix = b"" if name is None else b"event: " + name.encode() + b"\n"
    return prefix + b"data: " + encode(content) + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def read_json(request: Request) -> Any:
    """The body of a request.

    Raises:
        ApiError: it is no JSON, too long, too slow, or of another content type. The last also
            keeps foreign web pages out: a browser asks before it sends JSON elsewhere.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, "the content type must be `application/json`", code="unsupported_media")
    body = bytearray()
    try:
        async with asyncio.timeout(LIMITS.body_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LIMITS.body_bytes:
                    raise ApiError(
                        413,
                        f"a body may have {LIMITS.body_bytes:,} bytes",
                        code="body_too_large",
                    )
    except TimeoutError as error:
        raise ApiError(408, f"the body did not come in {LIMITS.body_s:g} s", code="slow") from error
    try:
        return json.loads(bytes(body), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "the body is not JSON", code="invalid_json") from error


def _no_constant(name: str) -> Any:
    raise ValueError(name)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client closes its connection.

    Raises:
        ClientDisconnect: it did.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _cancelled(task)
        await _cancelled(leaving)


class EventStream(Response):
    """Server-sent events from an iterator, which is closed when the client goes or stops reading.

    A client that leaves what was sent unread holds up nobody: the model's results wait in memory,
    which is bounded by the length of a reply, and after `LIMITS.write_s` it is given up.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], on_close: Callable[[], None]) -> None:
        """Send `events`; `on_close` is called at the end, also where none was asked for."""
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events, self._on_close = events, on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await _cancelled(sending)
            await _cancelled(leaving)
            self._on_close()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            async with asyncio.timeout(LIMITS.write_s):
                await send(start)
            async for chunk in self._events:
                async with asyncio.timeout(LIMITS.write_s):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return
        finally:
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
