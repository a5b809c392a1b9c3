"""Evaluation of the checkpoints of a run: results, predictions, and paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

from aquachat.config.recipes import EvalRecipe
from aquachat.errors import ConfigError, MissingFileError
from aquachat.eval.chat import EvalResult, compare, evaluate_task
from aquachat.eval.predictions import write_predictions
from aquachat.files import write_json
from aquachat.infer.engine import Engine, generation_dtype
from aquachat.pipeline.context import RunContext
from aquachat.pipeline.scores import asked_tasks, chatcore_score, measure_base_tasks
from aquachat.tasks.base import Task
from aquachat.tasks.synthetic_task import synthetic_task
from aquachat.text.render import ChatRenderer
from aquachat.train.lineage import Origin, find_origin, load_model

PROTOCOLS = ("generative", "categorical")


class ProgressBar(Protocol):
    """The part of a progress bar that evaluation uses."""

    def update(
        self,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
    ) -> None:
        """Set what is done, what there is to do, or what is being done."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """One result, and what it is a result of."""

    origin: Origin
    result: EvalResult

    def to_json(self) -> dict[str, Any]:
        """An entry of `results`."""
        return {
            "stage": self.origin.stage,
            "checkpoint": self.origin.name,
            **self.result.to_json(),
        }


def evaluate_run(
    context: RunContext, progress: ProgressBar, *, every_stage: bool = True
) -> dict[str, Any]:
    """Evaluate the checkpoints that the recipe names on its tasks, and write every result.

    Args:
        context: the run; its recipe's `eval` section says what is measured.
        progress: shows how far it is.
        every_stage: leave out stages that the run does not have, instead of failing.

    Returns:
        The document of `aquachat eval --json`.

    Raises:
        MissingFileError: no checkpoint, or a task's rows are not prepared.
        ConfigError: a task, split or protocol has no such name.
    """
    recipe = context.recipe.eval
    check_protocols(recipe)
    origins = _origins(context, recipe.stages, skip_missing=every_stage)
    asked = asked_tasks(recipe, partial(_task, context))
    jobs = [(origin, task, protocol) for origin in origins for task, protocol in asked]
    scored: list[Scored] = []
    loaded_from: Origin | None = None
    for number, (origin, task, protocol) in enumerate(jobs):
        progress.update(
            completed=number,
            total=len(jobs),
            description=f"eval {origin.name} on {task.name}/{task.split}, {protocol}",
        )
        if origin != loaded_from:
            engine, renderer = _engine(context, origin)
            loaded_from = origin
        result = evaluate_task(
            engine,
            renderer,
            task,
            protocol=protocol,
            option_orders=recipe.option_orders or None,
            num_samples=recipe.num_samples,
            temperature=recipe.temperature,
            max_new_tokens=recipe.max_new_tokens,
            seed=context.recipe.run.seed,
            world=context.world,
        )
        scored.append(Scored(origin, result))
        _write(context, scored[-1])
    progress.update(completed=len(jobs), total=len(jobs))
    losses, scores = _measure_base(context, origins, scored, progress)
    document: dict[str, Any] = {
        "run": context.run,
        "results": [*(entry.to_json() for entry in scored), *losses],
        "comparisons": comparisons(scored),
    }
    return document | ({"scores": scores} if scores else {})


def _measure_base(
    context: RunContext, origins: Sequence[Origin], scored: list[Scored], progress: ProgressBar
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """CORE, whose results join `scored`, bits per byte, and the scores over several tasks.

    Returns:
        Entries of `results` that have no accuracy, and entries of `scores`.
    """
    losses: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for origin in origins:

        def describe(part: str, name: str = origin.name) -> None:
            progress.update(description=f"eval {name} on {part}")

        measured, entries = measure_base_tasks(context, origin.name, origin, describe)
        for result in measured.results:
            scored.append(Scored(origin, result))
            _write(context, scored[-1])
        losses += measured.losses
        own = [entry.result for entry in scored if entry.origin == origin]
        scores += [*entries, *chatcore_score(context, origin.name, origin, own)]
    return losses, scores


def check_protocols(recipe: EvalRecipe) -> None:
    """Raise ConfigError where a protocol has no such name."""
    for protocol in recipe.protocols:
        if protocol not in PROTOCOLS:
            raise ConfigError(
                f"there is no protocol `{protocol}`", hint=f"use {' or '.join(PROTOCOLS)}"
            )


def comparisons(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The paired difference of each two checkpoints on the same task, split and protocol."""
    groups: dict[tuple[str, str, str], list[Scored]] = {}
    for entry in scored:
        key = (entry.result.task, entry.result.split, entry.result.protocol)
        groups.setdefault(key, []).append(entry)
    found = []
    for (task, split, protocol), entries in groups.items():
        for a, b in combinations(entries, 2):
            for name, difference in compare(a.result, b.result).items():
                found.append(
                    {
                        "task": task,
                        "split": split,
                        "protocol": protocol,
                        "tier": name,
                        "a": a.origin.name,
                        "b": b.origin.name,
                        **difference.to_json(),
                    }
                )
    return found


def _stem(result: Mapping[str, Any]) -> str:
    """File name of a result, for example `sft@200-SYNTHETIC-new_numbers-generative`."""
    return "-".join(str(result[key]) for key in ("checkpoint", "task", "split", "protocol"))


def _write(context: RunContext, scored: Scored) -> None:
    if not context.world.is_main:
        return
    folder = context.home.evals(context.run)
    folder.mkdir(parents=True, exist_ok=True)
    document = scored.to_json()
    stem = _stem(document)
    write_predictions(folder / f"{stem}.predictions.jsonl", scored.result.predictions)
    write_json(folder / f"{stem}.json", {"run": context.run, **document})


def _origins(context: RunContext, references: Sequence[str], *, skip_missing: bool) -> list[Origin]:
    found: list[Origin] = []
    problem: MissingFileError | None = None
    for reference in references:
        try:
            found.append(find_origin(reference, context.home, context.run))
        except MissingFileError as error:
            if not skip_missing:
                raise
            problem = error
    if not found:
        assert problem is not None
        raise problem
    return found


def _task(context: RunContext, reference: str) -> Task:
    """The task that `TASK` or `TASK/split` names; a path to rows is taken whole."""
    recipe = context.recipe.eval
    limit = recipe.max_examples or None
    if Path(reference).suffix:
        return context.folders.task(reference, max_examples=limit)
    name, _, split = reference.partition("/")
    if name.upper() == "SYNTHETIC":
        count = limit or context.recipe.prepare.synthetic_eval_rows
        return synthetic_task(split or "new_numbers", count=count)
    return context.folders.task(name, split or None, max_examples=limit)


def _engine(context: RunContext, origin: Origin) -> tuple[Engine, ChatRenderer]:
    world = context.world
    loaded = load_model(origin, world.device)
    dtype = generation_dtype(loaded.model.config, world.device, world.dtype)
    engine = Engine(loaded.model, loaded.tokenizer, device=world.device, dtype=dtype)
    return engine, ChatRenderer(loaded.tokenizer)


def sample_answers(
    context: RunContext, document: Mapping[str, Any], count: int = 3
) -> list[dict[str, Any]]:
    """The replies of the last evaluated checkpoint to the first questions, as they were graded."""
    from aquachat.eval.predictions import read_predictions

    results = [r for r in document.get("results", []) if r["protocol"] == "generative"]
    if not results:
        return []
    last = results[-1]
    same = [r for r in results if r["checkpoint"] == last["checkpoint"]]
    name = f"{_stem(same[0])}.predictions.jsonl"
    rows = read_predictions(context.home.evals(context.run) / name)
    return [row.to_json() for row in rows if row.order == 0 and row.sample == 0][:count]
