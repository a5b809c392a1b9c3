"""`aquachat runs`: the list of runs, and two of them side by side."""

from __future__ import annotations

import inspect
from typing import Any

import typer

from aquachat.cli.command import Command, execute
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import MissingFileError

runs_group = typer.Typer(invoke_without_command=True)


@recipe_command(common=OUTPUT_OPTIONS)
def runs(settings: Settings) -> None:
    """List the runs, newest first, with their stages.

    Examples:
        aquachat runs

        aquachat runs --json
    """
    execute(settings, _runs)


def _runs(command: Command) -> None:
    from aquachat.track.runs import list_runs

    found = list_runs(command.home.runs)
    command.output.result({"runs": [entry.to_json() for entry in found]})
    rows = [
        (entry.name, ", ".join(f"{s.name}@{s.last_step}" for s in entry.stages)) for entry in found
    ]
    command.output.table("Runs", ["run", "stages"], rows)
    command.output.next_command("aquachat chat" if found else "aquachat run tiny")


@runs_group.command("compare")
@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "a": Argument(str, ..., typer.Argument(metavar="A", help="A run")),
        "b": Argument(str, ..., typer.Argument(metavar="B", help="Another run")),
    },
)
def compare(settings: Settings) -> None:
    """Show what two runs did differently, and which did better on the same questions.

    Examples:
        aquachat runs compare mine other

        aquachat runs compare mine other --json
    """
    execute(settings, _compare)


def _compare(command: Command) -> None:
    from aquachat.pipeline.run_comparison import compare_runs, comparison_tables

    settings, output = command.settings, command.output
    for name in (settings["a"], settings["b"]):
        if not command.home.run(name).is_dir():
            raise MissingFileError(
                f"there is no run `{name}` in `{command.home.runs}`", hint="see `aquachat runs`"
            )
    found = compare_runs(command.home.run(settings["a"]), command.home.run(settings["b"]))
    output.result(found.to_json())
    for table in comparison_tables(found):
        output.table(table.title, table.columns, table.rows)
    for note in found.notes:
        output.note(note)
    output.next_command(f"aquachat report --run {settings['b']}")


def _list_unless_asked(**values: Any) -> None:
    """List the runs where no command of the group was named."""
    context = values.pop("context")
    if context.invoked_subcommand is None:
        runs(**values)
    elif any(values.values()):
        raise typer.BadParameter(f"put options after `{context.invoked_subcommand}`")


def _add_listing() -> None:
    """Make `runs` what the group does by itself; only a group's callback knows if it is alone."""
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *inspect.signature(runs).parameters.values()]
    _list_unless_asked.__doc__ = runs.__doc__
    _list_unless_asked.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    _list_unless_asked.__annotations__ = {p.name: p.annotation for p in parameters}
    runs_group.callback()(_list_unless_asked)


_add_listing()
