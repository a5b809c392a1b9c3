"""A reply read token by token: what `ChatRenderer.parse` gives, as it is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from aquachat.text.conversation import Part, PartKind
from aquachat.text.render import ChatRenderer, joined_parts
from aquachat.text.stream_decoder import DecodesTokens, StreamDecoder


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more of a reply.

    `starts` tells that a calculator call or its result begins here, `ends` that it ends here; the
    text of a piece may be empty then.
    """

    kind: PartKind
    text: str
    starts: bool = False
    ends: bool = False


@final
class ReplyStream:
    """Turns the tokens of a reply into pieces.

    The law, a test: `parts_of` all pieces are the parts of `ChatRenderer.parse`.

    Example:
        stream = ReplyStream(renderer, tokenizer)
        for token in tokens:
            for piece in stream.push(token): ...
        for piece in stream.finish(): ...
    """

    def __init__(self, renderer: ChatRenderer, tokenizer: DecodesTokens) -> None:
        self._renderer = renderer
        self._decoder = StreamDecoder(tokenizer)
        self._kind = PartKind.TEXT
        self._closing: int | None = None
        self._has_ended = False

    @property
    def in_call(self) -> bool:
        """Whether a calculator call or its result is open."""
        return self._closing is not None

    def push(self, token: int) -> list[Piece]:
        """Take the next token; nothing comes of those after the end of the reply."""
        if self._has_ended:
            return []
        if token == self._closing:
            piece = Piece(self._kind, self._decoder.finish(), ends=True)
            self._kind, self._closing = PartKind.TEXT, None
            return [piece]
        opened = self._renderer.part_opened_by(token)
        if self._closing is None and opened is not None:
            pieces = self._rest()
            self._kind, self._closing = opened
            return [*pieces, Piece(self._kind, "", starts=True)]
        if token == self._renderer.assistant_end_id or self._renderer.is_misplaced(token):
            pieces = self._rest()
            self._has_ended = True
            return pieces
        text = self._decoder.push(token)
        return [Piece(self._kind, text)] if text else []

    def finish(self) -> list[Piece]:
        """What is left where the tokens ran out: U+FFFD for a character that was cut off."""
        pieces = [] if self._has_ended else self._rest()
        self._has_ended = True
        return pieces

    def _rest(self) -> list[Piece]:
        text = self._decoder.finish()
        return [Piece(self._kind, text)] if text else []


def parts_of(pieces: Iterable[Piece]) -> tuple[Part, ...]:
    """The pieces joined into the parts of a message."""
    parts: list[Part] = []
    is_open = False
    for piece in pieces:
        if piece.kind is not PartKind.TEXT and is_open and not piece.starts:
            parts[-1] = Part(piece.kind, parts[-1].text + piece.text)
        else:
            parts.append(Part(piece.kind, piece.text))
        is_open = piece.kind is not PartKind.TEXT and not piece.ends
    return joined_parts(parts)
