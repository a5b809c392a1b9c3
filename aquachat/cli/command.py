"""What every command does first: output, `.env`, recipe, run; and then the context of a run."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aquachat.cli import processes
from aquachat.cli.environment import load_env_files
from aquachat.cli.options import Settings, parse_assignments
from aquachat.cli.output import Output, run_command
from aquachat.config.recipes import SECTIONS, Recipe, keys_of
from aquachat.config.resolve import Layer, Resolved, file_layer, preset_layers, resolve
from aquachat.errors import ConfigError, MissingFileError
from aquachat.log import configure
from aquachat.paths import Home, check_name, open_home

if TYPE_CHECKING:
    from aquachat.pipeline.context import RunContext
    from aquachat.pipeline.mixture_plan import PlannedPart

STAGES = ("base", "mid", "sft", "rl")
DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Command:
    """One call of the program."""

    settings: Settings
    output: Output
    environ: MutableMapping[str, str]
    home: Home


def execute(settings: Settings, body: Callable[[Command], None]) -> None:
    """Run a command's body, and end the process with the right exit code.

    With `--num-processes N` the body runs in N processes that torchrun starts.
    """
    environ = os.environ
    # Waiting threads spin for about 0.1 ms, then sleep. Beside one other busy process torch's
    # default (spin for long) was 2 to 10 times slower, on an idle machine this is as fast. Read
    # by libgomp when torch is loaded.
    environ.setdefault("GOMP_SPINCOUNT", "5000")
    # oneDNN keeps code and buffers for every matrix shape: 1024 of them by default.
    environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    quiet = bool(settings.get("quiet")) or not processes.is_main(environ)
    output = Output(
        json=bool(settings.get("json")) and processes.is_main(environ),
        quiet=quiet,
        assume_yes=bool(settings.get("yes")),
    )
    num_processes = settings.get("num_processes") or 1
    if num_processes > 1 and not settings.get("dry_run") and not processes.is_child(environ):
        raise SystemExit(processes.run_in_processes(num_processes, sys.argv[1:]))

    def run() -> None:
        home = open_home(environ)
        load_env_files(environ, Path.cwd(), home.root)
        configure(quiet=quiet, verbose=bool(settings.get("verbose")), environ=environ)
        body(Command(settings, output, environ, home))

    code = run_command(run, output=output)
    processes.record_exit_code(code, environ)
    raise SystemExit(code)


def resolve_recipe(
    command: Command,
    *,
    recorded: Path | None = None,
    with_data: bool = False,
    preset: str | None = None,
) -> Resolved:
    """The recipe of this command.

    Args:
        command: its flags, `--set`, `--config` and `--preset`.
        recorded: a `recipe.toml` that an earlier stage of the run left; a preset replaces it.
        with_data: whether the preset's `--data` layer is wanted.
        preset: instead of `--preset`.
    """
    settings = command.settings
    preset = preset or settings.get("preset")
    layers: list[tuple[str, Layer]] = []
    if preset is not None:
        layers += preset_layers(preset, with_data=with_data)
    elif recorded is not None:
        layers.append((f"run {recorded.parent.parent.name}", tomllib.loads(recorded.read_text())))
    if settings.get("config") is not None:
        layers.append(file_layer(settings["config"]))
    layers.append(("--set", parse_assignments(settings.get("set_"))))
    layers.append(("flag", settings.overrides))
    return resolve(layers)


def with_names(recipe: Recipe, name: str) -> Recipe:
    """The recipe with `name` for the tokenizer and the corpus where it names none."""
    tokenize = recipe.tokenize
    tokenize = replace(tokenize, name=tokenize.name or name)
    base = replace(recipe.base, corpus=recipe.base.corpus or tokenize.name)
    return replace(recipe, tokenize=tokenize, base=base)


def recorded_recipe(home: Home, run: str, *, stage: str | None = None) -> Path | None:
    """The `recipe.toml` that `run` recorded for `stage`, or else for its latest stage."""
    order = [stage] if stage else []
    order += list(reversed(STAGES))
    for name in order:
        file = home.stage(run, name) / "recipe.toml"
        if file.is_file():
            return file
    return None


def new_run_name(preset: str | None, now: datetime | None = None) -> str:
    """A name that sorts by time, for example `tiny-20260131-120000`."""
    return f"{preset or 'run'}-{(now or datetime.now()).strftime('%Y%m%d-%H%M%S')}"


def chosen_run(command: Command, *, depth: int | None = None, must_exist: bool = True) -> str:
    """`--run`, else the newest run (of `--depth`, where it is given).

    Raises:
        MissingFileError: there is no run, or none of that name where it must exist.
    """
    from aquachat.track.runs import newest_run

    named = command.settings.get("run")
    if named:
        if must_exist and not command.home.run(named).is_dir():
            raise MissingFileError(
                f"there is no run `{named}` in `{command.home.runs}`",
                hint="see `aquachat runs`, or begin one with `aquachat run tiny --run NAME`",
            )
        return check_name(named)
    return newest_run(command.home.runs, depth=depth).name


def show_recipe(
    command: Command, resolved: Resolved, extra: Mapping[str, Any], *, mixtures: Sequence[str] = ()
) -> None:
    """`--dry-run`: every value and where it came from, and what is about to be done.

    Args:
        command: the command.
        resolved: its recipe.
        extra: what is about to be done.
        mixtures: stages of which to show what they will take from each source.
    """
    rows = resolved.rows()
    values = asdict(resolved.recipe)
    extra = {**extra, **_model_facts(resolved.recipe)}
    plans = {stage: _plan(command, resolved.recipe, stage) for stage in mixtures}
    command.output.result(
        {
            **extra,
            "mixtures": {stage: [asdict(part) for part in plan] for stage, plan in plans.items()},
            "recipe": {f"{s}.{k}": values[s][k] for s in SECTIONS for k in keys_of(s)},
            "origins": {name: origin for name, _, origin in rows},
        }
    )
    for name, value in extra.items():
        command.output.text(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    command.output.table("Recipe", ["setting", "value", "from"], rows)
    for stage, plan in plans.items():
        from aquachat.pipeline.mixture_plan import COLUMNS

        cells = [part.cells() for part in plan]
        command.output.table(f"Mixture of {stage}", COLUMNS, cells)


def _plan(command: Command, recipe: Recipe, stage: str) -> list[PlannedPart]:
    from aquachat.paths import aqua_directory
    from aquachat.pipeline.mixture_plan import plan_mixture
    from aquachat.pipeline.mixtures import DataFolders

    aqua = aqua_directory(command.settings.get("data_dir"), command.home, command.environ)
    folders = DataFolders(command.home.root / "data", aqua.path)
    return plan_mixture(getattr(recipe, stage), stage, folders)


def _model_facts(recipe: Recipe) -> dict[str, Any]:
    from aquachat.model.scaling import config_for, count_parameters

    config = config_for(recipe.model, vocab_size=recipe.tokenize.vocab_size)
    return {
        "layers": config.num_layers,
        "width": config.hidden_size,
        "heads": config.num_heads,
        "vocabulary": config.vocab_size,
        "parameters": count_parameters(config).total,
    }


def open_context(command: Command, recipe: Recipe, run: str) -> RunContext:
    """Everything a stage needs: device, processes, threads, folders, tracking."""
    import torch

    from aquachat.cli.reporter import CliReporter, SilentReporter
    from aquachat.pipeline.context import RunContext
    from aquachat.track.wandb_sink import wandb_options
    from aquachat.world import open_world

    settings = command.settings
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    world = open_world(recipe.run.device, recipe.run.dtype, command.environ)
    wandb = wandb_options(
        settings.get("wandb"),
        settings.get("wandb_project"),
        settings.get("wandb_entity"),
        environ=command.environ,
    )
    return RunContext(
        home=command.home,
        run=run,
        recipe=recipe,
        world=world,
        reporter=CliReporter(command.output) if world.is_main else SilentReporter(),
        resume=bool(settings.get("resume")),
        origin=settings.get("from_"),
        depth=settings.overrides.get("model", {}).get("depth"),
        data_dir=settings.get("data_dir"),
        wandb=wandb,
        environ=command.environ,
    )


def check_data_folder(folder: Path) -> None:
    """Make sure that `--data` names a folder with a `data.toml`.

    Raises:
        MissingFileError: it does not.
    """
    if not (folder / "data.toml").is_file():
        raise MissingFileError(
            f"there is no `data.toml` in `{folder}`",
            hint="name a folder whose `data.toml` lists the files of each set with `--data`",
        )


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value` if it is one of `allowed`.

    Raises:
        ConfigError: it is not.
    """
    if value in allowed:
        return value
    raise ConfigError(f"there is no {name} `{value}`", hint=f"use {', '.join(allowed)}")
