"""Evaluation of the checkpoints of a run: results, predictions, and paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from aquachat.config.recipes import EvalRecipe
from aquachat.errors import ConfigError, MissingFileError
from aquachat.eval.chat import EvalResult, compare, evaluate_task
from aquachat.eval.options_only import OptionsOnly
from aquachat.eval.predictions import write_predictions
from aquachat.eval.results import HARDER, compare_harder
from aquachat.eval.stats import PairedDifference, holm
from aquachat.files import write_json
from aquachat.infer.engine import Engine, generation_dtype
from aquachat.pipeline.baselines import OptionsOnlyBaselines
from aquachat.pipeline.context import RunContext
from aquachat.pipeline.progress import ProgressBar
from aquachat.pipeline.scores import asked_tasks, chatcore_score, measure_base_tasks
from aquachat.tasks.base import Task
from aquachat.tasks.synthetic_task import synthetic_task
from aquachat.text.render import ChatRenderer
from aquachat.train.lineage import Origin, find_origin, load_model

PROTOCOLS = ("generative", "categorical")
COMPARISONS_FILE = "comparisons.json"
SETTINGS = ("option_orders", "num_samples", "temperature", "max_new_tokens")
"""Keys of `[eval]` that say how questions were asked; results keep them."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One result, and what it is a result of."""

    stage: str
    checkpoint: str
    """As results name it; see `_named`."""
    task: str
    split: str
    result: EvalResult
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """An entry of `results`."""
        return {
            "stage": self.stage,
            "checkpoint": self.checkpoint,
            **self.result.to_json(),
            "settings": dict(self.settings),
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
    origins = _named(_origins(context, recipe.stages, skip_missing=every_stage), context)
    asked = asked_tasks(recipe, partial(_task, context))
    jobs = [
        (name, origin, task, protocol)
        for name, origin in origins.items()
        for task, protocol in asked
    ]
    scored: list[Scored] = []
    baselines = OptionsOnlyBaselines(
        context.folders, recipe.options_only_rows, with_places=recipe.option_orders == 1
    )
    settings = {key: getattr(recipe, key) for key in SETTINGS} | {"seed": context.recipe.run.seed}
    loaded_from: Origin | None = None
    for number, (name, origin, task, protocol) in enumerate(jobs):
        progress.update(
            completed=number,
            total=len(jobs),
            description=f"eval {name} on {task.name}/{task.split}, {protocol}",
        )
        if origin != loaded_from:
            engine, renderer = _engine(context, origin)
            loaded_from = origin
        result = _ask(context, engine, renderer, task, protocol, baselines.of(task))
        scored.append(Scored(origin.stage, name, task.name, task.split, result, settings))
        _write(context, scored[-1])
    progress.update(completed=len(jobs), total=len(jobs))
    losses, scores = _measure_base(context, origins, scored, settings, progress)
    document: dict[str, Any] = {
        "run": context.run,
        "results": [*(entry.to_json() for entry in scored), *losses],
        "comparisons": comparisons(scored),
    }
    if context.world.is_main:
        keep_comparisons(context.home.evals(context.run), context.run, document["comparisons"])
    return document | ({"scores": scores} if scores else {})


def _measure_base(
    context: RunContext,
    origins: Mapping[str, Origin],
    scored: list[Scored],
    settings: Mapping[str, Any],
    progress: ProgressBar,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """CORE, whose results join `scored`, bits per byte, and the scores over several tasks.

    Returns:
        Entries of `results` that have no accuracy, and entries of `scores`.
    """
    losses: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for name, origin in origins.items():

        def describe(part: str, name: str = name) -> None:
            progress.update(description=f"eval {name} on {part}")

        measured, entries = measure_base_tasks(context, name, origin, describe)
        for result in measured.results:
            entry = Scored(origin.stage, name, result.task, result.split, result, settings)
            scored.append(entry)
            _write(context, entry)
        losses += measured.losses
        own = [entry.result for entry in scored if entry.checkpoint == name]
        scores += [*entries, *chatcore_score(context, name, origin, own)]
    return losses, scores


def _ask(
    context: RunContext,
    engine: Engine,
    renderer: ChatRenderer,
    task: Task,
    protocol: str,
    options_only: OptionsOnly | str,
) -> EvalResult:
    """One evaluation as the recipe has it."""
    recipe = context.recipe.eval
    return evaluate_task(
        engine,
        renderer,
        task,
        protocol=protocol,
        option_orders=recipe.option_orders or None,
        num_samples=recipe.num_samples,
        temperature=recipe.temperature,
        max_new_tokens=recipe.max_new_tokens,
        seed=context.recipe.run.seed,
        options_only=options_only,
        world=context.world,
    )


def check_protocols(recipe: EvalRecipe) -> None:
    """Raise ConfigError where a protocol has no such name."""
    for protocol in recipe.protocols:
        if protocol not in PROTOCOLS:
            raise ConfigError(
                f"there is no protocol `{protocol}`", hint=f"use {' or '.join(PROTOCOLS)}"
            )


def comparisons(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The paired difference of each two checkpoints on the same task, split and protocol.

    `p_value_holm` is adjusted for the number of comparisons in the list.
    """
    groups: dict[tuple[str, str, str], list[Scored]] = {}
    for entry in scored:
        key = (entry.task, entry.split, entry.result.protocol)
        groups.setdefault(key, []).append(entry)
    return compared([pair for entries in groups.values() for pair in combinations(entries, 2)])


def compared(pairs: Sequence[tuple[Scored, Scored]]) -> list[dict[str, Any]]:
    """The entries of `comparisons` that these pairs make, each for all questions and each tier.

    A task of several splits also gets one for its harder problems, all splits together.
    """
    found = [
        _comparison(a, b, a.split, name, difference)
        for a, b in pairs
        for name, difference in compare(a.result, b.result).items()
    ]
    groups: dict[tuple[str, ...], list[tuple[Scored, Scored]]] = {}
    for a, b in pairs:
        key = (a.task, a.result.protocol, a.checkpoint, b.checkpoint)
        groups.setdefault(key, []).append((a, b))
    for group in groups.values():
        pooled = compare_harder([(a.result, b.result) for a, b in group])
        if len(group) > 1 and pooled is not None:
            found.append(_comparison(*group[0], "all splits", HARDER, pooled))
    adjusted = holm([entry["p_value"] for entry in found])
    return [{**entry, "p_value_holm": p} for entry, p in zip(found, adjusted, strict=True)]


def _comparison(
    a: Scored, b: Scored, split: str, tier: str, difference: PairedDifference
) -> dict[str, Any]:
    return {
        "task": a.task,
        "split": split,
        "protocol": a.result.protocol,
        "tier": tier,
        "a": a.checkpoint,
        "b": b.checkpoint,
        **difference.to_json(),
    }


def keep_comparisons(folder: Path, run: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Write the comparisons of the last evaluation that made any, for the report."""
    if found:
        write_json(folder / COMPARISONS_FILE, {"run": run, "comparisons": list(found)})


def result_stem(result: Mapping[str, Any]) -> str:
    """File name of a result, for example `sft@200-SYNTHETIC-new_numbers-generative`."""
    stem = "-".join(str(result[key]) for key in ("checkpoint", "task", "split", "protocol"))
    return stem.replace("/", "~")


def _write(context: RunContext, scored: Scored) -> None:
    if not context.world.is_main:
        return
    folder = context.home.evals(context.run)
    folder.mkdir(parents=True, exist_ok=True)
    document = scored.to_json()
    stem = result_stem(document)
    write_predictions(folder / f"{stem}.predictions.jsonl", scored.result.predictions)
    write_json(folder / f"{stem}.json", {"run": context.run, **document})


def _named(origins: Sequence[Origin], context: RunContext) -> dict[str, Origin]:
    """Each checkpoint once, by a name no other has: `sft@200`, of another run `other/sft@200`."""
    found: dict[str, Origin] = {}
    for origin in dict.fromkeys(origins):
        is_own = origin.run_dir.resolve() == context.home.run(context.run).resolve()
        name = origin.name if is_own else f"{origin.run_dir.name}/{origin.name}"
        count = sum(other == name or other.startswith(f"{name}~") for other in found)
        found[f"{name}~{count + 1}" if count else name] = origin
    return found


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
    name = f"{result_stem(same[0])}.predictions.jsonl"
    rows = read_predictions(context.home.evals(context.run) / name)
    return [row.to_json() for row in rows if row.order == 0 and row.sample == 0][:count]
