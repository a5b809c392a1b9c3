"""`aquachat launch template`: a task file for another scheduler, on stdout or in a file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from aquachat.cli.command import Command, execute
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError

TOOL_NAMES = "sky|dstack|hf-jobs|slurm|kubernetes"
FILE_NAMES = {
    "sky": "sky.yaml",
    "dstack": ".dstack.yml",
    "hf-jobs": "job.sh",
    "slurm": "job.sbatch",
    "kubernetes": "job.yaml",
}
"""What each tool's users call such a file; for hints."""


def _option(kind: Any, default: Any, flag: str, help: str, **extra: Any) -> Argument:
    return Argument(kind, default, typer.Option(flag, help=help, **extra))


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "tool": Argument(
            str, inspect.Parameter.empty, typer.Argument(metavar="TOOL", help=TOOL_NAMES)
        ),
        "command": Argument(
            list[str] | None,
            None,
            typer.Argument(metavar="-- COMMAND", help="What to run instead of a preset"),
        ),
        "preset": _option(
            str | None, None, "--preset", "What `aquachat run` runs (default: d8)", metavar="NAME"
        ),
        "name": _option(
            str | None, None, "--name", "Of job and run (default: aquachat-PRESET)", metavar="NAME"
        ),
        "gpu": _option(
            list[str] | None,
            None,
            "--gpu",
            "h100, a100, l40s...; may be repeated, best first, where the tool takes several "
            "(default: h100, for hf-jobs h200, for kubernetes any)",
            metavar="NAME",
            show_default=False,
        ),
        "gpu_count": _option(int, 1, "--gpu-count", "GPUs of the machine", min=1),
        "max_hours": _option(float, 4.0, "--max-hours", "Hours that the job may run"),
        "max_price": _option(
            float | None, None, "--max-price", "Dollars an hour of the whole machine", metavar="USD"
        ),
        "region": _option(
            list[str] | None, None, "--region", "Only there; may be repeated", metavar="NAME"
        ),
        "inject_env": _option(
            list[str] | None,
            None,
            "--inject-env",
            "Environment variable that the job needs; only its name is written; may be repeated",
            metavar="NAME",
        ),
        "results": _option(
            str | None,
            None,
            "--results",
            "Storage that stays: a bucket (sky, hf-jobs), volume (dstack), claim (kubernetes) or "
            "folder (slurm)",
            metavar="WHERE",
        ),
        "package": _option(
            str | None,
            None,
            "--package",
            "What pip installs there (default: this version of aquachat)",
            metavar="SPEC",
            show_default=False,
        ),
        "image": _option(
            str | None,
            None,
            "--image",
            "Container with Python 3.11 or newer (default: python:3.12)",
            metavar="NAME",
            show_default=False,
        ),
        "output": _option(
            Path | None, None, "--output", "Write to this file, instead of stdout", metavar="FILE"
        ),
    },
)
def template(settings: Settings) -> None:
    """Write a task file for another scheduler: sky, dstack, hf-jobs, slurm or kubernetes.

    Examples:
        aquachat launch template sky --preset d20 --gpu h100 --gpu-count 8 --max-price 30

        aquachat launch template slurm --inject-env WANDB_API_KEY --output job.sbatch

        aquachat launch template hf-jobs -- aquachat run d12 --stages sft,rl,eval --resume
    """
    execute(settings, _template)


def _template(command: Command) -> None:
    from aquachat.cloud.task_request import TaskRequest
    from aquachat.cloud.templates import render

    settings = command.settings
    chosen = {
        key: settings[key]
        for key in ("preset", "name", "results", "package", "image")
        if settings[key] is not None
    }
    request = TaskRequest(
        command=tuple(settings["command"] or ()),
        gpus=tuple(settings["gpu"] or ()),
        gpu_count=settings["gpu_count"],
        max_hours=settings["max_hours"],
        max_price_usd_per_hour=settings["max_price"],
        regions=tuple(settings["region"] or ()),
        env_names=tuple(dict.fromkeys(settings["inject_env"] or ())),
        **chosen,
    )
    tool = settings["tool"]
    text = render(tool, request)
    _refuse_secrets(command, text)
    file = settings["output"]
    if file is not None:
        _write(command, file, text)
    command.output.result(
        {"tool": tool, "name": request.job, "file": file and str(file), "text": text}
    )
    if file is None:
        command.output.text(text.rstrip("\n"))
        command.output.hint(f"`--output {FILE_NAMES[tool]}` writes it to a file")
    command.output.next_command("aquachat launch offers")


def _refuse_secrets(command: Command, text: str) -> None:
    """Make sure that no value of a secret was typed into a command, a package or the like.

    Raises:
        ConfigError: one was.
    """
    from aquachat.log import secrets_of

    for value, name in secrets_of(command.environ).items():
        if value in text:
            raise ConfigError(
                f"the value of {name} would be written into the file",
                hint=f"give only its name, `--inject-env {name}`, and read it from the environment",
            )


def _write(command: Command, file: Path, text: str) -> None:
    from aquachat.files import write_bytes

    if file.is_dir():
        raise ConfigError(f"`{file}` is a folder", hint="name a file with `--output`")
    if file.exists() and not command.output.confirm(f"`{file}` is there already; overwrite it?"):
        raise ConfigError(f"`{file}` is left as it was", hint="name another file with `--output`")
    write_bytes(file, text.encode("utf-8"))
    command.output.note(f"wrote `{file}`")
