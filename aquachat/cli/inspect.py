"""The Inspect panel: doctor, report, runs."""

from __future__ import annotations

import typer

from aquachat.cli.command import Command, chosen_run, execute
from aquachat.cli.doctor import doctor
from aquachat.cli.options import OUTPUT_OPTIONS, Settings, recipe_command
from aquachat.cli.runs import runs_group

PANEL = "Inspect"


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("doctor", rich_help_panel=PANEL)(doctor)
    app.command("report", rich_help_panel=PANEL)(report)
    app.add_typer(runs_group, name="runs", rich_help_panel=PANEL)


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
