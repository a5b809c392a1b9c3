"""The Share panel: export, import, sync-hf, artifacts."""

from __future__ import annotations

from pathlib import Path

import typer

from aquachat.cli.artifacts import artifacts
from aquachat.cli.command import STAGES, Command, check_choice, chosen_run, execute
from aquachat.cli.exporting import chosen_origin, default_folder, export_origin
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.cli.release import sync_hf

PANEL = "Share"
FORMATS = ("hf",)
DTYPES = ("float32", "bfloat16")


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("export", rich_help_panel=PANEL)(export)
    app.command("import", rich_help_panel=PANEL)(import_)
    app.command("sync-hf", rich_help_panel=PANEL)(sync_hf)
    app.add_typer(artifacts, name="artifacts", rich_help_panel=PANEL)


@recipe_command(
    common=("run", "from_", *OUTPUT_OPTIONS),
    arguments={
        "format": Argument(
            str, "hf", typer.Option("--format", metavar="hf", help="hf: for transformers and vLLM")
        ),
        "output": Argument(
            Path | None,
            None,
            typer.Option("--output", help="Folder to write, by default `export` of the run"),
        ),
        "dtype": Argument(
            str,
            "float32",
            typer.Option("--dtype", metavar="|".join(DTYPES), help="Of the weights"),
        ),
        "verify": Argument(
            bool,
            True,
            typer.Option(
                "--verify/--no-verify",
                help="Compare ids, logits and greedy text with transformers, if it is installed",
            ),
        ),
    },
)
def export(settings: Settings) -> None:
    """Write a model as a folder that transformers, vLLM and TRL open.

    Examples:
        aquachat export

        aquachat export --run mine --from sft --output ./my-model
    """
    execute(settings, _export)


def _export(command: Command) -> None:
    settings, output = command.settings, command.output
    check_choice("format", settings["format"], FORMATS)
    dtype = check_choice("dtype", settings["dtype"], DTYPES)
    run = chosen_run(command)
    origin = chosen_origin(command, run)
    destination = settings["output"] or default_folder(command, run, origin)
    made = export_origin(command, origin, destination, dtype=dtype, verify=settings["verify"])
    output.result(
        {
            "run": run,
            "checkpoint": origin.name,
            "path": str(made.path),
            "files": dict(made.files),
            "parameters": made.num_parameters,
            "trust_remote_code": made.needs_remote_code,
            "check": made.check,
        }
    )
    output.text(str(made.path))
    if made.needs_remote_code:
        output.note("its architecture is its own: load it with `trust_remote_code=True`")
    output.next_command(f"aquachat sync-hf --run {run} --from {origin.stage} --dry-run")


@recipe_command(
    common=("run", *OUTPUT_OPTIONS),
    arguments={
        "path": Argument(
            Path, ..., typer.Argument(help="An export, or a nanochat checkpoint: folder or file")
        ),
        "stage": Argument(
            str | None,
            None,
            typer.Option(
                "--stage",
                metavar="|".join(STAGES),
                help="Stage it counts as, by default what the folder says, else sft",
            ),
        ),
        "step": Argument(
            int | None,
            None,
            typer.Option("--step", min=0, help="Of several nanochat checkpoints (default: last)"),
        ),
        "tokenizer": Argument(
            Path | None,
            None,
            typer.Option("--tokenizer", help="Its folder, where it is not beside the weights"),
        ),
    },
)
def import_(settings: Settings) -> None:
    """Make a run from an exported model, or from a checkpoint of nanochat.

    Examples:
        aquachat import ./my-model --run mine

        aquachat import ~/.cache/nanochat/chatsft_checkpoints/d20 --run d20
    """
    execute(settings, _import)


def _import(command: Command) -> None:
    from aquachat.cli.command import new_run_name
    from aquachat.hub.importing import DEFAULT_STAGE, read_model, write_run
    from aquachat.paths import check_name

    settings, output = command.settings, command.output
    run = check_name(settings["run"] or new_run_name("imported"))
    imported = read_model(
        settings["path"].expanduser(), tokenizer=settings["tokenizer"], step=settings["step"]
    )
    stage = settings["stage"] or imported.stage or DEFAULT_STAGE
    path = write_run(imported, command.home, run, stage)
    output.result(
        {
            "run": run,
            "stage": stage,
            "step": imported.step,
            "source": imported.source,
            "path": str(path),
            "model": imported.config.to_json(),
        }
    )
    output.text(str(path))
    output.next_command(f"aquachat chat --run {run}")
