"""Streams and clients that leave them: before the first event, in the middle, or unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aquachat.serve import wire
from aquachat.serve.limits import Limits
from aquachat.serve.wire import EventStream

Message = dict[str, Any]


class Client:
    """What an ASGI server hands to an application."""

    def __init__(self, *, leaves: bool = False, reads: int = 10**6) -> None:
        self.leaves, self.reads = leaves, reads
        self.got: list[bytes] = []

    async def receive(self) -> Message:
        if not self.leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.got) >= self.reads:
            await asyncio.Event().wait()
        self.got.append(message.get("body", b""))


def run(client: Client, num_events: int) -> tuple[list[str], Client]:
    noted: list[str] = []

    async def events() -> AsyncIterator[bytes]:
        try:
            for number in range(num_events):
                await asyncio.sleep(0)
                yield b"%d" % number
        finally:
            noted.append("closed")

    async def answer() -> None:
        response = EventStream(events(), lambda: noted.append("over"))
        await response({"type": "http"}, client.receive, client.send)

    asyncio.run(asyncio.wait_for(answer(), 30))
    return noted, client


def test_all_events_are_sent_and_the_end_is_told() -> None:
    noted, client = run(Client(), 3)
    assert client.got == [b"", b"0", b"1", b"2", b""]
    assert noted == ["closed", "over"]


def test_a_client_that_leaves_at_once_is_noticed_without_any_event() -> None:
    noted, _ = run(Client(leaves=True), 10**9)
    assert noted[-1] == "over"


def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LIMITS", Limits(write_s=0.05))
    noted, client = run(Client(reads=3), 10**9)
    assert client.got == [b"", b"0", b"1"]
    assert noted == ["closed", "over"]
