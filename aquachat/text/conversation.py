"""A conversation as data: messages made of parts, and its JSON form on disk.

The JSON form is the predecessor's `messages`: `content` is a string, or a list of
`{"type": "text" | "python" | "python_output", "text": ...}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aquachat.errors import DataError


class Role(StrEnum):
    """Who speaks. A system message is merged into the first user message when rendered."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class PartKind(StrEnum):
    """What a stretch of a message is."""

    TEXT = "text"
    PYTHON = "python"
    """A calculator call written by the assistant, for example `60*3`."""
    PYTHON_OUTPUT = "python_output"
    """What the calculator answered: forced into the stream, never trained on."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one kind inside a message."""

    kind: PartKind
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. User and system messages hold text parts only."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts joined, without calculator calls and their results."""
        return "".join(part.text for part in self.parts if part.kind is PartKind.TEXT)


@dataclass(frozen=True, slots=True)
class Conversation:
    """An alternation of user and assistant messages, perhaps after one system message."""

    messages: tuple[Message, ...]

    def without_last(self) -> Conversation:
        """The same conversation with its last message left out."""
        return Conversation(self.messages[:-1])


def text_message(role: Role, text: str) -> Message:
    """A message of one text part."""
    return Message(role, (Part(PartKind.TEXT, text),))


def conversation_from_json(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Read the `messages` list of a row.

    Raises:
        DataError: a role, part type or shape that is not known, or turns that do not alternate.
    """
    turns: list[Message] = []
    for message in messages:
        try:
            role, content = Role(message["role"]), message["content"]
            if isinstance(content, str):
                turns.append(text_message(role, content))
            else:
                parts = tuple(Part(PartKind(p["type"]), str(p["text"])) for p in content)
                turns.append(Message(role, parts))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"message {message!r} is not a chat message ({error})") from error
    _check_turns(turns)
    return Conversation(tuple(turns))


def conversation_to_json(conversation: Conversation) -> list[dict[str, Any]]:
    """The inverse of `conversation_from_json`; a single text part becomes a string."""
    rows: list[dict[str, Any]] = []
    for message in conversation.messages:
        kinds = [part.kind for part in message.parts]
        content: str | list[dict[str, str]] = (
            message.parts[0].text
            if kinds == [PartKind.TEXT]
            else [{"type": str(part.kind), "text": part.text} for part in message.parts]
        )
        rows.append({"role": str(message.role), "content": content})
    return rows


def _check_turns(turns: Sequence[Message]) -> None:
    spoken = turns[1:] if turns and turns[0].role is Role.SYSTEM else turns
    expected = Role.USER
    for turn in spoken:
        if turn.role is not expected:
            raise DataError(f"expected a message of the {expected}, found one of the {turn.role}")
        expected = Role.ASSISTANT if expected is Role.USER else Role.USER
    if not spoken:
        raise DataError("the conversation has no message of the user")
