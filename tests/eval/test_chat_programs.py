"""Evaluating a task whose replies are programs: together, in the sandbox, in the order asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from aquachat.eval.chat import evaluate_task
from aquachat.infer.types import Completion, SamplingParams
from aquachat.tasks.base import Example, Grade
from aquachat.tasks.humaneval import FunctionProblem, HumanEvalTask
from aquachat.tasks.sandbox.runner import sandbox_capabilities
from aquachat.tasks.sandbox.types import SandboxLimits
from aquachat.text.render import StopReason
from tests.eval.engines import RENDERER, TOKENIZER
from tests.tasks.hostile_programs import (
    ENTRY_POINT,
    EXHAUSTING,
    HOSTILE,
    PROMPT,
    SOLUTION,
    TESTS,
    Targets,
)

pytestmark = pytest.mark.skipif(
    sandbox_capabilities({}).isolation == "none", reason="this machine cannot isolate programs"
)
PROBLEMS = [
    FunctionProblem(
        id=f"humaneval/test/{number}",
        prompt=f'def plus(x):\n    """Add {number}."""\n',
        entry_point="plus",
        solution=f"    return x + {number}\n",
        tests=f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
    )
    for number in range(4)
]


class CountingTask(HumanEvalTask):
    """Counts how often it is asked to grade together."""

    calls = 0

    def grade_many(self, replies: Sequence[tuple[Example, str]]) -> list[Grade]:
        self.calls += 1
        return super().grade_many(replies)


class WritingEngine:
    """Replies with what a function of (question, sample) says."""

    context_tokens = 10_000

    def __init__(self, write: Callable[[int, int], str]) -> None:
        self._write = write

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        on_finished: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        return [
            [self._completion(self._write(number, k)) for k in range(params.num_samples)]
            for number in range(len(prompts))
        ]

    def _completion(self, text: str) -> Completion:
        ids = (*TOKENIZER.encode_ordinary(text), RENDERER.assistant_end_id)
        return Completion(ids, (0.0,) * len(ids), (True,) * len(ids), StopReason.STOP)

    def next_logits(self, prompts: object, candidates: object) -> object:
        raise AssertionError("programs are not letters")


def test_an_oracle_scores_all_and_a_wrong_program_nothing() -> None:
    task = CountingTask("test", PROBLEMS)
    golds = [task[index].conversation.messages[-1].text for index in range(len(task))]
    right = evaluate_task(WritingEngine(lambda number, _: golds[number]), RENDERER, task)
    assert (right.accuracy, right.num_scored, right.invalid) == (1.0, 4, 0.0)
    assert {row.answer for row in right.predictions} == {"passed"}
    shifted = evaluate_task(WritingEngine(lambda number, _: golds[number - 1]), RENDERER, task)
    assert (shifted.accuracy, {row.answer for row in shifted.predictions}) == (0.0, {"failed"})
    silent = evaluate_task(WritingEngine(lambda *_: ""), RENDERER, task)
    assert (silent.accuracy, silent.invalid) == (0.0, 1.0)
    assert task.calls == 3


def test_every_sample_keeps_its_own_grade() -> None:
    task = HumanEvalTask("test", PROBLEMS, limits=SandboxLimits(wall_s=5.0, cpu_s=1))
    golds = [problem.solution for problem in PROBLEMS]
    engine = WritingEngine(lambda number, k: golds[number] if k == number else "    return None")
    result = evaluate_task(engine, RENDERER, task, num_samples=4, temperature=1.0)
    assert [row.sample for row in result.predictions if row.correct] == [0, 1, 2, 3]
    assert result.pass_at_k[1] == pytest.approx(0.25)
    assert result.pass_at_k[4] == 1.0


FEW = ("fork bomb", "memory bomb", "endless output", "infinite loop")
"""Of the programs that use up all that they are given; the long form tries each."""


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            [name for name in HOSTILE if name not in EXHAUSTING or name in FEW], id="most"
        ),
        pytest.param(list(HOSTILE), id="all", marks=pytest.mark.long),
    ],
)
def test_evaluation_survives_hostile_replies_and_grades_each_wrong(
    tmp_path: Path, names: list[str]
) -> None:
    targets = Targets(tmp_path, 2**22 + 1, 1, tmp_path / "socket", 99)
    programs = [targets.format(HOSTILE[name]) for name in names]
    replies = [f"```python\n{source}\n```" for source in (*programs, SOLUTION)]
    task = HumanEvalTask(
        "test",
        [FunctionProblem("humaneval/test/1", PROMPT, ENTRY_POINT, "    return a + b\n", TESTS)],
        limits=SandboxLimits(wall_s=2.0, cpu_s=1, memory_bytes=200 * 2**20),
    )
    engine = WritingEngine(lambda _, k: replies[k])
    result = evaluate_task(
        engine, RENDERER, task, num_samples=len(replies), temperature=1.0, max_new_tokens=10**6
    )
    assert result.num_replies == len(names) + 1
    assert [row.sample for row in result.predictions if row.correct] == [len(names)]
    assert list(tmp_path.iterdir()) == []
