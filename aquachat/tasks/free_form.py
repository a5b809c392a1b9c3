"""Custom rows with a free answer: a number, or a short text.

    {"question": "How many legs have 3 cats?", "answer": 12, "rationale": "3 * 4 = 12"}
    {"messages": [{"role": "user", "content": "Name the capital of France."}], "answer": "Paris"}

A `question` gets an instruction that names the form of the answer; `messages` are asked as they
stand. Whose answer reads as a number is graded as a number (`12`, `$12.00` and `12.` agree), any
other by its text without regard to case, spacing, quotation marks and a full stop.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aquachat.errors import DataError
from aquachat.tasks.base import Example, Grade, ScoringProtocol
from aquachat.tasks.choice_task import seeded_subset
from aquachat.tasks.gsm8k import INSTRUCTION as NUMBER_INSTRUCTION
from aquachat.tasks.multiple_choice import CORRECT_REWARD, VALID_ANSWER_REWARD
from aquachat.tasks.rationale import calculator_parts
from aquachat.tasks.rows import RejectedRow, read_rows
from aquachat.text.answer import answer_line, parse_numeric_answer, parse_text_answer
from aquachat.text.calculator import format_number, parse_number
from aquachat.text.conversation import (
    Conversation,
    Message,
    Part,
    PartKind,
    Role,
    conversation_from_json,
    text_message,
)

TEXT_INSTRUCTION = "Reason step by step, then end with Answer: and the answer."
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


@dataclass(frozen=True, slots=True)
class FreeFormProblem:
    """What is asked, ending with the user, and the answer as it is compared."""

    id: str
    asked: Conversation
    rationale: str
    answer: str
    is_number: bool


class FreeFormTask:
    """Rows graded by the number or the text of their answer line."""

    protocols: frozenset[ScoringProtocol] = frozenset({"generative"})

    def __init__(self, name: str, split: str, problems: Sequence[FreeFormProblem]) -> None:
        self.name = name
        self.split = split
        self.problems = tuple(problems)
        self._by_id = {problem.id: problem for problem in self.problems}

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Example:
        problem = self.problems[index]
        reasoned = calculator_parts(f"{problem.rationale}\n" if problem.rationale else "").parts
        answer = Part(PartKind.TEXT, answer_line(problem.answer))
        reply = Message(Role.ASSISTANT, (*reasoned, answer))
        return Example(
            problem.id, Conversation((*problem.asked.messages, reply)), answer=problem.answer
        )

    def grade(self, example: Example, reply: str) -> Grade:
        """1.0 for the right answer plus 0.1 for an answer line of the right kind."""
        problem = self._by_id[example.id]
        answer = _number_answer(reply) if problem.is_number else parse_text_answer(reply)
        if answer is None:
            return Grade(False, None, 0.0)
        shown = answer if problem.is_number else normalised_text(answer)
        expected = problem.answer if problem.is_number else normalised_text(problem.answer)
        correct = shown == expected
        # One spelling for all right answers, so that equal answers count as equal in a majority.
        shown = problem.answer if correct else shown
        return Grade(correct, shown, CORRECT_REWARD * correct + VALID_ANSWER_REWARD)


def normalised_text(text: str) -> str:
    """A text as it is compared: NFKC, case folded, single spaces, no quotes and final full stop."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_QUOTES + " ").removesuffix(".").strip(_QUOTES + " ")


def _number_answer(reply: str) -> str | None:
    number = parse_numeric_answer(reply)
    return None if number is None else format_number(number)


def load_free_form(
    path: Path, *, name: str, split: str = "rows", seed: int = 0, max_examples: int | None = None
) -> FreeFormTask:
    """The rows of a file that a user wrote; ids read `<name>/<split>/<line>`.

    Raises:
        MissingFileError: there is no such file.
        DataError: a row cannot be asked or graded, with its line and field: none is left out.
    """
    problems = []
    for row in read_rows(path):
        where = f"line {row.line_number} of `{path}`"
        if isinstance(row, RejectedRow):
            raise DataError(
                f"{where} cannot be used: {row.reason}",
                hint="correct the line or remove it; each line must hold one JSON object",
            )
        problems.append(_problem(row.value, f"{name}/{split}/{row.line_number}", where))
    return FreeFormTask(name, split, seeded_subset(problems, max_examples, seed))


def _problem(row: Mapping[str, object], item_id: str, where: str) -> FreeFormProblem:
    if "options" in row or "choices" in row:
        raise _field_error(where, "options", "is there, but the rows before have free answers")
    answer, is_number = _gold(row.get("answer"), where, present="answer" in row)
    rationale = row.get("rationale", "")
    if not isinstance(rationale, str):
        raise _field_error(where, "rationale", "is no text")
    if "messages" in row:
        if "question" in row:
            raise _field_error(where, "messages", "stands beside `question`; one of them is asked")
        asked, spoken = _messages(row["messages"], where)
        rationale = rationale or spoken
    else:
        question = row.get("question")
        if not isinstance(question, str) or not question.strip():
            problem = "is missing" if "question" not in row else "is no text or is empty"
            raise _field_error(where, "question", problem)
        instruction = NUMBER_INSTRUCTION if is_number else TEXT_INSTRUCTION
        user = text_message(Role.USER, f"{question.strip()}\n{instruction}")
        asked = Conversation((user,))
    return FreeFormProblem(item_id, asked, rationale.strip(), answer, is_number)


def _gold(answer: object, where: str, *, present: bool) -> tuple[str, bool]:
    """The answer as text, and whether it is a number."""
    if not present:
        raise _field_error(where, "answer", "is missing")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise _field_error(where, "answer", "is neither a text nor a number")
    text = str(answer).strip()
    number = parse_number(text)
    if number is not None:
        return format_number(number), True
    if not isinstance(answer, str):
        raise _field_error(where, "answer", f"is a number that cannot be compared ({text[:40]})")
    if not normalised_text(text) or "\n" in text:
        raise _field_error(where, "answer", "is empty or has more than one line")
    return text, False


def _messages(value: object, where: str) -> tuple[Conversation, str]:
    """The conversation up to the user's last message, and what the assistant says after it."""
    if not isinstance(value, list):
        raise _field_error(where, "messages", "is no list")
    try:
        conversation = conversation_from_json(value)
    except DataError as error:
        raise _field_error(where, "messages", f"is no conversation: {error.message}") from error
    last = conversation.messages[-1]
    if last.role is Role.ASSISTANT:
        lines = last.text.rstrip().split("\n")
        kept = lines[:-1] if parse_text_answer(lines[-1]) else lines
        return conversation.without_last(), "\n".join(kept)
    return conversation, ""


def _field_error(where: str, field: str, problem: str) -> DataError:
    return DataError(
        f"{where}: `{field}` {problem}",
        hint='a row is {"question": "...", "answer": 12} or {"messages": [...], "answer": "Paris"}',
    )
