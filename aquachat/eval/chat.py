"""Asking a model the questions of a task and grading what it answers, by either protocol.

Generative: the model writes a reply, calculator and all, and the task grades its text.
Categorical: the letters are compared as the token after the prompt and `Answer:`.

A multiple-choice question is asked in every cyclic order of its options, so that preferring a
letter earns nothing: a model that always says A scores one in five exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Protocol, cast

from torch import Tensor

from aquachat.errors import ConfigError
from aquachat.eval.predictions import Prediction
from aquachat.eval.results import EvalResult, compare, recompute
from aquachat.infer.types import Completion, SamplingParams
from aquachat.tasks.base import Example, Grade, ScoringProtocol, Task, grade_all
from aquachat.tasks.multiple_choice import choice_conversation, rotate
from aquachat.text.answer import answer_line
from aquachat.text.conversation import Conversation, Role
from aquachat.text.render import ChatRenderer, Reply, StopReason
from aquachat.world import World

__all__ = ["AnswerEngine", "EvalResult", "compare", "evaluate_task"]

Progress = Callable[[int, int], None]
"""(rows done, rows in all) of this process."""


class AnswerEngine(Protocol):
    """What evaluation asks of an engine; `infer.engine.Engine` is one."""

    @property
    def context_tokens(self) -> int:
        """The most tokens of prompt and reply together."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        on_finished: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """Continue each prompt `params.num_samples` times."""
        ...

    def next_logits(self, prompts: Sequence[Sequence[int]], candidates: Sequence[int]) -> Tensor:
        """Logits (prompts, candidates) of the token after each prompt."""
        ...


@dataclass(frozen=True, slots=True)
class _Row:
    """A question in one option order."""

    example: Example
    order: int
    prompt: list[int]


def evaluate_task(
    engine: AnswerEngine,
    renderer: ChatRenderer,
    task: Task,
    *,
    protocol: ScoringProtocol | str = "generative",
    option_orders: int | None = None,
    num_samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    seed: int = 0,
    world: World | None = None,
    progress: Progress | None = None,
) -> EvalResult:
    """Ask all questions of a task, share them over the processes, and gather the result on each.

    `protocol` is `generative` or `categorical`. Each question is asked in `option_orders` cyclic
    orders of its options, None being all of them, and answered `num_samples` times in each
    (generative only). `temperature` 0 is greedy. A reply depends on `seed` and its prompt, not on
    how the questions are shared. `progress` is called as replies are finished.

    Raises:
        ConfigError: there is no such protocol, or greedy samples would all be the same.
    """
    started = time.perf_counter()
    _check(task, protocol, option_orders, num_samples, temperature)
    rows = _share(task, renderer, option_orders, world)
    if protocol == "categorical":
        predictions = _categorical(engine, renderer, task, rows)
    else:
        params = SamplingParams(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            num_samples=num_samples,
            seed=seed,
        )
        predictions = _generative(engine, renderer, task, rows, params, progress)
    return recompute(
        _gathered(predictions, world),
        task=task.name,
        split=task.split,
        protocol=cast(ScoringProtocol, protocol),
        num_unasked=len(getattr(task, "rejected", ())),
        seconds=time.perf_counter() - started,
    )


def _check(
    task: Task, protocol: str, option_orders: int | None, num_samples: int, temperature: float
) -> None:
    if protocol not in task.protocols:
        raise ConfigError(
            f"{task.name} cannot be scored by the `{protocol}` protocol",
            hint=f"use {' or '.join(sorted(task.protocols))}",
        )
    if option_orders is not None and option_orders < 1:
        raise ConfigError(
            f"option_orders is {option_orders}", hint="use at least 1, or none for all orders"
        )
    if num_samples > 1 and temperature == 0.0:
        raise ConfigError(
            f"{num_samples} greedy replies to a question would all be the same",
            hint="give a `--temperature` above 0, or `--num-samples 1`",
        )


def _share(
    task: Task, renderer: ChatRenderer, option_orders: int | None, world: World | None
) -> list[_Row]:
    """What this process asks: every `size`-th question, in all its orders."""
    rank, size = (world.rank, world.size) if world is not None else (0, 1)
    return [
        row
        for index in range(rank, len(task), size)
        for row in _rows_of(task[index], renderer, option_orders)
    ]


def _rows_of(example: Example, renderer: ChatRenderer, option_orders: int | None) -> list[_Row]:
    """The question in its distinct option orders; one whose options must stay has one."""
    rows = []
    for order in range(min(option_orders or len(example.choices), len(example.choices)) or 1):
        turned = _turned(example, order)
        if order == 0 or turned.item != example.item:
            prompt = renderer.prompt(turned.conversation.without_last())
            rows.append(_Row(turned, order, prompt))
    return rows


def _turned(example: Example, order: int) -> Example:
    if order == 0 or example.item is None:
        return example
    item = rotate(example.item, order)
    return replace(
        example, conversation=choice_conversation(item), answer=item.answer_letter, item=item
    )


def _generative(
    engine: AnswerEngine,
    renderer: ChatRenderer,
    task: Task,
    rows: Sequence[_Row],
    params: SamplingParams,
    progress: Progress | None,
) -> list[list[Prediction]]:
    """Predictions by question."""
    asked = [row for row in rows if len(row.prompt) < engine.context_tokens]
    total = len(asked) * params.num_samples

    def report(num_finished: int) -> None:
        if progress is not None:
            progress(num_finished, total)

    completions = engine.generate([row.prompt for row in asked], params, report)
    replies = {id(row): found for row, found in zip(asked, completions, strict=True)}
    # A question that leaves no room for a reply is answered with nothing, which is wrong.
    nothing = [Completion((), (), (), StopReason.LENGTH)] * params.num_samples
    answered = [
        (row, sample, completion, renderer.parse(completion.tokens))
        for row in rows
        for sample, completion in enumerate(replies.get(id(row), nothing))
    ]
    grades = grade_all(task, [(row.example, reply.text) for row, _, _, reply in answered])
    return _by_question(
        _graded(row, sample, completion, reply, grade)
        for (row, sample, completion, reply), grade in zip(answered, grades, strict=True)
    )


def _graded(
    row: _Row, sample: int, completion: Completion, reply: Reply, grade: Grade
) -> Prediction:
    return replace(
        _blank(row),
        sample=sample,
        answer=grade.answer,
        correct=grade.correct,
        reward=grade.reward,
        reply=reply.text,
        parts=tuple({"type": str(part.kind), "text": part.text} for part in reply.parts),
        finish=str(completion.finish),
        num_tokens=len(completion.tokens),
    )


def _categorical(
    engine: AnswerEngine, renderer: ChatRenderer, task: Task, rows: Sequence[_Row]
) -> list[list[Prediction]]:
    """Predictions by question."""
    prime = renderer.answer_prime()
    asked = [row for row in rows if len(row.prompt) + len(prime) <= engine.context_tokens]
    letters = max((row.example.choices for row in rows), key=len, default=())
    logits = engine.next_logits([row.prompt + prime for row in asked], renderer.letter_ids(letters))
    scores = {id(row): found for row, found in zip(asked, logits, strict=True)}
    return _by_question(_chosen(task, row, scores.get(id(row))) for row in rows)


def _chosen(task: Task, row: _Row, logits: Tensor | None) -> Prediction:
    if logits is None:
        return _blank(row)
    letters = row.example.choices
    probabilities = logits[: len(letters)].softmax(dim=0)
    letter = letters[int(probabilities.argmax())]
    grade = task.grade(row.example, answer_line(letter))
    return replace(
        _blank(row),
        answer=letter,
        correct=grade.correct,
        reward=grade.reward,
        reply=answer_line(letter),
        finish=str(StopReason.STOP),
        probabilities=dict(zip(letters, probabilities.tolist(), strict=True)),
    )


def _blank(row: _Row) -> Prediction:
    """No reply."""
    example = row.example
    return Prediction(
        id=example.id,
        order=row.order,
        question=_user_text(example.conversation),
        gold=example.answer,
        choices=example.choices,
        answer=None,
        correct=False,
        reward=0.0,
        reply="",
        finish=str(StopReason.LENGTH),
        num_prompt_tokens=len(row.prompt),
        attributes=dict(example.attributes),
    )


def _user_text(conversation: Conversation) -> str:
    turns = [message.text for message in conversation.messages if message.role is Role.USER]
    return turns[-1]


def _by_question(predictions: Iterable[Prediction]) -> list[list[Prediction]]:
    return [list(rows) for _, rows in groupby(predictions, key=lambda row: row.id)]


def _gathered(predictions: list[list[Prediction]], world: World | None) -> list[Prediction]:
    """The questions of all processes in the order of the task; see `_share`."""
    shares = [predictions] if world is None else world.gather_objects(predictions)
    rounds = zip_longest(*cast(list[list[list[Prediction]]], shares), fillvalue=())
    return [row for questions in rounds for rows in questions for row in rows]
