"""From recipes to flags: each command's options are made from the dataclass of its stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from aquachat.config.recipes import SECTIONS
from aquachat.config.resolve import Layer
from aquachat.errors import ConfigError

COMMON_PANEL = "Common options"


@dataclass(frozen=True, slots=True)
class CommonOption:
    """A flag that is not part of a recipe and means the same in every command that has it."""

    type: Any
    default: Any
    flags: tuple[str, ...]
    help: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    panel: str = COMMON_PANEL


COMMON: dict[str, CommonOption] = {
    "preset": CommonOption(
        str | None, None, ("--preset",), "Named settings: tiny, d8, d12, d20 or d26"
    ),
    "config": CommonOption(
        Path | None, None, ("--config", "-c"), "TOML file of settings, stronger than the preset"
    ),
    "run": CommonOption(
        str | None, None, ("--run",), "Run that results go to, by default the newest"
    ),
    "from_": CommonOption(
        str | None,
        None,
        ("--from",),
        "Where weights come from: `sft`, `sft@200`, `otherrun/base@600` or a path",
    ),
    "resume": CommonOption(
        bool, False, ("--resume/--no-resume",), "Go on with a stage that has checkpoints"
    ),
    "num_processes": CommonOption(
        int, 1, ("--num-processes", "--gpus"), "Processes, started through torchrun", {"min": 1}
    ),
    "data_dir": CommonOption(
        Path | None, None, ("--data-dir",), "Folder of the prepared AQuA splits"
    ),
    "wandb": CommonOption(
        str | None, None, ("--wandb",), "Weights & Biases: off, online or offline (default: off)"
    ),
    "wandb_project": CommonOption(str | None, None, ("--wandb-project",), "W&B project"),
    "wandb_entity": CommonOption(str | None, None, ("--wandb-entity",), "W&B user or team"),
    "dry_run": CommonOption(
        bool, False, ("--dry-run",), "Print every setting and where it comes from, do nothing"
    ),
    "yes": CommonOption(bool, False, ("--yes", "-y"), "Answer yes to every question"),
    "quiet": CommonOption(bool, False, ("--quiet", "-q"), "Only results, warnings and errors"),
    "verbose": CommonOption(bool, False, ("--verbose", "-v"), "More detail on stderr"),
    "json": CommonOption(bool, False, ("--json",), "Print one JSON document on stdout"),
}

OUTPUT_OPTIONS = ("quiet", "verbose", "json", "yes")
RECIPE_OPTIONS = ("preset", "config", "dry_run")
TRACKING_OPTIONS = ("wandb", "wandb_project", "wandb_entity")
STAGE_OPTIONS = (
    "run",
    "from_",
    "resume",
    "num_processes",
    "data_dir",
    *TRACKING_OPTIONS,
    *RECIPE_OPTIONS,
    *OUTPUT_OPTIONS,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person typed: recipe overrides, common options and the command's own arguments."""

    overrides: Layer
    """Section -> key -> value, only what was given."""
    options: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.options[name]

    def get(self, name: str) -> Any:
        """An option's value, None where the command has no such option."""
        return self.options.get(name)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument or option of one command only; `declaration` is Typer's."""

    type: Any
    default: Any
    declaration: Any


def recipe_command(
    *sections: str,
    common: tuple[str, ...] = STAGE_OPTIONS,
    arguments: Mapping[str, Argument] | None = None,
) -> Callable[[Callable[[Settings], None]], Callable[..., None]]:
    """Turn `function(settings)` into a Typer command with the flags of `sections`.

    Example:
        @app.command("rl")
        @recipe_command("run", "rl")
        def rl(settings: Settings) -> None: ...
    """

    def decorate(function: Callable[[Settings], None]) -> Callable[..., None]:
        owners: dict[str, tuple[str, str]] = {}
        parameters: list[inspect.Parameter] = []
        for name, argument in (arguments or {}).items():
            parameters.append(
                _parameter(name, argument.type, argument.default, argument.declaration)
            )
        for section in sections:
            for name, key, parameter in _section_parameters(section):
                owners[name] = (section, key)
                parameters.append(parameter)
        parameters.extend(_common_parameter(name) for name in common)

        def command(**values: Any) -> None:
            overrides: dict[str, dict[str, Any]] = {}
            for name, (section, key) in owners.items():
                value = values.pop(name)
                if value is not None:
                    overrides.setdefault(section, {})[key] = value
            function(Settings(overrides, values))

        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__module__ = function.__module__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def parse_assignments(values: list[str] | None) -> dict[str, dict[str, Any]]:
    """Read `--set section.key=value` options; values are TOML, bare words are strings.

    Raises:
        ConfigError: an assignment that has no section, key or value.
    """
    import tomllib

    layer: dict[str, dict[str, Any]] = {}
    for text in values or []:
        name, equals, value = text.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and key):
            raise ConfigError(
                f"`--set {text}` is not an assignment", hint="write `--set sft.matrix_lr=0.01`"
            )
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        layer.setdefault(section, {})[key] = parsed
    return layer


SET_ARGUMENT = Argument(
    list[str] | None,
    None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any TOML key, for example `--set sft.max_grad_norm=0`; may be repeated",
        rich_help_panel=COMMON_PANEL,
    ),
)


def _section_parameters(section: str) -> list[tuple[str, str, inspect.Parameter]]:
    found = []
    for entry in fields(SECTIONS[section]):
        if not entry.metadata["flag"]:
            continue
        name = f"{section}_{entry.name}"
        flag = f"--{entry.name.replace('_', '-')}"
        default = entry.default if entry.default is not MISSING else None
        kind = type(default)
        shown = "" if default in ("", None) else f" (default: {default})"
        choices = entry.metadata["choices"]
        metavar = "|".join(choices) if choices else None
        declaration = typer.Option(
            flag,
            help=entry.metadata["help"] + shown,
            show_default=False,
            metavar=metavar,
            rich_help_panel=COMMON_PANEL
            if section == "run"
            else f"{section.capitalize()} settings",
        )
        found.append((name, entry.name, _parameter(name, kind | None, None, declaration)))
    return found


def _common_parameter(name: str) -> inspect.Parameter:
    option = COMMON[name]
    declaration = typer.Option(
        *option.flags,
        help=option.help,
        rich_help_panel=option.panel,
        show_default=False,
        **option.extra,
    )
    return _parameter(name, option.type, option.default, declaration)


def _parameter(name: str, kind: Any, default: Any, declaration: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, declaration],
    )
