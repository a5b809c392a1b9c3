"""`launch lambda`, `launch hyperbolic`, `launch host`: a machine that works for you."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aquachat.cli.command import Command, execute
from aquachat.cli.launch_options import (
    LIMITS_PANEL,
    MACHINE_PANEL,
    WORK_ARGUMENTS,
    WORK_PANEL,
    dollars,
    flag,
    key_file_of,
    limits_of,
    option,
    seconds_of,
    text,
    texts,
    work_of,
)
from aquachat.cli.launch_plan_view import show_plan
from aquachat.cli.launch_views import OFFER_COLUMNS, offer_json, offer_row
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError

if TYPE_CHECKING:
    from aquachat.cloud.base import GpuRequest
    from aquachat.cloud.launching import LaunchPlan
    from aquachat.cloud.renting import Options, Outcome
    from aquachat.cloud.session import CloudSession
    from aquachat.cloud.work import JobFolder, JobRecord

RENT_ARGUMENTS: dict[str, Argument] = {
    "gpu": texts("--gpu", "NAME", "Part of a GPU's name, in order of preference", MACHINE_PANEL),
    "gpu_count": option(
        int | None, None, "--gpu-count", help="GPUs of the machine", panel=MACHINE_PANEL, min=1
    ),
    "region": texts("--region", "NAME", "In order of preference; may be repeated", MACHINE_PANEL),
    "max_price": text("--max-price", "USD", "Dollars an hour of the whole machine", LIMITS_PANEL),
    "max_hours": option(
        float | None, None, "--max-hours", help="Hours in all (default: 4)", panel=LIMITS_PANEL
    ),
    "max_cost": text("--max-cost", "USD", "Dollars in all", LIMITS_PANEL),
    "wait_for_capacity": text(
        "--wait-for-capacity", "TIME", "Ask again for so long, for example 2h", MACHINE_PANEL
    ),
    "max_rerolls": option(
        int,
        2,
        "--max-rerolls",
        help="How often a machine without a working GPU is replaced (default: 2)",
        panel=MACHINE_PANEL,
        min=0,
    ),
    "keep": flag("--keep", "Leave the machine running until its time is up", LIMITS_PANEL),
    "self_terminate": flag(
        "--self-terminate",
        "Let the machine end itself: your key lies there, for its user only",
        LIMITS_PANEL,
    ),
    "ssh_user": text("--ssh-user", "NAME", "To log in as (default: ubuntu)", MACHINE_PANEL),
    "ssh_port": option(
        int | None, None, "--ssh-port", help="Other than the provider's", panel=MACHINE_PANEL
    ),
    "list_": flag("--list", "Only list what could be ordered", MACHINE_PANEL),
    "dry_run": flag("--dry-run", "Show what would be ordered and done, and its cost", WORK_PANEL),
}


def register(launch: typer.Typer) -> None:
    """Add the commands to the group `launch`."""
    launch.command("lambda")(lambda_)
    launch.command("hyperbolic")(hyperbolic)
    launch.command("host")(host)


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        **WORK_ARGUMENTS,
        "ssh_key_name": text(
            "--ssh-key-name",
            "NAME",
            "SSH key of your account (default: the only one)",
            MACHINE_PANEL,
        ),
        "instance_type": texts(
            "--instance-type", "NAME", "In order of preference; may be repeated", MACHINE_PANEL
        ),
        "file_system": texts("--file-system", "NAME", "Attach it; may be repeated", MACHINE_PANEL),
        "image_family": text("--image-family", "NAME", "Other than Lambda Stack", MACHINE_PANEL),
        "host_key": text(
            "--host-key",
            "given|first",
            "Give the machine a host key (default), or trust the first one seen",
            MACHINE_PANEL,
        ),
        **RENT_ARGUMENTS,
    },
)
def lambda_(settings: Settings) -> None:
    """Rent a machine from Lambda, train on it, bring the results here, and end it.

    Examples:
        aquachat launch lambda --ssh-key-name me --auto-start --inject-env WANDB_API_KEY

        aquachat launch lambda --gpu h100 --gpu-count 8 --preset d20 --max-cost 60 --auto-start

        aquachat launch lambda --dry-run
    """
    execute(settings, lambda command: _rent(command, "lambda"))


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        **WORK_ARGUMENTS,
        "supplier": text("--supplier", "NAME", "Refused: the API names none", MACHINE_PANEL),
        **RENT_ARGUMENTS,
    },
)
def hyperbolic(settings: Settings) -> None:
    """Rent a machine from Hyperbolic, train on it, bring the results here, and end it.

    Examples:
        aquachat launch hyperbolic --gpu-count 1 --max-price 2.5 --auto-start

        aquachat launch hyperbolic --list
    """
    execute(settings, lambda command: _rent(command, "hyperbolic"))


@recipe_command(
    common=OUTPUT_OPTIONS,
    arguments={
        "target": Argument(
            str, inspect.Parameter.empty, typer.Argument(metavar="USER@HOST", help="A machine")
        ),
        **WORK_ARGUMENTS,
        "port": option(
            int, 22, "--port", "-p", help="Of its SSH (default: 22)", panel="The machine"
        ),
        "max_hours": option(
            float | None,
            None,
            "--max-hours",
            help="A timer there ends the training (default: none)",
            panel=LIMITS_PANEL,
        ),
        "dry_run": flag("--dry-run", "Show what would be done", WORK_PANEL),
    },
)
def host(settings: Settings) -> None:
    """Train on any machine that you can log in to; nothing is rented or ended.

    Examples:
        aquachat launch host ubuntu@203.0.113.7 --auto-start

        aquachat launch host me@box -p 2222 --auto-start --device cpu -- aquachat run tiny
    """
    execute(settings, _host)


def _rent(command: Command, provider: str) -> None:
    from aquachat.cloud.providers import open_session
    from aquachat.cloud.renting import Rental, check_options
    from aquachat.cloud.work import job_folder

    settings = command.settings
    session = open_session(
        provider, environ=command.environ, home=command.home, say=command.output.note
    )
    want = _wanted(settings)
    if settings["list_"]:
        _show_offers(command, session, want)
        return
    work = work_of(command, copies_env_file=provider == "hyperbolic")
    plan, options = _plan(settings, session, want), _options(settings)
    plan, options = _with_host_key(plan, options, session, settings.get("host_key"))
    check_options(options)
    if settings["dry_run"]:
        show_plan(command, session, plan, work, options)
        return
    folder = job_folder(command.home, plan.job)
    _announce(command, plan, options)
    rental = Rental(
        session,
        plan,
        work,
        folder,
        command.home,
        options,
        environ=dict(command.environ),
        show=command.output.note,
        max_rerolls=settings["max_rerolls"],
    )
    outcome = rental.run()
    show_outcome(command, folder, outcome)


def _wanted(settings: Settings) -> GpuRequest:
    from aquachat.cloud.base import GpuRequest

    types, gpus = settings.get("instance_type") or (), settings["gpu"] or ()
    count = settings["gpu_count"]
    if count is None and not types and not gpus:
        count = 1
    return GpuRequest(
        instance_types=tuple(types),
        gpus=tuple(gpus),
        count=count,
        regions=tuple(settings["region"] or ()),
        max_price_usd_per_hour=dollars(settings["max_price"]),
        supplier=settings.get("supplier"),
    )


def _plan(settings: Settings, session: CloudSession, want: GpuRequest) -> LaunchPlan:
    from aquachat.cloud.launching import LaunchPlan

    return LaunchPlan(
        want,
        limits_of(settings.options),
        ssh_key_name=settings.get("ssh_key_name"),
        file_systems=tuple(settings.get("file_system") or ()),
        image_family=settings.get("image_family"),
        wait_for_capacity_s=seconds_of(settings["wait_for_capacity"], "--wait-for-capacity"),
    )


def _options(settings: Settings) -> Options:
    from aquachat.cloud.renting import Options
    from aquachat.cloud.target import SSH_PORT, Target

    if settings["detach"] and not settings["auto_start"]:
        raise ConfigError("`--detach` needs `--auto-start`", hint="add it")
    user, port = settings["ssh_user"], settings["ssh_port"]
    Target("localhost", "user" if user is None else user, SSH_PORT if port is None else port)
    return Options(
        auto_start=settings["auto_start"],
        keep=settings["keep"],
        detach=settings["detach"],
        self_terminate=settings["self_terminate"],
        key_file=key_file_of(settings["ssh_key"]),
        user=user,
        port=port,
    )


def _with_host_key(
    plan: LaunchPlan, options: Options, session: CloudSession, choice: str | None
) -> tuple[LaunchPlan, Options]:
    """A host key made here, where the provider carries one to the machine."""
    from dataclasses import replace

    from aquachat.cloud.host_key import make_host_key

    if choice not in (None, "given", "first"):
        raise ConfigError(f"`--host-key` cannot be `{choice}`", hint="use given or first")
    if not session.provider.injects_host_key or choice == "first":
        return plan, options
    key = make_host_key()
    return replace(plan, user_data=key.user_data()), replace(options, host_key=key)


def _show_offers(command: Command, session: CloudSession, want: GpuRequest) -> None:
    offers = [offer for offer in session.provider.offers(want) if offer.available]
    command.output.result({"offers": [offer_json(offer) for offer in offers]})
    command.output.table("Offers", OFFER_COLUMNS, [offer_row(offer) for offer in offers])
    if not offers:
        command.output.note("nothing of that is free now")
    command.output.next_command(f"aquachat launch {session.provider.name} --dry-run")


def _announce(command: Command, plan: LaunchPlan, options: Options) -> None:
    limits = plan.limits
    cost = "" if limits.max_cost_usd is None else f" and ${limits.max_cost_usd}"
    command.output.note(
        f"job {plan.job}: at most {limits.max_hours:g} hours{cost} in all; closing this terminal "
        "or Ctrl-C stops the job, brings its results here and ends its machine"
    )
    if not options.self_terminate:
        command.output.note(
            "while this computer sleeps nothing here ends the machine: see `--self-terminate`, or "
            "run `aquachat launch reap` from cron on another computer"
        )


def show_outcome(command: Command, folder: JobFolder, outcome: Outcome) -> None:
    """What a rental came to.

    Raises:
        AquachatError: the training did not end well.
    """
    from aquachat.cloud.attending import describe_end

    machine, ended = outcome.machine, outcome.ended
    command.output.result(
        {
            **_record_json(folder, outcome.record),
            "instance_id": machine.instance_id,
            "instance_type": machine.instance_type,
            "region": machine.region,
            "code": None if outcome.state is None else outcome.state.code,
            "end": None if outcome.state is None else outcome.state.reason or outcome.state.kind,
            "limit": outcome.limit or None,
            "machine_ended": None if ended is None else ended.confirmed_by,
            "cost_usd": None if outcome.cost_usd is None else float(outcome.cost_usd),
            "rerolls": outcome.num_rerolls,
            **_results_json(folder, outcome.pulled is not None),
        }
    )
    if ended is None:
        command.output.text(f"job {machine.job} goes on at {outcome.record.target}")
        command.output.next_command(f"aquachat launch watch {machine.job}")
        return
    cost = "" if outcome.cost_usd is None else f"; the job cost {outcome.cost_usd:.2f} USD"
    command.output.text(f"machine {machine.instance_id} ended ({ended.confirmed_by}){cost}")
    if outcome.limit:
        command.output.warn(f"the job was stopped: {outcome.limit}")
    _show_results(command, folder, outcome.pulled is not None)
    problem = describe_end(outcome.state) if outcome.record.command else None
    if problem is not None:
        raise problem
    command.output.next_command(_next_of(folder))


def _host(command: Command) -> None:
    from aquachat.cloud.attending import describe_end
    from aquachat.cloud.hosting import host as host_work
    from aquachat.cloud.naming import new_job
    from aquachat.cloud.target import parse_target
    from aquachat.cloud.work import job_folder

    settings = command.settings
    key_file = key_file_of(settings["ssh_key"])
    target = parse_target(settings["target"], port=settings["port"], key_file=key_file)
    work = work_of(command, copies_env_file=True)
    if settings["detach"] and not settings["auto_start"]:
        raise ConfigError("`--detach` needs `--auto-start`", hint="add it")
    hours = settings["max_hours"]
    if hours is not None:
        limits_of({"max_hours": hours, "max_cost": None})
    folder = job_folder(command.home, new_job())
    if settings["dry_run"]:
        show_plan(command, None, None, work, None, target=str(target))
        return
    command.output.note(
        f"job {folder.job} on {target}; Ctrl-C only stops looking, `aquachat launch stop "
        f"{folder.job}` ends the training"
    )
    done = host_work(
        target,
        work,
        folder,
        command.home,
        auto_start=settings["auto_start"],
        detach=settings["detach"],
        max_seconds=None if hours is None else 3600 * hours,
        environ=command.environ,
        say=command.output.note,
        show=command.output.note,
    )
    state = done.state
    command.output.result(
        {
            **_record_json(folder, done.record),
            "code": None if state is None else state.code,
            "end": None if state is None else state.reason or state.kind,
            **_results_json(folder, done.pulled is not None),
        }
    )
    if not settings["auto_start"]:
        command.output.text(f"{target} is set up in `{done.record.work}`")
        command.output.next_command(f"aquachat launch ssh {folder.job}")
        return
    if state is None:
        command.output.text(f"job {folder.job} goes on at {target}")
        command.output.next_command(f"aquachat launch logs {folder.job} --follow")
        return
    _show_results(command, folder, done.pulled is not None)
    problem = describe_end(state)
    if problem is not None:
        raise problem
    command.output.next_command(_next_of(folder))


def _record_json(folder: JobFolder, record: JobRecord) -> dict[str, Any]:
    return {
        "job": folder.job,
        "provider": record.provider,
        "host": record.host,
        "user": record.user,
        "port": record.port,
        "work": record.work,
        "command": list(record.command),
    }


def _results_json(folder: JobFolder, is_pulled: bool) -> dict[str, Any]:
    runs = folder.results / "runs"
    names = sorted(path.name for path in runs.glob("*") if path.is_dir()) if is_pulled else []
    return {
        "log": str(folder.log) if folder.log.is_file() else None,
        "results": str(folder.results) if is_pulled else None,
        "runs": names,
    }


def _show_results(command: Command, folder: JobFolder, is_pulled: bool) -> None:
    if is_pulled:
        names = ", ".join(_results_json(folder, True)["runs"]) or "no run"
        command.output.text(f"results, with checksums, in {_short(folder.results)}: {names}")
    else:
        command.output.warn("no results were brought here")


def _next_of(folder: JobFolder) -> str:
    names = _results_json(folder, True)["runs"]
    return f"aquachat report --run {names[-1]}" if names else f"aquachat launch logs {folder.job}"


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
