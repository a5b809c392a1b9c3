"""Conversations as token ids: one renderer for prompts, supervised examples and reading replies.

    <|bos|><|user_start|>question<|user_end|><|assistant_start|>text
    <|python_start|>60*3<|python_end|><|output_start|>180<|output_end|>text<|assistant_end|>
    <|user_start|>...

Laws, each a test: `supervised(c).ids` starts with `prompt(c.without_last())`; `parse` of the tokens
after that prompt is the last message; the answer letter after the last `Answer:` is one token, the
same id as the letter behind its option in the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aquachat.errors import ConfigError, DataError
from aquachat.text.answer import ANSWER_PRIME
from aquachat.text.conversation import Conversation, Message, Part, PartKind, Role

BOS = "<|bos|>"
USER_START, USER_END = "<|user_start|>", "<|user_end|>"
ASSISTANT_START, ASSISTANT_END = "<|assistant_start|>", "<|assistant_end|>"
PYTHON_START, PYTHON_END = "<|python_start|>", "<|python_end|>"
OUTPUT_START, OUTPUT_END = "<|output_start|>", "<|output_end|>"


class TextTokenizer(Protocol):
    """What the renderer needs of a tokenizer."""

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`; strings that look like special tokens are plain text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`."""
        ...

    def special_id(self, name: str) -> int:
        """The id of a special token such as `<|bos|>`."""
        ...

    def single_token_id(self, text: str) -> int | None:
        """The id that alone encodes `text`, None where it takes several."""
        ...


class StopReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"
    """With the stop token, `<|assistant_end|>`."""
    LENGTH = "length"
    """The tokens ran out before the stop token."""
    MALFORMED = "malformed"
    """A special token came that has no place there; what follows it is not part of the reply."""
    CANCELLED = "cancelled"
    """The caller did not want the rest."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A supervised example.

    `loss_mask[i]` tells whether the token `ids[i]` is learned, as a target. `truncated` tells that
    the end was cut off.
    """

    ids: list[int]
    loss_mask: list[bool]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply read back from token ids."""

    parts: tuple[Part, ...]
    finish: StopReason

    @property
    def text(self) -> str:
        """The text parts joined, without calculator calls and their results: what is graded."""
        return self.message.text

    @property
    def message(self) -> Message:
        """The reply as a message of the assistant."""
        return Message(Role.ASSISTANT, self.parts)


def joined_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts with neighbouring text joined and empty text left out, as they are rendered."""
    joined: list[Part] = []
    for part in parts:
        if part.kind is PartKind.TEXT and joined and joined[-1].kind is PartKind.TEXT:
            joined[-1] = Part(PartKind.TEXT, joined[-1].text + part.text)
        elif part.kind is not PartKind.TEXT or part.text:
            joined.append(part)
    return tuple(joined)


class ChatRenderer:
    """Turns conversations into token ids and back. Holds no state but the ids of special tokens."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        special = tokenizer.special_id
        self.bos_id = special(BOS)
        self.user_start_id, self.user_end_id = special(USER_START), special(USER_END)
        self.assistant_start_id = special(ASSISTANT_START)
        self.assistant_end_id = special(ASSISTANT_END)
        self.python_start_id, self.python_end_id = special(PYTHON_START), special(PYTHON_END)
        self.output_start_id, self.output_end_id = special(OUTPUT_START), special(OUTPUT_END)
        self._opens = {
            self.python_start_id: (PartKind.PYTHON, self.python_end_id),
            self.output_start_id: (PartKind.PYTHON_OUTPUT, self.output_end_id),
        }
        self._misplaced = frozenset(
            (
                *(self.bos_id, self.user_start_id, self.user_end_id, self.assistant_start_id),
                *(self.python_end_id, self.output_end_id),
            )
        )

    def part_opened_by(self, token: int) -> tuple[PartKind, int] | None:
        """The kind of part that a token begins and the token that ends it; None for others."""
        return self._opens.get(token)

    def is_misplaced(self, token: int) -> bool:
        """Whether a token ends a reply, where it is not the expected end of a part."""
        return token in self._misplaced or token in self._opens

    def prompt(self, conversation: Conversation) -> list[int]:
        """The ids up to `<|assistant_start|>`, after which the assistant is to speak.

        Raises:
            DataError: the last message is not the user's.
        """
        if not conversation.messages or conversation.messages[-1].role is not Role.USER:
            raise DataError("a prompt must end with a message of the user")
        rendered = self._render(conversation)
        return [*rendered.ids, self.assistant_start_id]

    def supervised(self, conversation: Conversation, max_tokens: int) -> Rendered:
        """The whole conversation and which of its tokens are learned.

        Learned are the assistant's text, its calculator calls with their marks, and
        `<|assistant_end|>`; not the user's words, nor what is forced into the stream:
        `<|bos|>`, `<|assistant_start|>` and the calculator's results with their marks. What is
        longer than `max_tokens` is cut at the end and marked `truncated`.

        Raises:
            DataError: the last message is not the assistant's.
        """
        if not conversation.messages or conversation.messages[-1].role is not Role.ASSISTANT:
            raise DataError("a supervised example must end with a message of the assistant")
        rendered = self._render(conversation)
        if len(rendered.ids) <= max_tokens:
            return rendered
        return Rendered(rendered.ids[:max_tokens], rendered.loss_mask[:max_tokens], truncated=True)

    def parse(self, ids: Sequence[int]) -> Reply:
        """Read a reply back from the ids that follow a prompt, up to the first `<|assistant_end|>`.

        An unfinished calculator call becomes a part with what there is of it.
        """
        parts: list[Part] = []
        kind, closing = PartKind.TEXT, None
        start = 0
        finish = StopReason.LENGTH
        end = len(ids)
        for position, token in enumerate(ids):
            if token == closing:
                parts.append(Part(kind, self._tokenizer.decode(ids[start:position])))
                kind, closing, start = PartKind.TEXT, None, position + 1
            elif closing is None and token in self._opens:
                parts.append(Part(kind, self._tokenizer.decode(ids[start:position])))
                (kind, closing), start = self._opens[token], position + 1
            elif token == self.assistant_end_id:
                finish, end = StopReason.STOP, position
                break
            elif self.is_misplaced(token):
                finish, end = StopReason.MALFORMED, position
                break
        parts.append(Part(kind, self._tokenizer.decode(ids[start:end])))
        return Reply(joined_parts(parts), finish)

    def letter_ids(self, letters: Sequence[str]) -> tuple[int, ...]:
        """The ids of the letters as they stand after `Answer:` and after an option: ` A`, ` B`...

        Raises:
            ConfigError: a letter with the space before it is not one single token.
        """
        found = [self._tokenizer.single_token_id(f" {letter}") for letter in letters]
        ids = tuple(token for token in found if token is not None)
        if len(ids) != len(found):
            missing = ", ".join(f"` {c}`" for c, i in zip(letters, found, strict=True) if i is None)
            raise ConfigError(
                f"the tokenizer has no single token for {missing}, so letters cannot be scored",
                hint="train a vocabulary on text with answer lines: `aquachat tokenize`",
            )
        return ids

    def answer_prime(self) -> list[int]:
        """The ids of `Answer:` as they open the answer line.

        After `prompt(conversation)` and these ids, the next token is one of `letter_ids`: the
        categorical protocol compares their logits.
        """
        return self._tokenizer.encode_ordinary(ANSWER_PRIME)

    def _render(self, conversation: Conversation) -> Rendered:
        rendered = Rendered([self.bos_id], [False])
        for message in _system_merged(conversation):
            if message.role is Role.USER:
                text = self._tokenizer.encode_ordinary(message.text)
                _extend(rendered, [self.user_start_id, *text, self.user_end_id], learned=False)
            else:
                _extend(rendered, [self.assistant_start_id], learned=False)
                for part in joined_parts(message.parts):
                    self._render_part(rendered, part)
                _extend(rendered, [self.assistant_end_id], learned=True)
        return rendered

    def _render_part(self, rendered: Rendered, part: Part) -> None:
        ids = self._tokenizer.encode_ordinary(part.text)
        if part.kind is PartKind.TEXT:
            _extend(rendered, ids, learned=True)
        elif part.kind is PartKind.PYTHON:
            _extend(rendered, [self.python_start_id, *ids, self.python_end_id], learned=True)
        else:
            _extend(rendered, [self.output_start_id, *ids, self.output_end_id], learned=False)


def _extend(rendered: Rendered, ids: Sequence[int], *, learned: bool) -> None:
    rendered.ids.extend(ids)
    rendered.loss_mask.extend([learned] * len(ids))


def _system_merged(conversation: Conversation) -> tuple[Message, ...]:
    """The messages with a system message put before the first user message's text."""
    messages = conversation.messages
    if not messages or messages[0].role is not Role.SYSTEM:
        return messages
    if len(messages) < 2 or messages[1].role is not Role.USER:
        raise DataError("a system message must be followed by a message of the user")
    separator = Part(PartKind.TEXT, "\n\n")
    first = Message(Role.USER, (*messages[0].parts, separator, *messages[1].parts))
    return (first, *messages[2:])
