"""`--dry-run` of a launch: what would be ordered, sent and run, and what it may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquachat.cli.command import Command
from aquachat.cli.launch_views import estimate_json, offer_json

if TYPE_CHECKING:
    from aquachat.cloud.base import Offer
    from aquachat.cloud.launching import LaunchPlan
    from aquachat.cloud.renting import Options
    from aquachat.cloud.session import CloudSession
    from aquachat.cloud.work import Work
    from aquachat.cloud.workload import Workload

JOB = "JOB"
MAX_SHOWN = 8


def show_plan(
    command: Command,
    session: CloudSession | None,
    plan: LaunchPlan | None,
    work: Work,
    options: Options | None,
    *,
    target: str = "",
) -> None:
    """Say what would be done; nothing is ordered, and no value of a variable is shown.

    Args:
        command: the call.
        session: the provider, which is asked for its offers; None for one's own machine.
        plan: the order.
        work: what runs.
        options: around it.
        target: one's own machine.
    """
    document: dict[str, Any] = {"dry_run": True, "work": _work_json(work)}
    offers: list[Offer] = []
    if session is not None and plan is not None:
        offers = list(session.provider.offers(plan.want))
        document |= _order_json(session, plan, options)
        workload = _workload(work)
        document["offers"] = [_priced(offer, plan, workload) for offer in offers]
        document["assumptions"] = _assumptions(workload)
    command.output.result(document)
    if target:
        command.output.text(f"machine: {target}, nothing is sent to it now")
    for name, value in document["work"].items():
        if value not in (None, [], ""):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            command.output.text(f"{name.replace('_', ' ')}: {shown}")
    if session is not None and plan is not None:
        _show_order(command, session, plan, work, document, offers)
    command.output.hint("leave `--dry-run` out to do it")


def _work_json(work: Work) -> dict[str, Any]:
    from aquachat.cloud.project import project_files

    files = [] if work.project is None else project_files(work.project)
    return {
        "command": " ".join(work.command(JOB, 1)),
        "project": None if work.project is None else f"{work.project} ({len(files)} files)",
        "clone": None if work.clone is None else work.clone[0],
        "branch": None if work.clone is None else work.clone[1],
        "data": [str(path) for path in work.data],
        "files": [remote for _, remote in work.files],
        "variables": sorted(work.env),
        "device": work.device,
    }


def _order_json(session: CloudSession, plan: LaunchPlan, options: Options | None) -> dict[str, Any]:
    limits = plan.limits
    return {
        "provider": session.provider.name,
        "max_hours": limits.max_hours,
        "max_cost_usd": None if limits.max_cost_usd is None else float(limits.max_cost_usd),
        "ssh_key_name": plan.ssh_key_name,
        "host_key": "given to the machine" if plan.user_data else "pinned when first seen",
        "file_systems": list(plan.file_systems),
        "auto_start": options is not None and options.auto_start,
        "self_terminate": options is not None and options.self_terminate,
    }


def _workload(work: Work) -> Workload | None:
    """What the preset computes; None for a command, of which nothing is known."""
    from aquachat.cloud.workload import Workload

    return None if work.words else Workload.of_preset(work.preset)


def _assumptions(workload: Workload | None) -> list[str]:
    from aquachat.cloud.estimates import assumption_lines

    return [] if workload is None else list(assumption_lines(workload))


def _priced(offer: Offer, plan: LaunchPlan, workload: Workload | None) -> dict[str, Any]:
    from aquachat.cloud.estimates import estimate

    budget = plan.limits.budget_usd(offer.price_usd_per_hour)
    return {
        **offer_json(offer),
        "most_it_may_cost_usd": None if budget is None else float(budget),
        "estimate": None if workload is None else estimate_json(estimate(offer, workload)),
    }


def _show_order(
    command: Command,
    session: CloudSession,
    plan: LaunchPlan,
    work: Work,
    document: dict[str, Any],
    offers: list[Offer],
) -> None:
    command.output.text(f"host key: {document['host_key']}")
    command.output.text(f"limits: {plan.limits.max_hours:g} hours" + _cost_limit(plan))
    rows = [
        (
            offer.instance_type,
            offer.gpus,
            offer.gpu_name,
            "-" if offer.price_usd_per_hour is None else f"{offer.price_usd_per_hour:.2f}",
            "yes" if offer.available else "no",
            *_estimated(row["estimate"]),
            row["most_it_may_cost_usd"],
        )
        for offer, row in zip(offers, document["offers"], strict=True)
    ]
    columns = ("type", "GPUs", "GPU", "USD/hour", "free now", "hours", "USD", "at most, USD")
    command.output.table(
        f"Tried in this order at {session.provider.name}", columns, rows[:MAX_SHOWN]
    )
    for line in document["assumptions"]:
        command.output.text(f"- {line}")
    if not offers:
        command.output.note("no offer fits what was asked")
    longer = [row for row in document["offers"] if _hours(row) > plan.limits.max_hours]
    if longer:
        command.output.warn(
            f"on {len(longer)} of {len(offers)} offers the run is estimated to take longer than "
            f"the {plan.limits.max_hours:g} hours of `--max-hours`"
        )


def _estimated(found: dict[str, Any] | None) -> tuple[str, str]:
    """Hours and dollars of the whole run, as they are estimated."""
    if found is None or found["hours"] is None:
        return "-", "-"
    cost = found["cost_usd"]
    return f"{found['hours']:.1f}", "-" if cost is None else f"{cost:.2f}"


def _hours(row: dict[str, Any]) -> float:
    found = row["estimate"]
    return 0.0 if found is None or found["hours"] is None else float(found["hours"])


def _cost_limit(plan: LaunchPlan) -> str:
    cost = plan.limits.max_cost_usd
    return "" if cost is None else f" and {cost} USD"
