"""CORE: what a base model knows, without a chat format, over the tasks whose rows are present.

The protocol is that of DCLM (arXiv:2406.11794) as nanochat runs it; `docs/core.md` has the details.
A score over fewer than all tasks is another quantity and has another name.
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final, Protocol, cast

from aquachat.errors import ConfigError, MissingFileError
from aquachat.eval.centred import CentredScore, CentredTask
from aquachat.eval.core_prompts import CoreQuestion, PromptMaker, PromptTokenizer
from aquachat.eval.core_tasks import (
    LETTERS,
    PREPARE_HINT,
    ROWS_DIR,
    CoreItem,
    CoreTask,
    TaskKind,
    read_items,
    read_tasks,
)
from aquachat.eval.predictions import Prediction
from aquachat.eval.results import EvalResult, recompute
from aquachat.infer.scoring import ContinuationScore, ScoringRequest
from aquachat.text.render import StopReason
from aquachat.world import World

CORE: Final = "CORE"
CORE_PROTOCOL: Final = "core"

Progress = Callable[[str, int, int], None]
"""(task, questions done, questions in all) of this process."""


class Scorer(Protocol):
    """What CORE asks of a model; `infer.scoring.ContinuationScorer` is one."""

    @property
    def context_tokens(self) -> int:
        """The most tokens of a prefix and a continuation together."""
        ...

    def score(
        self,
        requests: Sequence[ScoringRequest],
        on_scored: Callable[[int], None] | None = None,
    ) -> list[list[ContinuationScore]]:
        """The scores of every continuation, in the order given."""
        ...


class CoreTokenizer(PromptTokenizer, Protocol):
    """What CORE needs of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids -> text."""
        ...


@dataclass(frozen=True, slots=True)
class CoreTaskResult:
    """What a model scored on one task."""

    task: CoreTask
    result: EvalResult

    @property
    def centred_task(self) -> CentredTask:
        """The part of the score."""
        result = self.result
        return CentredTask(
            self.task.label,
            result.accuracy,
            result.ci95,
            self.task.baseline,
            result.num_scored,
            CORE_PROTOCOL,
        )


@dataclass(frozen=True, slots=True)
class CoreResult:
    """The score and what it is made of."""

    tasks: tuple[CoreTaskResult, ...]
    absent: tuple[str, ...]
    """Labels of `core.yaml` whose rows are not there."""

    @property
    def score(self) -> CentredScore:
        """CORE where nothing is absent, else a partial score under another name."""
        return CentredScore(CORE, tuple(each.centred_task for each in self.tasks), self.absent)


def evaluate_core(
    scorer: Scorer,
    tokenizer: CoreTokenizer,
    directory: Path,
    *,
    label: str | None = None,
    max_examples: int | None = None,
    world: World | None = None,
    progress: Progress | None = None,
) -> CoreResult:
    """Ask the questions of all tasks that are present, shared over the processes.

    Args:
        scorer: the model.
        tokenizer: the model's.
        directory: the bundle: `core.yaml`, `eval_meta_data.csv`, `eval_data/`.
        label: ask this task alone; None for all.
        max_examples: of each task, the same ones every time; None for all.
        world: the processes; None for this one alone.
        progress: called as questions are scored.

    Raises:
        MissingFileError: there is no bundle, or it has the rows of no task.
        DataError: a file of it cannot be used.
        ConfigError: no task has that label.
    """
    tasks = read_tasks(directory)
    asked = tasks if label is None else [_task_of(label, tasks)]
    present = [task for task in asked if task.is_present]
    if not present:
        raise MissingFileError(
            f"`{directory / ROWS_DIR}` has no rows of "
            f"{'any task of CORE' if label is None else f'`{label}`'}",
            hint=PREPARE_HINT,
        )
    return CoreResult(
        tuple(
            evaluate_core_task(
                scorer,
                tokenizer,
                task,
                read_items(task),
                max_examples=max_examples,
                world=world,
                progress=progress,
            )
            for task in present
        ),
        tuple(task.label for task in tasks if task not in present),
    )


def _task_of(label: str, tasks: Sequence[CoreTask]) -> CoreTask:
    found = {task.label: task for task in tasks}
    if label not in found:
        closest = difflib.get_close_matches(label, found, n=1, cutoff=0.0)
        raise ConfigError(
            f"CORE has no task `{label}`", hint=f"did you mean `--task CORE/{closest[0]}`?"
        )
    return found[label]


def evaluate_core_task(
    scorer: Scorer,
    tokenizer: CoreTokenizer,
    task: CoreTask,
    items: Sequence[CoreItem],
    *,
    max_examples: int | None = None,
    world: World | None = None,
    progress: Progress | None = None,
) -> CoreTaskResult:
    """Ask the questions of one task; `items` are all its rows, as `read_items` orders them."""
    started = time.perf_counter()
    num_asked = min(max_examples or len(items), len(items))
    maker = PromptMaker(tokenizer, task, items, num_asked, scorer.context_tokens)
    rank, size = (world.rank, world.size) if world is not None else (0, 1)
    asked = range(rank, num_asked, size)
    questions = [maker.question(index) for index in asked]
    scores = _score(scorer, task, questions, progress)
    own = [
        _prediction(tokenizer, task, items[index], question, options)
        for index, question, options in zip(asked, questions, scores, strict=True)
    ]
    result = recompute(
        _gathered(own, world),
        task=CORE,
        split=task.label,
        protocol=CORE_PROTOCOL,
        seconds=time.perf_counter() - started,
    )
    return CoreTaskResult(task, result)


def _score(
    scorer: Scorer,
    task: CoreTask,
    questions: Sequence[CoreQuestion],
    progress: Progress | None,
) -> list[list[ContinuationScore]]:
    """The options' scores of each question."""
    requests = [request for question in questions for request in question.requests]

    def report(num_scored: int) -> None:
        if progress is not None:
            progress(task.label, num_scored * len(questions) // len(requests), len(questions))

    scores = iter(scorer.score(requests, report))
    return [[score for _ in question.requests for score in next(scores)] for question in questions]


def likeliest_option(options: Sequence[ContinuationScore]) -> int:
    """The option whose scored tokens cost fewest nats each; the first of equal ones.

    An option that is the beginning of all others has no token of its own. As in the published
    program, where its mean is no number, it is chosen only where it comes first. The text of an
    option begins all others in 5 of PIQA's 1,838 questions.
    """
    if not options[0].num_tokens:
        return 0
    costs = [mean_nats(option) for option in options]
    return costs.index(min(costs))


def mean_nats(option: ContinuationScore) -> float:
    """Nats a scored token; infinite without any."""
    return option.nats / option.num_tokens if option.num_tokens else math.inf


def _prediction(
    tokenizer: CoreTokenizer,
    task: CoreTask,
    item: CoreItem,
    question: CoreQuestion,
    options: Sequence[ContinuationScore],
) -> Prediction:
    choices: tuple[str, ...] = ()
    probabilities: dict[str, float] | None = None
    if task.kind is TaskKind.LANGUAGE_MODELING:
        (only,) = options
        correct, gold = only.is_greedy, item.continuations[0]
        reply = tokenizer.decode(only.greedy).strip()
        answer = gold if correct else reply
    else:
        chosen = likeliest_option(options)
        choices = tuple(LETTERS[: len(options)])
        correct, gold, answer = chosen == item.gold, choices[item.gold], choices[chosen]
        reply = (item.contexts if task.kind is TaskKind.SCHEMA else item.continuations)[chosen]
        probabilities = dict(zip(choices, _shares(options), strict=True))
    return Prediction(
        id=f"core/{task.label}/{item.line_number}",
        question=item.contexts[0] if len(item.contexts) == 1 else item.continuations[0],
        gold=gold,
        choices=choices,
        answer=answer,
        correct=correct,
        reward=float(correct),
        reply=reply,
        finish=str(StopReason.STOP),
        num_prompt_tokens=question.num_tokens,
        num_tokens=sum(option.num_tokens for option in options),
        probabilities=probabilities,
        attributes={"cut_tokens": question.num_cut, "nats_per_token": _shown(options)},
    )


def _shares(options: Sequence[ContinuationScore]) -> list[float]:
    """The options' softmax over minus their mean nats."""
    costs = [mean_nats(option) for option in options]
    least = min(costs)
    if math.isinf(least):
        return [1 / len(costs)] * len(costs)
    weights = [math.exp(least - cost) for cost in costs]
    return [weight / sum(weights) for weight in weights]


def _shown(options: Sequence[ContinuationScore]) -> str:
    """Six digits of each option's mean, `-` where it has none."""
    costs = [mean_nats(option) for option in options]
    return " ".join("-" if math.isinf(cost) else f"{cost:.6g}" for cost in costs)


def _gathered(own: list[Prediction], world: World | None) -> list[Prediction]:
    """The predictions of all processes in the order of the questions."""
    if world is None:
        return own
    shares = cast(list[list[Prediction]], world.gather_objects(own))
    rounds = zip_longest(*shares)
    return [row for rows in rounds for row in rows if row is not None]
