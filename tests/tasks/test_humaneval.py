from __future__ import annotations

import gzip
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import DataError, PreflightError
from aquachat.tasks import humaneval
from aquachat.tasks.base import Example, Grade, grade_all
from aquachat.tasks.humaneval import (
    INSTRUCTION,
    FunctionProblem,
    HumanEvalTask,
    load_humaneval,
    read_function_row,
)
from aquachat.tasks.rows import RowReason
from aquachat.tasks.sandbox import runner
from aquachat.tasks.sandbox.runner import run_tests, sandbox_capabilities
from aquachat.tasks.sandbox.types import SandboxLimits, SandboxResult
from tests.tasks.hostile_programs import FORGING

pytestmark = pytest.mark.skipif(
    sandbox_capabilities({}).isolation == "none", reason="this machine cannot isolate programs"
)
ADD = FunctionProblem(
    id="humaneval/test/1",
    prompt='def add(a, b):\n    """Add two numbers.\n\n    >>> add(1, 2)\n    3\n    """\n',
    entry_point="add",
    solution="    return a + b\n",
    tests="def check(f):\n    assert f(1, 2) == 3\n    assert f(2, 2) == 4\n",
)
GUESSES = SandboxLimits(wall_s=5.0, cpu_s=1)


def _row(problem: FunctionProblem) -> dict[str, str]:
    return {
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "canonical_solution": problem.solution,
        "test": problem.tests,
    }


@pytest.fixture
def task() -> HumanEvalTask:
    return HumanEvalTask("test", [ADD], limits=GUESSES)


def test_prompt_is_the_row_and_an_instruction(task: HumanEvalTask) -> None:
    user, reply = (message.text for message in task[0].conversation.messages)
    assert user == f"{ADD.prompt.rstrip()}\n\n{INSTRUCTION}"
    assert reply == f"```python\n{ADD.prompt}    return a + b\n```"
    assert task[0].answer == "passed"


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```", Grade(True, "passed", 1.1)),
        ("    return sum((a, b))", Grade(True, "passed", 1.1)),
        ("    return a * b", Grade(False, "failed", 0.1)),
        ("    return 3", Grade(False, "failed", 0.1)),
        ("    return a +", Grade(False, "failed", 0.1)),
        ("    while True: pass", Grade(False, "timeout", 0.1)),
        ("    return [0] * 10**10", Grade(False, "memory", 0.1)),
        ("    while True: print('x' * 1000)", Grade(False, "output", 0.1)),
        ("    import ctypes; ctypes.string_at(0)", Grade(False, "killed", 0.1)),
        ("", Grade(False, None, 0.0)),
        (ADD.prompt, Grade(False, None, 0.0)),
        (f"{ADD.prompt}\n\n{INSTRUCTION}", Grade(False, None, 0.0)),
        ("Answer: 3", Grade(False, None, 0.0)),
    ],
)
def test_reply_is_graded_by_running_its_tests(
    task: HumanEvalTask, reply: str, grade: Grade
) -> None:
    assert task.grade(task[0], reply) == grade


def test_forged_programs_are_graded_wrong(task: HumanEvalTask) -> None:
    replies = [(task[0], f"```python\n{source}\n```") for source in FORGING.values()]
    grades = grade_all(task, replies)
    assert not any(grade.correct for grade in grades)


def test_grading_together_is_grading_one_by_one(task: HumanEvalTask) -> None:
    replies = [(task[0], reply) for reply in ("    return a + b", "    return a", "", "    return")]
    assert grade_all(task, replies) == [task.grade(*pair) for pair in replies]
    assert [grade.correct for grade in task.grade_many(replies)] == [True, False, False, False]


def test_reply_of_any_length_is_graded(task: HumanEvalTask) -> None:
    assert task.grade(task[0], "    return " + "1" * 10**6) == Grade(False, "refused", 0.1)


def test_fault_of_the_machine_is_no_grade(
    task: HumanEvalTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [SandboxResult("refused", detail="no more processes"), SandboxResult("killed")]

    def failing(*arguments: str, **options: Any) -> SandboxResult:
        return faults.pop() if faults else run_tests(*arguments, **options)

    monkeypatch.setattr(humaneval, "run_tests", failing)
    assert task.grade(task[0], "    return a + b").correct
    faults += [SandboxResult("refused", detail="no more processes")] * 3
    with pytest.raises(PreflightError, match="no more processes"):
        task.grade(task[0], "    return a + b")


def test_row_that_lacks_something_is_rejected_with_its_reason() -> None:
    row = _row(ADD)
    assert read_function_row(row, "humaneval/test/1") == ADD
    assert read_function_row({**row, "prompt": " "}, "x") is RowReason.MISSING_QUESTION
    assert read_function_row({**row, "entry_point": "a b"}, "x") is RowReason.MISSING_ANSWER
    assert read_function_row({**row, "test": "assert 1"}, "x") is RowReason.MISSING_ANSWER


def test_file_without_a_function_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"question": "no"}) + "\n")
    with pytest.raises(DataError, match="line 1: missing_question"):
        load_humaneval(path)


def test_machine_without_isolation_is_refused_before_any_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(_row(ADD)) + "\n")
    monkeypatch.setattr(runner, "this_machine", lambda: "")
    monkeypatch.delenv(runner.ALLOW_UNSANDBOXED, raising=False)
    runner._probe.cache_clear()
    try:
        with pytest.raises(PreflightError, match="cannot isolate"):
            load_humaneval(path)
    finally:
        runner._probe.cache_clear()


@pytest.fixture
def real_task(real_data: Path) -> HumanEvalTask:
    task = load_humaneval(real_data / "humaneval" / "HumanEval.jsonl.gz")
    assert (len(task), task.rejected) == (164, ())
    return task


def test_every_real_solution_passes_and_every_question_does_not(real_task: HumanEvalTask) -> None:
    examples = [real_task[index] for index in range(len(real_task))]
    golds = [(example, example.conversation.messages[-1].text) for example in examples]
    grades = real_task.grade_many(golds)
    assert [e.id for e, grade in zip(examples, grades, strict=True) if not grade.correct] == []
    for example, problem in zip(examples, real_task.problems, strict=True):
        for reply in ("", problem.prompt, example.conversation.messages[0].text):
            assert real_task.grade(example, reply) == Grade(False, None, 0.0), example.id


def _forms(problem: FunctionProblem) -> Iterator[str]:
    """The solution in the forms that models reply in."""
    whole, body = problem.prompt + problem.solution, problem.solution
    yield whole
    function = whole[whole.index(f"def {problem.entry_point}") :]
    yield f"Here you go.\n```python\n{function}\n```\nBye."
    yield f"```python\n{whole}"
    yield body
    yield f"{body}\nThis works because it does.\n"
    yield body.strip()
    yield textwrap.dedent(body)
    yield f"Here is the function.\n\n{whole}\n\nIt is right.\nprint({problem.entry_point}(1))\n"
    yield f"The code:\n\n{textwrap.indent(whole, '    ')}\n\nDone."


@pytest.mark.long
def test_every_real_solution_passes_in_every_form(real_task: HumanEvalTask) -> None:
    asked: list[tuple[Example, str]] = [
        (real_task[index], form)
        for index, problem in enumerate(real_task.problems)
        for form in _forms(problem)
    ]
    wrong = [
        (example.id, form)
        for (example, form), grade in zip(asked, real_task.grade_many(asked), strict=True)
        if not grade.correct
    ]
    assert wrong == []


@pytest.mark.long
def test_every_real_solution_passes_without_namespaces(real_data: Path) -> None:
    path = real_data / "humaneval" / "HumanEval.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        row = json.loads(line)
        for solution, outcome in ((row["canonical_solution"], "ok"), ("", "failed")):
            result = run_tests(
                row["prompt"] + solution,
                row["entry_point"],
                row["test"],
                preamble=row["prompt"],
                isolation="seccomp",
            )
            assert result.outcome == outcome, row["task_id"]
