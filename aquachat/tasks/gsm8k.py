"""GSM8K: grade-school word problems with a number as the answer.

Cobbe and others: Training Verifiers to Solve Math Word Problems (2021), arXiv 2110.14168. A row is
`{"question", "answer"}`; the answer is a rationale with `<<48/2=24>>` annotations that ends with
`#### 72`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from aquachat.tasks.base import Example, Grade, ScoringProtocol
from aquachat.tasks.choice_task import seeded_subset
from aquachat.tasks.multiple_choice import CORRECT_REWARD, VALID_ANSWER_REWARD
from aquachat.tasks.rationale import calculator_parts
from aquachat.tasks.row_files import usable_rows
from aquachat.tasks.rows import RejectedRow, RowReason
from aquachat.text.answer import answer_line, parse_numeric_answer
from aquachat.text.calculator import format_number, parse_number
from aquachat.text.conversation import (
    Conversation,
    Message,
    Part,
    PartKind,
    Role,
    text_message,
)

INSTRUCTION = "Reason step by step, then end with Answer: and the number."


@dataclass(frozen=True, slots=True)
class NumberProblem:
    """A word problem whose answer is a number."""

    id: str
    question: str
    rationale: str
    answer: Fraction


class Gsm8kTask:
    """Word problems graded by their number: `Answer: 72`, `Answer: $72.00` and `72.` agree."""

    protocols: frozenset[ScoringProtocol] = frozenset({"generative"})

    def __init__(
        self, split: str, problems: list[NumberProblem], rejected: tuple[RejectedRow, ...] = ()
    ) -> None:
        self.name = "GSM8K"
        self.split = split
        self.problems = tuple(problems)
        self.rejected = rejected

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Example:
        problem = self.problems[index]
        return Example(
            id=problem.id,
            conversation=number_conversation(problem),
            answer=format_number(problem.answer),
        )

    def grade(self, example: Example, reply: str) -> Grade:
        """1.0 for the right number plus 0.1 for a valid answer line."""
        answer = parse_numeric_answer(reply)
        if answer is None:
            return Grade(False, None, 0.0)
        correct = answer == parse_number(example.answer)
        reward = CORRECT_REWARD * correct + VALID_ANSWER_REWARD
        return Grade(correct, format_number(answer), reward)


def number_conversation(problem: NumberProblem) -> Conversation:
    """The problem asked and answered: rationale with calculator calls, then `Answer: 72`."""
    answer = Part(PartKind.TEXT, f"\n{answer_line(format_number(problem.answer))}")
    parts = (*calculator_parts(problem.rationale).parts, answer)
    user = text_message(Role.USER, f"{problem.question}\n{INSTRUCTION}")
    return Conversation((user, Message(Role.ASSISTANT, parts)))


def read_gsm8k_row(row: Mapping[str, object], item_id: str) -> NumberProblem | RowReason:
    """The problem of a row, or what is wrong with it."""
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        return RowReason.MISSING_QUESTION
    if not isinstance(answer, str):
        return RowReason.MISSING_ANSWER
    rationale, mark, gold = answer.rpartition("####")
    number = parse_number(gold) if mark else None
    if number is None:
        return RowReason.MISSING_ANSWER
    return NumberProblem(item_id, question.strip(), rationale.strip(), number)


def load_gsm8k(
    path: Path, split: str, *, seed: int = 0, max_examples: int | None = None
) -> Gsm8kTask:
    """A split of GSM8K from its file of rows.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file has no usable row.
    """
    problems, bad = usable_rows(
        path,
        lambda row: read_gsm8k_row(row.value, f"gsm8k/{split}/{row.line_number}"),
        what="a GSM8K problem",
        hint="a row needs `question` and an `answer` that ends with `#### 72`",
    )
    return Gsm8kTask(split, seeded_subset(problems, max_examples, seed), tuple(bad))
