"""artifacts: runs and data sets to and from object stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aquachat.cli.command import Command, chosen_run, execute
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError

if TYPE_CHECKING:
    from aquachat.hub.artifacts import OnFile, Transfer

artifacts = typer.Typer(
    help="Runs, reports and data sets in gs://, s3:// or file://", no_args_is_help=True
)
URI = Argument(str, ..., typer.Argument(help="For example `gs://bucket/folder` or `s3://bucket`"))
EXCLUDE_DATA = Argument(
    bool, False, typer.Option("--exclude-data", help="Leave the prepared data sets out")
)
EXCLUDE_CHECKPOINTS = Argument(
    bool,
    False,
    typer.Option("--exclude-checkpoints", help="Only metrics, results, samples and reports"),
)
DRY_RUN = Argument(bool, False, typer.Option("--dry-run", help="Show the plan, copy nothing"))


@artifacts.command("upload")
@recipe_command(
    common=("run", *OUTPUT_OPTIONS),
    arguments={
        "uri": URI,
        "exclude_data": EXCLUDE_DATA,
        "exclude_checkpoints": EXCLUDE_CHECKPOINTS,
        "dry_run": DRY_RUN,
    },
)
def upload(settings: Settings) -> None:
    """Copy a run and the prepared data sets there; what is there already is not sent again.

    Examples:
        aquachat artifacts upload gs://my-bucket/aqua --run mine

        aquachat artifacts upload s3://my-bucket --exclude-data --dry-run
    """
    execute(settings, _upload)


def _upload(command: Command) -> None:
    from aquachat.hub.artifacts import Store, local_collections

    settings = command.settings
    run = chosen_run(command)
    folders = local_collections(command.home, run, with_data=not settings["exclude_data"])
    store = Store(settings["uri"])
    plans = {path: store.plan_upload(folder, path) for path, folder in folders.items()}

    def copy(path: str, transfer: Transfer, on_file: OnFile) -> None:
        store.upload(folders[path], transfer, on_file)

    _transfer(command, plans, copy)
    command.output.next_command(f"aquachat artifacts list {settings['uri']}")


@artifacts.command("download")
@recipe_command(
    common=("run", *OUTPUT_OPTIONS),
    arguments={
        "uri": URI,
        "latest": Argument(
            bool, False, typer.Option("--latest", help="The newest run there, as without `--run`")
        ),
        "exclude_data": EXCLUDE_DATA,
        "exclude_checkpoints": EXCLUDE_CHECKPOINTS,
        "overwrite": Argument(
            bool, False, typer.Option("--overwrite", help="Replace files here that differ")
        ),
        "dry_run": DRY_RUN,
    },
)
def download(settings: Settings) -> None:
    """Copy a run and the data sets from there; every file is checked against its hash.

    Examples:
        aquachat artifacts download gs://my-bucket/aqua --latest

        aquachat artifacts download s3://my-bucket --run mine --exclude-data
    """
    execute(settings, _download)


def _download(command: Command) -> None:
    from aquachat.hub.artifacts import Store, choose

    settings = command.settings
    run = settings["run"]
    if run and settings["latest"]:
        raise ConfigError(
            f"`--latest` and `--run {run}` name two runs", hint="leave one of them out"
        )
    store = Store(settings["uri"])
    chosen = choose(
        store.collections(), settings["uri"], run, with_data=not settings["exclude_data"]
    )
    folders = {each.path: _folder_of(command, each.path) for each in chosen}
    plans = {
        each.path: store.plan_download(each, folders[each.path], overwrite=settings["overwrite"])
        for each in chosen
    }

    def copy(path: str, transfer: Transfer, on_file: OnFile) -> None:
        store.download(folders[path], transfer, on_file)

    _transfer(command, plans, copy)
    command.output.next_command(f"aquachat report --run {chosen[0].name}")


@artifacts.command("list")
@recipe_command(common=OUTPUT_OPTIONS, arguments={"uri": URI})
def list_(settings: Settings) -> None:
    """List the runs and data sets there, newest first.

    Examples:
        aquachat artifacts list gs://my-bucket/aqua

        aquachat artifacts list s3://my-bucket --json
    """
    execute(settings, _list)


def _list(command: Command) -> None:
    from aquachat.hub.artifacts import Store

    found = Store(command.settings["uri"]).collections()
    rows: list[Mapping[str, Any]] = [
        {
            "name": each.path,
            "modified": datetime.fromtimestamp(each.modified_s, UTC).isoformat(timespec="seconds"),
            "files": len(each.files),
            "bytes": each.num_bytes,
        }
        for each in found
    ]
    command.output.result({"artifacts": rows})
    cells: Sequence[Sequence[object]] = [list(row.values()) for row in rows]
    command.output.table("Artifacts", ["name", "modified", "files", "bytes"], cells)
    command.output.next_command(f"aquachat artifacts download {command.settings['uri']} --latest")


def _folder_of(command: Command, path: str) -> Path:
    """Where a collection belongs here; its name is checked, since a stranger may have chosen it."""
    from aquachat.hub.artifacts import RUNS

    kind, _, name = path.partition("/")
    return command.home.run(name) if kind == RUNS else command.home.data(name)


def _transfer(
    command: Command,
    plans: Mapping[str, Transfer],
    copy: Callable[[str, Transfer, OnFile], None],
) -> None:
    """Show what is to be copied, and copy it."""
    output, is_dry = command.output, command.settings["dry_run"]
    if command.settings["exclude_checkpoints"]:
        plans = {path: transfer.without_checkpoints() for path, transfer in plans.items()}
    total = sum(transfer.num_bytes for transfer in plans.values())
    rows = [
        (path, len(transfer.todo), len(transfer.done), transfer.num_bytes)
        for path, transfer in plans.items()
    ]
    output.table("Artifacts", ["name", "files to copy", "unchanged", "bytes to copy"], rows)
    if not is_dry:
        with output.progress("copying", total=total) as progress:
            for path, transfer in plans.items():
                copy(path, transfer, lambda name, num_bytes: progress.advance(num_bytes))
    output.result(
        {
            "dry_run": is_dry,
            "bytes": total,
            "artifacts": [transfer.to_json() for transfer in plans.values()],
        }
    )
