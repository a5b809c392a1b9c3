"""The Cloud panel: what can be rented, what runs and costs money, and ending it.

Exit codes: 4 where a provider could not be asked or an end could not be confirmed, whatever the
other provider said: "could not ask" never reads as "none running".
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from aquachat.cli import launch_job, launch_order
from aquachat.cli.command import Command, execute
from aquachat.cli.launch_options import dollars
from aquachat.cli.launch_template import template
from aquachat.cli.launch_views import (
    show_ended,
    show_estimates,
    show_offers,
    show_surveys,
    warn_of_keyless,
    warn_of_problems,
)
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import AquachatError, ConfigError

if TYPE_CHECKING:
    from aquachat.cloud.base import GpuRequest, Offer
    from aquachat.cloud.ending import Ended
    from aquachat.cloud.session import CloudSession
    from aquachat.cloud.survey import Survey

PANEL = "Cloud"
PROVIDERS = ("lambda", "hyperbolic")
STATUS = "aquachat launch status"

launch = typer.Typer(help="Rented GPUs: offers, what runs, ending it", no_args_is_help=True)

PROVIDER = Argument(
    list[str] | None,
    None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="lambda or hyperbolic; may be repeated; by default those you have a key for",
    ),
)


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.add_typer(launch, name="launch", rich_help_panel=PANEL)


@launch.command("offers")
@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "provider": PROVIDER,
        "gpu": Argument(
            list[str] | None,
            None,
            typer.Option("--gpu", metavar="NAME", help="Part of a GPU's name: h100, a10"),
        ),
        "gpu_count": Argument(
            int | None, None, typer.Option("--gpu-count", min=1, help="GPUs of one machine")
        ),
        "region": Argument(
            list[str] | None, None, typer.Option("--region", metavar="NAME", help="Only there")
        ),
        "max_price": Argument(
            str | None,
            None,
            typer.Option("--max-price", metavar="USD", help="Dollars an hour of the whole machine"),
        ),
        "all_": Argument(
            bool, False, typer.Option("--all", help="Also what is said not to be free now")
        ),
        "depth": Argument(
            int | None,
            None,
            typer.Option(
                "--depth",
                min=1,
                max=256,
                help="Add the hours and dollars of a whole run with so many layers, cheapest first",
            ),
        ),
    },
)
def offers(settings: Settings) -> None:
    """List machines that can be rented now, cheapest first.

    Examples:
        aquachat launch offers

        aquachat launch offers --gpu h100 --gpu-count 1 --max-price 2.5 --json

        aquachat launch offers --depth 20 --all
    """
    execute(settings, _offers)


def _offers(command: Command) -> None:
    from aquachat.cloud.base import GpuRequest
    from aquachat.cloud.providers import offers_of
    from aquachat.cloud.workload import Workload

    settings = command.settings
    want = GpuRequest(
        gpus=tuple(settings["gpu"] or ()),
        count=settings["gpu_count"],
        regions=tuple(settings["region"] or ()),
        max_price_usd_per_hour=dollars(settings["max_price"]),
    )
    providers = [session.provider for session in _sessions(command)]
    found, problems = offers_of(providers, want)
    shown = [offer for offer in found if offer.available or settings["all_"]]
    said = {name: error.message for name, error in problems.items()}
    if settings["depth"] is None:
        show_offers(command, shown, said)
    else:
        show_estimates(command, shown, said, Workload.of_depth(settings["depth"]))
    warn_of_problems(command, problems)
    if not shown and not problems:
        command.output.note(_nothing_free(found, want))
    if problems and not found:
        raise next(iter(problems.values()))
    command.output.next_command(STATUS)


def _nothing_free(found: Sequence[Offer], want: GpuRequest) -> str:
    if found:
        return f"nothing of that is free now; `--all` shows the {len(found)} that could be"
    is_narrow = want != type(want)()
    return "no offer fits what was asked" if is_narrow else "the providers offer nothing now"


@launch.command("status")
@recipe_command(common=OUTPUT_OPTIONS, arguments={"provider": PROVIDER})
def status(settings: Settings) -> None:
    """Show what runs and what it costs: what the provider says beside what the ledger says.

    Examples:
        aquachat launch status

        aquachat launch status --provider lambda --json
    """
    execute(settings, _status)


def _status(command: Command) -> None:
    from aquachat.cloud.survey import survey

    sessions = _sessions(command)
    found = [(session, survey(session)) for session in sessions]
    show_surveys(command, found)
    warn_of_keyless(command, sessions)
    problems = {view.provider: view.problem for _, view in found if view.problem is not None}
    if problems:
        raise _unknown(problems)
    is_overdue = any(row.overdue for _, view in found for row in view.rows)
    has_rows = any(view.rows for _, view in found)
    next_command = "aquachat launch stop JOB" if has_rows else "aquachat launch offers"
    command.output.next_command("aquachat launch reap" if is_overdue else next_command)


@launch.command("reap")
@recipe_command(common=OUTPUT_OPTIONS, arguments={"provider": PROVIDER})
def reap(settings: Settings) -> None:
    """End every machine of ours that should not run any more; safe to run from cron.

    Machines of other people and of other programs are never touched.

    Examples:
        aquachat launch reap

        aquachat launch reap --provider lambda --json
    """
    execute(settings, _reap)


def _reap(command: Command) -> None:
    from aquachat.cloud.errors import CloudError
    from aquachat.cloud.interrupts import raising_signals
    from aquachat.cloud.survey import reap as reap_provider

    sessions = _sessions(command)
    ended: list[Ended] = []
    problems: list[AquachatError] = []
    views: list[tuple[CloudSession, Survey]] = []
    with raising_signals():
        for session in sessions:
            try:
                done = reap_provider(session)
            except CloudError as error:
                problems.append(error)
                continue
            ended += done.ended
            problems += done.failures
            views.append((session, done.survey))
    show_ended(command, ended, views)
    warn_of_keyless(command, sessions)
    _raise_all(command, problems)
    command.output.next_command(STATUS)


@launch.command("stop")
@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "target": Argument(
            str,
            inspect.Parameter.empty,
            typer.Argument(metavar="JOB", help="A job, or the id of a machine"),
        ),
        "now": Argument(
            bool, False, typer.Option("--now", help="End at once, without saving and pulling")
        ),
        "provider": PROVIDER,
    },
)
def stop(settings: Settings) -> None:
    """Let a job save, bring its results here, end its machine and confirm that it ended.

    On a machine of your own only the training ends.

    Examples:
        aquachat launch stop 1a2b3c4d

        aquachat launch stop 1a2b3c4d --now --json
    """
    execute(settings, _stop)


def _stop(command: Command) -> None:
    from aquachat.cli.launch_job import stop_work
    from aquachat.cloud.errors import CloudError
    from aquachat.cloud.interrupts import raising_signals
    from aquachat.cloud.survey import stop as stop_at

    target = command.settings["target"]
    ended: list[Ended] = []
    problems: list[AquachatError] = []
    with raising_signals():
        if stop_work(command, target, now=command.settings["now"]):
            return
        for session in _sessions(command):
            try:
                ended = stop_at(session, target)
                problems = []
                break
            except CloudError as error:
                problems.append(error)
    show_ended(command, ended, ())
    _raise_all(command, problems)
    command.output.next_command(STATUS)


launch.command("template")(template)


def _sessions(command: Command) -> list[CloudSession]:
    """The providers that were named, else those there is a key for.

    Raises:
        ConfigError: there is no key for any, or a name that is none.
    """
    from aquachat.cloud.providers import KEY_ENVS, open_session, with_keys

    names = command.settings["provider"] or with_keys(command.environ)
    if not names:
        variables = " or ".join(variables[0] for variables in KEY_ENVS.values())
        raise ConfigError(
            "there is no key of a provider",
            hint=f"put {variables} into `.env`, see docs/cloud.md",
        )
    return [
        open_session(name, environ=command.environ, home=command.home, say=command.output.note)
        for name in dict.fromkeys(names)
    ]


def _unknown(problems: Mapping[str, str | None]) -> AquachatError:
    from aquachat.cloud.errors import CloudError

    names = " and ".join(problems)
    reasons = "; ".join(str(reason) for reason in problems.values())
    return CloudError(
        f"what runs at {names} is not known: {reasons}",
        hint="run the same command again in a minute",
    )


def _raise_all(command: Command, problems: Sequence[AquachatError]) -> None:
    """Raise the first problem, after the others were said; one that a person must see comes first.

    Raises:
        AquachatError: there is one.
    """
    from aquachat.cloud.errors import LeftRunningError

    ordered = sorted(problems, key=lambda error: not isinstance(error, LeftRunningError))
    for error in ordered[1:]:
        command.output.warn(error.message)
    if ordered:
        raise ordered[0]


launch_order.register(launch)
launch_job.register(launch)
