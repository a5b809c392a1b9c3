"""Chat and identity rows: conversations to train on, without a grade.

A row is `{"messages": [{"role", "content"}, ...]}`; other fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aquachat.errors import DataError
from aquachat.tasks.row_files import usable_rows
from aquachat.tasks.rows import RejectedRow, RowReason
from aquachat.text.conversation import Conversation, Role, conversation_from_json


@dataclass(frozen=True, slots=True)
class ChatRows:
    """The conversations of a file and the rows that hold none."""

    conversations: tuple[Conversation, ...]
    rejected: tuple[RejectedRow, ...]


def read_conversation_row(row: Mapping[str, object]) -> Conversation | RowReason:
    """The conversation of a row, with what follows the assistant's last message left out."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return RowReason.NO_CONVERSATION
    try:
        conversation = conversation_from_json(messages)
    except DataError:
        return RowReason.NO_CONVERSATION
    while conversation.messages and conversation.messages[-1].role is not Role.ASSISTANT:
        conversation = conversation.without_last()
    return conversation if conversation.messages else RowReason.NO_CONVERSATION


def load_conversations(path: Path) -> ChatRows:
    """The conversations of a file of rows.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file has no usable row.
    """
    conversations, bad = usable_rows(
        path,
        lambda row: read_conversation_row(row.value),
        what="a conversation",
        hint="a row needs `messages` that alternate between user and assistant",
    )
    return ChatRows(tuple(conversations), tuple(bad))
