"""Multiple choice as a conversation: how an item is asked, answered in its gold reply, and graded.

The user's text is the question, one line an option with the value first and its letter right after
it, and one instruction. The gold reply is the rationale, the right option restated with its letter
exactly as in its option line, and the answer line:

    How far does a car go in 3 hours at 50 km/h?
    100 km A
    150 km B
    Reason step by step, then end with Answer: and the letter.

    50 * 3 = 150 km B
    Answer: B

Small models bind a value to its letter only when the letter follows it directly, in both places
(`docs/lab-notes.md`).
"""

from __future__ import annotations

import re

from aquachat.tasks.base import ChoiceItem, Example, Grade
from aquachat.tasks.option_order import refers_to_options, reorder, rotate
from aquachat.tasks.rationale import calculator_parts, split_letter_statement
from aquachat.text.answer import answer_line, parse_answer
from aquachat.text.conversation import (
    Conversation,
    Message,
    Part,
    PartKind,
    Role,
    text_message,
)

__all__ = [
    "INSTRUCTION",
    "choice_conversation",
    "choice_example",
    "gold_parts",
    "grade_choice",
    "option_line",
    "question_text",
    "refers_to_options",
    "reorder",
    "rotate",
]

INSTRUCTION = "Reason step by step, then end with Answer: and the letter."
CORRECT_REWARD = 1.0
VALID_ANSWER_REWARD = 0.1


def question_text(item: ChoiceItem) -> str:
    """What the user says: the question, the options as `150 km B`, the instruction."""
    options = [option_line(item, index) for index in range(len(item.options))]
    return "\n".join([item.question, *options, INSTRUCTION])


def option_line(item: ChoiceItem, index: int) -> str:
    """One option as it stands in the prompt and is restated in the reply: `150 km B`."""
    return f"{item.options[index]} {item.letters[index]}"


def gold_parts(item: ChoiceItem) -> tuple[Part, ...]:
    """The gold reply: rationale with calculator calls, restated option and letter, answer line."""
    rationale, _ = split_letter_statement(item.rationale, item.letters)
    letter = item.answer_letter
    parts = list(calculator_parts(rationale).parts)
    spoken = parts[-1].text if parts and parts[-1].kind is PartKind.TEXT else ""
    restated = _ending_with(spoken, item.options[item.answer_index])
    if restated is not None:
        parts[-1] = Part(PartKind.TEXT, f"{restated} {letter}\n{answer_line(letter)}")
    else:
        line_break = "\n" if parts else ""
        gold = f"{line_break}{option_line(item, item.answer_index)}\n{answer_line(letter)}"
        if spoken:
            parts[-1] = Part(PartKind.TEXT, spoken + gold)
        else:
            parts.append(Part(PartKind.TEXT, gold))
    return tuple(parts)


def _ending_with(text: str, option: str) -> str | None:
    """`text` without a final full stop if it ends with exactly `option`, else None."""
    for candidate in (text, text.removesuffix(".")):
        before = candidate.removesuffix(option)
        if before != candidate and not re.search(r"[\w.,/:%^*+\-\u2013]\Z", before):
            return candidate
    return None


def choice_conversation(item: ChoiceItem) -> Conversation:
    """The item asked and answered, ending with the gold reply."""
    return Conversation(
        (text_message(Role.USER, question_text(item)), Message(Role.ASSISTANT, gold_parts(item)))
    )


def choice_example(item: ChoiceItem) -> Example:
    """The item as an example of a task."""
    return Example(
        id=item.id,
        conversation=choice_conversation(item),
        answer=item.answer_letter,
        choices=item.letters,
        item=item,
        attributes=item.attributes,
    )


def grade_choice(example: Example, reply: str) -> Grade:
    """1.0 for the right letter plus 0.1 for naming one of the item's letters on an answer line."""
    answer = parse_answer(reply, example.choices)
    correct = answer == example.answer
    reward = CORRECT_REWARD * correct + VALID_ANSWER_REWARD * (answer is not None)
    return Grade(correct, answer, reward)
