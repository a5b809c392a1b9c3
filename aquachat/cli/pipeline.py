"""The Pipeline panel: train base|mid|sft, rl, eval, run; `cli.data` has prepare and tokenize."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from aquachat.cli.command import (
    STAGES,
    Command,
    check_choice,
    check_data_folder,
    chosen_run,
    execute,
    new_run_name,
    open_context,
    recorded_recipe,
    resolve_recipe,
    show_recipe,
    with_names,
)
from aquachat.cli.data import prepare, tokenize
from aquachat.cli.options import (
    OUTPUT_OPTIONS,
    RECIPE_OPTIONS,
    SET,
    STAGE_OPTIONS,
    TRACKING_OPTIONS,
    Argument,
    Settings,
    recipe_command,
)
from aquachat.errors import ConfigError
from aquachat.paths import check_name
from aquachat.pipeline.names import is_base_task

PANEL = "Pipeline"
DEFAULT_PRESET = "tiny"
MIXTURE_STAGES = ("mid", "sft")
NEXT = {
    "base": "aquachat train mid --run {run}",
    "mid": "aquachat train sft --run {run}",
    "sft": "aquachat rl --run {run}",
    "rl": "aquachat eval --run {run}",
}

train = typer.Typer(help="Train a stage: base, then mid, then sft", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("prepare", rich_help_panel=PANEL)(prepare)
    app.command("tokenize", rich_help_panel=PANEL)(tokenize)
    app.add_typer(train, name="train", rich_help_panel=PANEL)
    app.command("rl", rich_help_panel=PANEL)(rl)
    app.command("eval", rich_help_panel=PANEL)(evaluate)
    app.command("run", rich_help_panel=PANEL)(run)


@train.command("base")
@recipe_command("run", "model", "base", arguments=SET)
def train_base(settings: Settings) -> None:
    """Train a new model on plain text; makes a new run.

    Examples:
        aquachat train base --preset tiny

        aquachat train base --depth 8 --num-iterations 2000 --gpus 8
    """
    execute(settings, lambda command: _train(command, "base"))


@train.command("mid")
@recipe_command("run", "model", "mid", arguments=SET)
def train_mid(settings: Settings) -> None:
    """Mid-train on reasoning and chat, from the base weights of the run.

    Examples:
        aquachat train mid

        aquachat train mid --run mine --from otherrun/base@600
    """
    execute(settings, lambda command: _train(command, "mid"))


@train.command("sft")
@recipe_command("run", "model", "sft", arguments=SET)
def train_sft(settings: Settings) -> None:
    """Fine-tune on questions with worked answers, from the mid or base weights of the run.

    Examples:
        aquachat train sft --depth 8

        aquachat train sft --aqua-train-examples 20000 --aqua-val-examples 254
    """
    execute(settings, lambda command: _train(command, "sft"))


@recipe_command("run", "rl", arguments=SET)
def rl(settings: Settings) -> None:
    """Reinforcement learning (GRPO) from the SFT weights of the run.

    Examples:
        aquachat rl --temperature 0.7

        aquachat rl --task SYNTHETIC --num-generations 8 --num-iterations 30
    """
    execute(settings, lambda command: _train(command, "rl"))


def _train(command: Command, stage: str) -> None:
    settings, output = command.settings, command.output
    depth = settings.overrides.get("model", {}).get("depth")
    if stage == "base":
        preset = settings["preset"]
        run = check_name(settings["run"] or new_run_name(preset))
    else:
        run = chosen_run(command, depth=depth, must_exist=settings["from_"] is None)
    recorded = recorded_recipe(command.home, run, stage=stage if settings["resume"] else None)
    if recorded is None and settings["from_"] is not None:
        recorded = _recipe_of_origin(command, run)
    resolved = resolve_recipe(command, recorded=recorded)
    recipe = with_names(resolved.recipe, settings["preset"] or "default")
    if settings["dry_run"]:
        mixtures = [stage] if stage in MIXTURE_STAGES else []
        return show_recipe(command, resolved, {"run": run, "stage": stage}, mixtures=mixtures)
    from aquachat.pipeline.training import train_stage

    context = open_context(command, recipe, run)
    try:
        result = train_stage(context, stage)
    finally:
        context.reporter.close()
        context.world.close()
    output.result(
        {
            "run": run,
            "stage": stage,
            "seconds": result.seconds,
            "tokens": result.tokens,
            "metrics": dict(result.metrics),
            "checkpoint": str(result.checkpoint),
        }
    )
    rows = [(name, value) for name, value in sorted(result.metrics.items())]
    output.table(f"{stage} of run {run}, step {result.step}", ["metric", "value"], rows)
    output.next_command(NEXT[stage].format(run=run))


def _recipe_of_origin(command: Command, run: str) -> Path | None:
    """The recipe that the weights of `--from` were trained with."""
    from aquachat.train.lineage import find_origin

    file = find_origin(command.settings["from_"], command.home, run).path.parent / "recipe.toml"
    return file if file.is_file() else None


@recipe_command(
    "run",
    "eval",
    common=(
        "run",
        "num_processes",
        "data_dir",
        *RECIPE_OPTIONS,
        *OUTPUT_OPTIONS,
    ),
    arguments={
        "tasks": Argument(
            list[str] | None,
            None,
            typer.Option(
                "--task",
                help="AQUA, SYNTHETIC/more_steps..., a path to rows, CHATCORE, CORE or BPB",
            ),
        ),
        "protocols": Argument(
            list[str] | None,
            None,
            typer.Option("--protocol", help="generative or categorical; may be repeated"),
        ),
        "origins": Argument(
            list[str] | None,
            None,
            typer.Option(
                "--from", help="Checkpoints to compare, for example `--from sft --from rl`"
            ),
        ),
        "recompute": Argument(
            bool,
            False,
            typer.Option("--recompute", help="Only compute the figures again from predictions"),
        ),
        **SET,
    },
)
def evaluate(settings: Settings) -> None:
    """Measure accuracy over all option orders, with its interval and the trivial baselines.

    Examples:
        aquachat eval --task AQUA

        aquachat eval --task SYNTHETIC/new_phrasings --from sft --from rl --json

        aquachat eval --task CORE --task BPB --max-examples 500

        aquachat eval --num-samples 8 --temperature 0.7 --from sft --from other/sft@200
    """
    execute(settings, _evaluate)


def _evaluate(command: Command) -> None:
    settings = command.settings
    run = chosen_run(command)
    given = {
        "tasks": settings["tasks"],
        "protocols": settings["protocols"],
        "stages": settings["origins"],
    }
    if settings["tasks"] and all(map(is_base_task, settings["tasks"])):
        given["stages"] = given["stages"] or ["base"]
    chosen = {name: value for name, value in given.items() if value}
    overrides = {**settings.overrides}
    overrides["eval"] = {**overrides.get("eval", {}), **chosen}
    command = Command(
        Settings(overrides, settings.options), command.output, command.environ, command.home
    )
    resolved = resolve_recipe(command, recorded=recorded_recipe(command.home, run))
    if settings["dry_run"]:
        return show_recipe(command, resolved, {"run": run})
    if settings["recompute"]:
        from aquachat.pipeline.recomputing import recompute_run

        return _show_results(command, run, recompute_run(command.home.evals(run), run))
    from aquachat.pipeline.evaluation import evaluate_run

    context = open_context(command, resolved.recipe, run)
    try:
        with command.output.progress("eval") as progress:
            document = evaluate_run(context, progress, every_stage=not settings["origins"])
    finally:
        context.world.close()
    if context.world.is_main:
        _show_results(command, run, document)


def _show_results(command: Command, run: str, document: Mapping[str, Any]) -> None:
    from aquachat.track.report import summary_tables
    from aquachat.track.score_tables import score_tables

    command.output.result(document)
    shown = {**document, "eval": document["results"]}
    for table in [*summary_tables(shown), *score_tables(shown)]:
        command.output.table(table.title, table.columns, table.rows)
    command.output.next_command(f"aquachat report --run {run}")


@recipe_command(
    "run",
    "model",
    common=(
        "run",
        "resume",
        "num_processes",
        "data_dir",
        *TRACKING_OPTIONS,
        "config",
        "dry_run",
        *OUTPUT_OPTIONS,
    ),
    arguments={
        "preset": Argument(str, DEFAULT_PRESET, typer.Argument(help="tiny, d8, d12, d20 or d26")),
        "stages": Argument(
            str | None,
            None,
            typer.Option("--stages", help="Only these, in order, for example `rl,eval,report`"),
        ),
        "data": Argument(
            Path | None,
            None,
            typer.Option("--data", help="Folder of raw sets with a `data.toml` that names them"),
        ),
        **SET,
    },
)
def run(settings: Settings) -> None:
    """Run the whole pipeline: prepare, tokenize, base, mid, sft, rl, eval, report.

    Examples:
        aquachat run tiny

        aquachat run tiny --data ../shared/data

        aquachat run d8 --gpus 8 --wandb online

        aquachat run tiny --run mine --stages rl,eval --resume
    """
    execute(settings, _run)


def _run(command: Command) -> None:
    from aquachat.pipeline.names import PIPELINE

    settings = command.settings
    asked = settings["stages"]
    stages = [s.strip() for s in asked.split(",")] if asked else list(PIPELINE)
    for stage in stages:
        check_choice("stage", stage, PIPELINE)
    preset = settings["preset"]
    name = settings["run"]
    if name is None:
        name = chosen_run(command) if settings["resume"] or asked else new_run_name(preset)
    check_name(name)
    resolved = resolve_recipe(command, with_data=settings["data"] is not None, preset=preset)
    recipe = with_names(resolved.recipe, name)
    if settings["dry_run"]:
        mixtures = [stage for stage in MIXTURE_STAGES if stage in stages]
        about = {"run": name, "stages": ", ".join(stages)}
        return show_recipe(command, resolved, about, mixtures=mixtures)
    from aquachat.cli.summary import print_summary

    if settings["data"] is not None:
        check_data_folder(settings["data"])
    from aquachat.pipeline.run import run_pipeline

    context = open_context(command, recipe, name)
    try:
        document = run_pipeline(
            context,
            stages,
            preset=preset,
            data=settings["data"],
            output=command.output,
            origins=resolved.origins,
        )
    finally:
        context.reporter.close()
        context.world.close()
    if context.world.is_main:
        command.output.result(document)
        print_summary(command.output, document)
        command.output.next_command(f"aquachat chat --run {name}")


__all__ = ["NEXT", "STAGES", "STAGE_OPTIONS", "ConfigError", "register"]
