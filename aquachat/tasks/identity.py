"""Conversations in which the model says honestly what it is; generated from `identity.toml`.

A conversation asks about one to three topics, in words that are drawn together. It is a pure
function of (seed, index), and no two of a set are equal.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from aquachat.errors import ConfigError
from aquachat.tasks.synthetic.draw import Draw
from aquachat.text.conversation import Conversation, Message, Role, text_message

WORDS_FILE: Final = "identity.toml"
NUM_TURNS: Final = (1, 1, 1, 2, 2, 3)
"""Questions in a conversation, each entry equally likely."""
MAX_TRIES: Final = 50
"""Draws in a row that repeat an earlier conversation before the words are used up."""
FIRST_ONLY: Final = frozenset({"greeting"})
LAST_ONLY: Final = frozenset({"thanks"})


@dataclass(frozen=True, slots=True)
class Topic:
    """Something people ask a model about itself: every answer fits every question."""

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdentityWords:
    """What conversations are made of."""

    openers: tuple[str, ...]
    """Before the first question."""
    links: tuple[str, ...]
    """Before a later one."""
    topics: tuple[Topic, ...]


@cache
def identity_words() -> IdentityWords:
    """The words of `identity.toml`."""
    file = resources.files("aquachat.tasks").joinpath(WORDS_FILE)
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    topics = (
        Topic(entry["name"], tuple(entry["questions"]), tuple(entry["answers"]))
        for entry in table["topic"]
    )
    return IdentityWords(tuple(table["openers"]), tuple(table["links"]), tuple(topics))


def identity_conversations(seed: int, count: int) -> list[Conversation]:
    """So many different conversations.

    Raises:
        ConfigError: the words do not suffice for so many.
    """
    words = identity_words()
    found: dict[Conversation, None] = {}
    index = tries = 0
    while len(found) < count:
        conversation = _conversation(words, Draw(f"identity {seed} {index}"))
        index += 1
        tries = tries + 1 if conversation in found else 0
        found[conversation] = None
        if tries > MAX_TRIES:
            raise ConfigError(
                f"there are no {count:,} different conversations about the model",
                hint="ask for fewer with `--max-train`",
            )
    return list(found)


def _conversation(words: IdentityWords, draw: Draw) -> Conversation:
    num_turns = draw.choice(NUM_TURNS)
    messages: list[Message] = []
    for turn, topic in enumerate(_topics(words.topics, num_turns, draw)):
        question = draw.choice(topic.questions)
        if topic.name not in FIRST_ONLY | LAST_ONLY:
            question = _joined(draw.choice(words.links if turn else words.openers), question)
        messages.append(text_message(Role.USER, question))
        messages.append(text_message(Role.ASSISTANT, draw.choice(topic.answers)))
    return Conversation(tuple(messages))


def _topics(topics: Sequence[Topic], num_turns: int, draw: Draw) -> list[Topic]:
    """Different topics; a greeting comes first if at all, thanks come last and not alone."""
    wanted = draw.shuffled(topics)
    chosen: list[Topic] = []
    for topic in wanted:
        is_first, is_last = not chosen, len(chosen) == num_turns - 1
        if topic.name in FIRST_ONLY and not is_first:
            continue
        if topic.name in LAST_ONLY and (is_first or not is_last):
            continue
        chosen.append(topic)
        if len(chosen) == num_turns:
            break
    return chosen


def _joined(before: str, question: str) -> str:
    """Words before a question, which then begins in lower case where they do not end a sentence.

    Example:
        "Hey, " and "What are you?" -> "Hey, what are you?"; "I am" keeps its capital.
    """
    ends_sentence = not before or before.rstrip().endswith((".", "!"))
    if ends_sentence or question.split()[0] in {"I", "ChatGPT"}:
        return before + question
    return before + question[0].lower() + question[1:]


def topics_by_name() -> Mapping[str, Topic]:
    """The topics, for tests and for people who look."""
    return {topic.name: topic for topic in identity_words().topics}
