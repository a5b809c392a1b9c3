"""What a task is: rows that become examples, and a grade for a reply, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from aquachat.text.conversation import Conversation

ScoringProtocol = Literal["categorical", "generative"]


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A multiple-choice question, options without their letters.

    Example:
        ChoiceItem(id="aqua/validation/7", question="What is 2 + 3?",
                   options=("4", "5", "6", "7", "8"), answer_index=1,
                   rationale="2 + 3 = <<2+3=5>>5")
    """

    id: str
    question: str
    options: tuple[str, ...]
    answer_index: int
    rationale: str = ""
    """Steps to the answer; `<<expression=result>>` marks a calculator call, as in GSM8K."""
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    """What results are also given by: `family`, `tier`, `num_steps`, `category`..."""

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of this item, `("A", ..., "E")` for five options."""
        return tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(self.options)])

    @property
    def answer_letter(self) -> str:
        """The letter of the right option."""
        return self.letters[self.answer_index]


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task, ready to be rendered.

    `conversation` ends with the gold assistant message. `choices` holds the letters of a
    multiple-choice item and is empty for a free-form answer. `item` is set for multiple choice, so
    that the options can be put in another order.
    """

    id: str
    conversation: Conversation
    answer: str
    choices: tuple[str, ...] = ()
    item: ChoiceItem | None = None
    attributes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grade:
    """What a reply is worth.

    `answer` is None where the reply names no valid answer. `reward` is 1.0 for a right answer plus
    0.1 for a valid answer line: 1.1, 0.1 or 0.0.
    """

    correct: bool
    answer: str | None
    reward: float


class Task(Protocol):
    """A set of examples and how to grade a reply to one of them."""

    name: str
    """As users type it, for example `AQUA`."""
    split: str
    protocols: frozenset[ScoringProtocol]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def grade(self, example: Example, reply: str) -> Grade:
        """Grade the text of a reply, calculator calls left out."""
        ...


@runtime_checkable
class GradesTogether(Protocol):
    """A task that grades many replies faster together, for example in processes of their own."""

    def grade_many(self, replies: Sequence[tuple[Example, str]]) -> list[Grade]:
        """What `grade` says of each, in order."""
        ...


def grade_all(task: Task, replies: Sequence[tuple[Example, str]]) -> list[Grade]:
    """The grade of each (example, text of a reply), in order."""
    if isinstance(task, GradesTogether):
        return task.grade_many(replies)
    return [task.grade(example, reply) for example, reply in replies]
