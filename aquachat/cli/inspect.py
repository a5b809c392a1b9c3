"""The Inspect panel: doctor, report, runs."""

from __future__ import annotations

import typer

from aquachat.cli.command import Command, chosen_run, execute
from aquachat.cli.doctor import doctor
from aquachat.cli.options import OUTPUT_OPTIONS, Settings, recipe_command

PANEL = "Inspect"


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("doctor", rich_help_panel=PANEL)(doctor)
    app.command("report", rich_help_panel=PANEL)(report)
    app.command("runs", rich_help_panel=PANEL)(runs)


@recipe_command(common=("run", *OUTPUT_OPTIONS))
def report(settings: Settings) -> None:
    """Write `report.md` and `report.html` of a run from its files.

    Examples:
        aquachat report

        aquachat report --run mine
    """
    execute(settings, _report)


def _report(command: Command) -> None:
    from aquachat.track.report import write_report

    run = chosen_run(command)
    paths = write_report(command.home.run(run))
    command.output.result({"run": run, "markdown": str(paths.markdown), "html": str(paths.html)})
    command.output.text(f"{paths.markdown}\n{paths.html}")
    command.output.next_command(f"aquachat chat --run {run}")


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
