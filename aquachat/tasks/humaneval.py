"""HUMANEVAL: Python functions to be written from their description, graded by running tests.

Chen and others: Evaluating Large Language Models Trained on Code (2021), arXiv 2107.03374. A row is
`{"task_id", "prompt", "entry_point", "canonical_solution", "test"}`; `test` defines
`check(candidate)`. Programs run in the sandbox of `aquachat.tasks.sandbox`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aquachat.errors import PreflightError
from aquachat.tasks.base import Example, Grade, ScoringProtocol
from aquachat.tasks.choice_task import seeded_subset
from aquachat.tasks.multiple_choice import CORRECT_REWARD, VALID_ANSWER_REWARD
from aquachat.tasks.program_text import find_program
from aquachat.tasks.row_files import usable_rows
from aquachat.tasks.rows import RejectedRow, RowReason
from aquachat.tasks.sandbox.runner import MAX_SOURCE_CHARS, require_sandbox, run_tests
from aquachat.tasks.sandbox.types import SandboxLimits, SandboxResult
from aquachat.text.conversation import Conversation, Role, text_message

INSTRUCTION = "Complete the function. Reply with the whole function in a code block."
MAX_ATTEMPTS = 3
PASSED = "passed"
"""The answer of a reply whose program passed its tests; of any other it is how it ended."""


@dataclass(frozen=True, slots=True)
class FunctionProblem:
    """A function to be written: its head and description, a solution, and its tests."""

    id: str
    prompt: str
    entry_point: str
    solution: str
    tests: str


class HumanEvalTask:
    """Functions graded by their tests, in the sandbox."""

    protocols: frozenset[ScoringProtocol] = frozenset({"generative"})

    def __init__(
        self,
        split: str,
        problems: Sequence[FunctionProblem],
        rejected: Sequence[RejectedRow] = (),
        limits: SandboxLimits | None = None,
    ) -> None:
        self.name = "HUMANEVAL"
        self.split = split
        self.problems = tuple(problems)
        self.rejected = tuple(rejected)
        self._limits = limits or SandboxLimits()
        self._by_id = {problem.id: problem for problem in self.problems}

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Example:
        problem = self.problems[index]
        return Example(problem.id, function_conversation(problem), answer=PASSED)

    def grade(self, example: Example, reply: str) -> Grade:
        """1.0 for a program that passes all tests, plus 0.1 for a program at all.

        Raises:
            PreflightError: the sandbox refused to run it; a grade would say nothing.
        """
        problem = self._by_id[example.id]
        program = find_program(reply, problem.prompt, problem.entry_point)
        if program is None:
            return Grade(False, None, 0.0)
        if len(program) > MAX_SOURCE_CHARS:
            return Grade(False, "refused", VALID_ANSWER_REWARD)
        result = self._run(problem, program)
        if result.outcome == "ok":
            return Grade(True, PASSED, CORRECT_REWARD + VALID_ANSWER_REWARD)
        return Grade(False, result.outcome, VALID_ANSWER_REWARD)

    def _run(self, problem: FunctionProblem, program: str) -> SandboxResult:
        """Run it, again where the machine and not the program was at fault (no process, no memory).

        Such a fault is never the program's doing: it happens before it starts, or ends its
        supervisor, which it cannot reach.
        """
        for _ in range(MAX_ATTEMPTS):
            result = run_tests(
                program,
                problem.entry_point,
                problem.tests,
                preamble=problem.prompt,
                limits=self._limits,
            )
            if result.exit_code is not None:
                return result
        raise PreflightError(
            f"the sandbox could not run a reply to {problem.id}: {result.detail}",
            hint="see `docs/tasks.md` for what the sandbox needs, and free some memory",
        )

    def grade_many(self, replies: Sequence[tuple[Example, str]]) -> list[Grade]:
        """The grade of each (example, reply), several sandboxes at a time."""
        pool = ThreadPoolExecutor(max_workers=num_processors(), thread_name_prefix="grade")
        try:
            return list(pool.map(lambda pair: self.grade(*pair), replies))
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C only those that run are waited for


def num_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def function_conversation(problem: FunctionProblem) -> Conversation:
    """The problem asked and answered with its own solution, the whole function in a block."""
    prompt = problem.prompt.strip()
    user = text_message(Role.USER, f"{prompt}\n\n{INSTRUCTION}")
    code = f"```python\n{prompt}\n{problem.solution.rstrip()}\n```"
    return Conversation((user, text_message(Role.ASSISTANT, code)))


def read_function_row(row: Mapping[str, object], item_id: str) -> FunctionProblem | RowReason:
    """The problem of a row, or what is wrong with it; a solution may be missing."""
    fields = [row.get(key) for key in ("prompt", "entry_point", "test")]
    prompt, entry_point, tests = fields
    if not isinstance(prompt, str) or not prompt.strip():
        return RowReason.MISSING_QUESTION
    if not isinstance(entry_point, str) or not entry_point.isidentifier():
        return RowReason.MISSING_ANSWER
    if not isinstance(tests, str) or "def check" not in tests:
        return RowReason.MISSING_ANSWER
    solution = row.get("canonical_solution")
    solution = solution if isinstance(solution, str) else ""
    return FunctionProblem(item_id, prompt, entry_point, solution, tests)


def load_humaneval(
    path: Path,
    split: str = "test",
    *,
    seed: int = 0,
    max_examples: int | None = None,
    limits: SandboxLimits | None = None,
) -> HumanEvalTask:
    """The problems of a file of rows; ids read `humaneval/<split>/<line>`.

    Raises:
        PreflightError: this machine cannot isolate programs; said here, not after hours of replies.
        MissingFileError: there is no such file.
        DataError: the file has no usable row.
    """
    require_sandbox("HUMANEVAL")
    problems, bad = usable_rows(
        path,
        lambda row: read_function_row(row.value, f"humaneval/{split}/{row.line_number}"),
        what="a function to write",
        hint="a row needs `prompt`, `entry_point` and a `test` that defines `check`",
    )
    return HumanEvalTask(split, seeded_subset(problems, max_examples, seed), bad, limits)
