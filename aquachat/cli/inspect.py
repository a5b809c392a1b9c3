"""The Inspect panel: doctor, report, runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aquachat.cli.command import (
    Command,
    chosen_run,
    execute,
    open_context,
    recorded_recipe,
    resolve_recipe,
)
from aquachat.cli.doctor import doctor
from aquachat.cli.options import (
    OUTPUT_OPTIONS,
    TRACKING_OPTIONS,
    Argument,
    Settings,
    recipe_command,
)
from aquachat.cli.runs import runs_group

if TYPE_CHECKING:
    from aquachat.track.wandb_sink import WandbOptions

PANEL = "Inspect"


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("doctor", rich_help_panel=PANEL)(doctor)
    app.command("report", rich_help_panel=PANEL)(report)
    app.add_typer(runs_group, name="runs", rich_help_panel=PANEL)


@recipe_command(
    "run",
    common=("run", *TRACKING_OPTIONS, *OUTPUT_OPTIONS),
    arguments={
        "landscape": Argument(
            bool,
            False,
            typer.Option(
                "--landscape",
                help="Measure the loss around the final weights first: about 460 forward passes "
                "of a small batch",
            ),
        )
    },
)
def report(settings: Settings) -> None:
    """Write `report.md` and `report.html` of a run from its files.

    Examples:
        aquachat report

        aquachat report --run mine --landscape
    """
    execute(settings, _report)


def _report(command: Command) -> None:
    from aquachat.track.report import write_report
    from aquachat.track.wandb_report import publish_report

    run = chosen_run(command)
    if command.settings["landscape"]:
        _measure(command, run)
    run_dir = command.home.run(run)
    paths = write_report(run_dir, price_usd_per_hour=_price_usd_per_hour(command, run_dir))
    publish_report(run_dir, _wandb(command), environ=command.environ)
    command.output.result({"run": run, "markdown": str(paths.markdown), "html": str(paths.html)})
    command.output.text(f"{paths.markdown}\n{paths.html}")
    command.output.next_command(f"aquachat chat --run {run}")


def _price_usd_per_hour(command: Command, run_dir: Path) -> float | None:
    """What an hour of the machine cost that this run came from; None where no record says so.

    A pulled run is a link into the folder of its job, whose machines the ledger knows. Of a job
    that changed machines, the price of the last.
    """
    jobs, target = command.home.cloud.resolve(), run_dir.resolve()
    if not target.is_relative_to(jobs):
        return None
    from aquachat.cloud.clock import SystemClock
    from aquachat.cloud.jobs import jobs_of
    from aquachat.cloud.ledger import Ledger

    ledger = Ledger(command.home.cloud / "ledger.jsonl", SystemClock())
    job = jobs_of(ledger.read().records).get(target.relative_to(jobs).parts[0])
    machines = sorted(job.machines.values(), key=lambda m: m.ordered_at_s) if job else []
    price = machines[-1].price_usd_per_hour if machines else None
    return None if price is None else float(price)


def _wandb(command: Command) -> WandbOptions:
    from aquachat.track.wandb_sink import wandb_options

    names = ("wandb", "wandb_project", "wandb_entity")
    return wandb_options(*(command.settings.get(n) for n in names), environ=command.environ)


def _measure(command: Command, run: str) -> None:
    from aquachat.pipeline.landscape import measure_landscape

    recipe = resolve_recipe(command, recorded=recorded_recipe(command.home, run)).recipe
    with command.output.progress("landscape") as progress:
        measure_landscape(open_context(command, recipe, run), progress)
