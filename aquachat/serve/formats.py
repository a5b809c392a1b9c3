"""OpenAI's JSON of replies, whole and in chunks.

What that form has no place for is in a field `aquachat`: `parts` lists the calculator calls of this
model (`python`) and their results (`python_output`) between the stretches of text. They are not
OpenAI's `tool_calls`, which ask the client to do something; these were answered here. An assistant
message given back with its `aquachat` field is rendered exactly as it was written.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aquachat.serve.model import ServedModel
from aquachat.serve.replies import Delta, ScoredToken
from aquachat.text.conversation import PartKind
from aquachat.text.reply_stream import Piece, parts_of
from aquachat.text.tokenizer import Tokenizer

MIN_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not have."""


class Format(Protocol):
    """How replies of one endpoint are written."""

    def first(self, reply: int) -> dict[str, Any] | None:
        """The chunk that opens a reply, None where there is none."""
        ...

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """The chunk of what is new in a reply."""
        ...

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last chunk, for those who asked for the usage."""
        ...

    def whole(self, replies: Sequence[Delta], usage: dict[str, int]) -> dict[str, Any]:
        """All replies at once."""
        ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every document of one request has."""

    served: ServedModel
    id: str
    created_s: int = field(default_factory=lambda: int(time.time()))

    def around(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A document of `kind` with these choices."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created_s,
            "model": self.served.name,
            "system_fingerprint": self.served.fingerprint,
            "choices": choices,
        }


class ChatFormat:
    """`chat.completion` and `chat.completion.chunk`."""

    def __init__(self, served: ServedModel, *, scores: bool) -> None:
        self._envelope = Envelope(served, f"chatcmpl-{secrets.token_hex(12)}")
        self._scores = scores

    def first(self, reply: int) -> dict[str, Any]:
        """Who speaks."""
        return self._chunk([_choice(reply, {"delta": {"role": "assistant", "content": ""}})])

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """New text, calls and scores."""
        content: dict[str, Any] = {}
        if delta.text or not delta.finish:
            content["content"] = delta.text
        if any(piece.kind is not PartKind.TEXT for piece in delta.pieces):
            content["aquachat"] = {"parts": [_piece(piece) for piece in delta.pieces]}
        body = {"delta": content, "logprobs": self._logprobs(delta)}
        return self._chunk([_choice(delta.reply, body, delta.finish)])

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """No choices."""
        return {**self._chunk([]), "usage": usage}

    def whole(self, replies: Sequence[Delta], usage: dict[str, int]) -> dict[str, Any]:
        """A message for each reply."""
        choices = []
        for reply in replies:
            parts = [{"type": str(part.kind), "text": part.text} for part in parts_of(reply.pieces)]
            message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
            if any(part["type"] != "text" for part in parts):
                message["aquachat"] = {"parts": parts}
            body = {"message": message, "logprobs": self._logprobs(reply)}
            choices.append(_choice(reply.reply, body, reply.finish))
        return {**self._envelope.around("chat.completion", choices), "usage": usage}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._envelope.around("chat.completion.chunk", choices)

    def _logprobs(self, delta: Delta) -> dict[str, Any] | None:
        if not self._scores:
            return None
        tokenizer = self._envelope.served.tokenizer
        return {"content": [_chat_score(each, tokenizer) for each in delta.scores], "refusal": None}


class TextFormat:
    """`text_completion`, whole and in chunks."""

    def __init__(self, served: ServedModel, *, scores: bool) -> None:
        self._envelope = Envelope(served, f"cmpl-{secrets.token_hex(12)}")
        self._scores = scores
        self._offsets: dict[int, int] = {}

    def first(self, reply: int) -> None:
        """Nothing."""

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """New text and scores."""
        return self._envelope.around("text_completion", [self._choice(delta)])

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """No choices."""
        return {**self._envelope.around("text_completion", []), "usage": usage}

    def whole(self, replies: Sequence[Delta], usage: dict[str, int]) -> dict[str, Any]:
        """A text for each reply."""
        choices = [self._choice(reply) for reply in replies]
        return {**self._envelope.around("text_completion", choices), "usage": usage}

    def _choice(self, delta: Delta) -> dict[str, Any]:
        body = {"text": delta.text, "logprobs": self._logprobs(delta)}
        return _choice(delta.reply, body, delta.finish)

    def _logprobs(self, delta: Delta) -> dict[str, Any] | None:
        if not self._scores:
            return None
        tokenizer = self._envelope.served.tokenizer
        tokens = [_spelled(each.token, tokenizer) for each in delta.scores]
        offsets = []
        offset = self._offsets.get(delta.reply, 0)
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
        self._offsets[delta.reply] = offset
        return {
            "tokens": tokens,
            "token_logprobs": [_finite(each.score.logprob) for each in delta.scores],
            "top_logprobs": [
                {_spelled(token, tokenizer): _finite(nats) for token, nats in alternatives}
                for alternatives in (each.score.alternatives for each in delta.scores)
            ],
            "text_offset": offsets,
        }


def usage_of(num_prompt_tokens: int, num_completion_tokens: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_completion_tokens,
        "total_tokens": num_prompt_tokens + num_completion_tokens,
    }


def _choice(reply: int, body: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": reply, **body, "finish_reason": finish}


def _piece(piece: Piece) -> dict[str, Any]:
    found: dict[str, Any] = {"type": str(piece.kind), "text": piece.text}
    if piece.starts:
        found["starts"] = True
    if piece.ends:
        found["ends"] = True
    return found


def _chat_score(scored: ScoredToken, tokenizer: Tokenizer) -> dict[str, Any]:
    alternatives = [_scored(token, nats, tokenizer) for token, nats in scored.score.alternatives]
    own = _scored(scored.token, scored.score.logprob, tokenizer)
    return {**own, "top_logprobs": alternatives}


def _scored(token: int, nats: float, tokenizer: Tokenizer) -> dict[str, Any]:
    spelled = tokenizer.decode_single_token_bytes(token)
    return {
        "token": spelled.decode("utf-8", errors="replace"),
        "logprob": _finite(nats),
        "bytes": list(spelled),
    }


def _spelled(token: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode_single_token_bytes(token).decode("utf-8", errors="replace")


def _finite(nats: float) -> float:
    return max(nats, MIN_LOGPROB)
