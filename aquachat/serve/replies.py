"""From events of the worker to what a client is told: text, calculator calls, scores, the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aquachat.infer.types import Event, TokenScore
from aquachat.serve.model import ServedModel
from aquachat.serve.requests import Job
from aquachat.serve.stops import StopFilter
from aquachat.serve.worker import ModelStoppedError, ModelWorker, Ticket
from aquachat.text.conversation import PartKind
from aquachat.text.render import StopReason
from aquachat.text.reply_stream import Piece, ReplyStream
from aquachat.text.stream_decoder import StreamDecoder

FINISH_REASONS = {
    StopReason.STOP: "stop",
    StopReason.MALFORMED: "stop",
    StopReason.LENGTH: "length",
}


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of a reply and how likely it was."""

    token: int
    score: TokenScore


@dataclass(slots=True)
class Delta:
    """What is new in one reply."""

    reply: int
    pieces: list[Piece] = field(default_factory=list)
    scores: list[ScoredToken] = field(default_factory=list)
    finish: str | None = None
    num_tokens: int = 0

    @property
    def text(self) -> str:
        """The text, without calculator calls and their results."""
        return "".join(piece.text for piece in self.pieces if piece.kind is PartKind.TEXT)


class TokenReader(Protocol):
    """Tokens in, pieces out."""

    def push(self, token: int) -> list[Piece]:
        """Take the next token."""
        ...

    def finish(self) -> list[Piece]:
        """What is left at the end."""
        ...


class RawStream:
    """A reply as raw text, for `/v1/completions`: special tokens are written by name."""

    def __init__(self, served: ServedModel) -> None:
        self._decoder = StreamDecoder(served.tokenizer)
        self._vocabulary = served.engine.vocabulary

    def push(self, token: int) -> list[Piece]:
        """The text that is complete with this token; none for one that ends the reply."""
        if token in self._vocabulary.stop_ids or token in self._vocabulary.misplaced_ids:
            return []
        return _texts(self._decoder.push(token))

    def finish(self) -> list[Piece]:
        """U+FFFD for a character that was cut off."""
        return _texts(self._decoder.finish())


def _texts(text: str) -> list[Piece]:
    return [Piece(PartKind.TEXT, text)] if text else []


class ReplyReader:
    """One reply: its events become deltas, up to a stop string or its end."""

    def __init__(self, reply: int, tokens: TokenReader, job: Job, ending_ids: frozenset[int]):
        self.reply = reply
        self.is_finished = False
        self._tokens, self._stops = tokens, StopFilter(job.stops)
        self._ending_ids = ending_ids
        self._held: list[Piece] = []
        self._certain_chars = 0
        """Of the text in what is held: certain to be before any stop string."""

    def read(self, event: Event, delta: Delta) -> None:
        """Add an event to what is new.

        Raises:
            ModelStoppedError: the reply was cancelled, by nobody but the server.
        """
        if self.is_finished:
            return
        scores = event.scores or (None,) * len(event.tokens)
        for token, score in zip(event.tokens, scores, strict=True):
            if self.is_finished:
                return
            delta.num_tokens += 1
            if score is not None and token not in self._ending_ids:
                delta.scores.append(ScoredToken(token, score))
            self._take(self._tokens.push(token), delta)
        if event.completion is not None and not self.is_finished:
            self._end(event.completion.finish, delta)

    def _take(self, pieces: Iterable[Piece], delta: Delta) -> None:
        for piece in pieces:
            if piece.kind is PartKind.TEXT:
                self._certain_chars += len(self._stops.push(piece.text))
            self._held.append(piece)
            self._release(delta)
            if self._stops.has_stopped:
                self.is_finished, delta.finish = True, "stop"
                return

    def _release(self, delta: Delta) -> None:
        """Give out what is certain, in order: a call waits for the text before it."""
        while self._held:
            piece = self._held[0]
            if piece.kind is PartKind.TEXT and len(piece.text) > self._certain_chars:
                delta.pieces += _texts(piece.text[: self._certain_chars])
                self._held[0] = Piece(PartKind.TEXT, piece.text[self._certain_chars :])
                self._certain_chars = 0
                return
            if piece.kind is PartKind.TEXT:
                self._certain_chars -= len(piece.text)
            delta.pieces.append(self._held.pop(0))

    def _end(self, finish: StopReason, delta: Delta) -> None:
        self._take(self._tokens.finish(), delta)
        if self.is_finished:
            return
        if finish is StopReason.CANCELLED:
            raise ModelStoppedError("the server stopped before the reply was finished")
        self._certain_chars += len(self._stops.finish())
        self._release(delta)
        self.is_finished, delta.finish = True, FINISH_REASONS[finish]


def chat_readers(served: ServedModel, job: Job) -> list[ReplyReader]:
    """Readers of conversations: calculator calls are pieces of their own."""
    return _readers(
        served, job, [ReplyStream(served.renderer, served.tokenizer) for _ in _replies(job)]
    )


def raw_readers(served: ServedModel, job: Job) -> list[ReplyReader]:
    """Readers of raw text."""
    return _readers(served, job, [RawStream(served) for _ in _replies(job)])


async def deltas(
    worker: ModelWorker,
    ticket: Ticket,
    readers: list[ReplyReader],
    on_tokens: Callable[[Sequence[int]], None] | None = None,
) -> AsyncGenerator[list[Delta], None]:
    """What is new in each reply, whenever something is, until all have ended.

    What came while the last was being sent is in one delta a reply. Closing the iterator cancels
    what is not finished; a reply that met a stop string is cancelled at once. `on_tokens` is told
    the tokens themselves.
    """
    open_replies = len(readers)
    try:
        while open_replies:
            fresh: dict[int, Delta] = {}
            for reply, event in await ticket.events():
                reader = readers[reply]
                if reader.is_finished:
                    continue
                if on_tokens is not None:
                    on_tokens(event.tokens)
                delta = fresh.setdefault(reply, Delta(reply))
                reader.read(event, delta)
                if reader.is_finished:
                    open_replies -= 1
                    if event.completion is None:
                        worker.cancel(ticket, reply)
            if fresh:
                yield list(fresh.values())
    finally:
        if open_replies:
            worker.cancel(ticket)


def _replies(job: Job) -> range:
    return range(sum(request.params.num_samples for request in job.requests))


def _readers(served: ServedModel, job: Job, streams: Iterable[TokenReader]) -> list[ReplyReader]:
    vocabulary = served.engine.vocabulary
    ending = frozenset((*vocabulary.stop_ids, *vocabulary.misplaced_ids))
    return [ReplyReader(reply, stream, job, ending) for reply, stream in enumerate(streams)]
