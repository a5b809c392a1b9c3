"""What `aquachat eval` measures beside single tasks: CORE, ChatCORE and bits per byte.

A score over several tasks is an entry of `scores` and a file `CHECKPOINT-NAME.score.json`; the
tasks it is made of are ordinary entries of `results`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aquachat.config.recipes import EvalRecipe
from aquachat.errors import MissingFileError, PreflightError
from aquachat.eval.centred import CentredScore
from aquachat.eval.chatcore import CHATCORE, CHATCORE_TASKS, chatcore
from aquachat.eval.results import EvalResult
from aquachat.files import write_json
from aquachat.pipeline.base_evaluation import BaseMeasures, Describe, measure_base
from aquachat.pipeline.context import RunContext
from aquachat.pipeline.names import is_base_task
from aquachat.tasks.base import ScoringProtocol, Task
from aquachat.tasks.registry import TASKS
from aquachat.train.lineage import Origin

LoadTask = Callable[[str], Task]
"""`TASK` or `TASK/split` -> the task."""


def asked_tasks(recipe: EvalRecipe, load: LoadTask) -> list[tuple[Task, ScoringProtocol]]:
    """The chat tasks of a recipe with how each is asked, `CHATCORE` taken apart; each once.

    Raises:
        MissingFileError: a task's rows are not prepared; of ChatCORE, those of all.
        ConfigError: a task or split has no such name.
    """
    found: dict[tuple[str, str, str], tuple[Task, ScoringProtocol]] = {}
    for reference in recipe.tasks:
        if is_base_task(reference):
            continue
        if is_chatcore(reference):
            pairs = _chatcore_tasks(load)
        else:
            task = load(reference)
            pairs = [(task, p) for p in _protocols_of(task, recipe.protocols)]
        for task, protocol in pairs:
            found.setdefault((task.name, task.split, protocol), (task, protocol))
    return list(found.values())


def is_chatcore(reference: str) -> bool:
    """Whether `--task REFERENCE` is ChatCORE."""
    return reference.upper() == CHATCORE


def _protocols_of(task: Task, wanted: Sequence[str]) -> list[ScoringProtocol]:
    return [known for name in wanted for known in task.protocols if known == name]


def _chatcore_tasks(load: LoadTask) -> list[tuple[Task, ScoringProtocol]]:
    """The tasks of ChatCORE that are prepared, and that this machine can grade."""
    found: list[tuple[Task, ScoringProtocol]] = []
    for name, (_, protocol) in CHATCORE_TASKS.items():
        if name in TASKS:
            with suppress(MissingFileError, PreflightError):
                found.append((load(name), protocol))
    if not found:
        names = " ".join(name.lower() for name in CHATCORE_TASKS if name in TASKS)
        raise MissingFileError(
            "no task of ChatCORE is prepared", hint=f"run `aquachat prepare {names}`"
        )
    return found


def measure_base_tasks(
    context: RunContext, checkpoint: str, origin: Origin, describe: Describe
) -> tuple[BaseMeasures, list[dict[str, Any]]]:
    """CORE and bits per byte of a checkpoint, where the recipe asks for them; kept on disk.

    Args:
        context: the run and its recipe.
        checkpoint: as results name it.
        origin: where it is.
        describe: told what is being measured.

    Returns:
        What was measured, results of CORE not yet written; and entries of `scores`.
    """
    references = [task for task in context.recipe.eval.tasks if is_base_task(task)]
    if not references:
        return BaseMeasures(), []
    measured = measure_base(context, origin, references, describe)
    names = {"stage": origin.stage, "checkpoint": checkpoint}
    measured.losses = [{**names, **loss} for loss in measured.losses]
    for loss in measured.losses:
        stem = "-".join(str(loss[key]) for key in ("checkpoint", "task", "split", "protocol"))
        _write(context, f"{stem}.json", loss)
    return measured, [_kept(context, names, score) for score in measured.scores]


def chatcore_score(
    context: RunContext, checkpoint: str, origin: Origin, results: Sequence[EvalResult]
) -> list[dict[str, Any]]:
    """ChatCORE as an entry of `scores`, where a checkpoint's results make one; kept on disk."""
    is_asked_for = any(map(is_chatcore, context.recipe.eval.tasks))
    score = chatcore(results, is_asked_for=is_asked_for)
    if score is None:
        return []
    return [_kept(context, {"stage": origin.stage, "checkpoint": checkpoint}, score)]


def _kept(context: RunContext, names: Mapping[str, str], score: CentredScore) -> dict[str, Any]:
    entry = {**names, **score.to_json()}
    _write(context, f"{names['checkpoint']}-{score.name}.score.json", entry)
    return entry


def _write(context: RunContext, name: str, document: Mapping[str, Any]) -> None:
    if context.world.is_main:
        # A checkpoint of another run has a slash in its name.
        path = context.home.evals(context.run) / name.replace("/", "~")
        write_json(path, {"run": context.run, **document})
