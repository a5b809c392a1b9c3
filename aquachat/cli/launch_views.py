"""How offers and machines are shown, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aquachat.cli.command import Command
from aquachat.errors import AquachatError

if TYPE_CHECKING:
    from aquachat.cloud.base import Offer
    from aquachat.cloud.ending import Ended
    from aquachat.cloud.estimates import Estimate
    from aquachat.cloud.session import CloudSession
    from aquachat.cloud.survey import Row, Survey
    from aquachat.cloud.workload import Workload

OFFER_COLUMNS = ("provider", "type", "GPUs", "GPU", "memory, GiB", "USD/hour", "free in")
ESTIMATE_COLUMNS = (*OFFER_COLUMNS[:-1], "hours", "USD in all", OFFER_COLUMNS[-1])


def show_offers(command: Command, shown: Sequence[Offer], problems: Mapping[str, str]) -> None:
    """The offers as they are sorted."""
    command.output.result({"offers": [offer_json(o) for o in shown], "problems": problems})
    command.output.table("Offers", OFFER_COLUMNS, [offer_row(offer) for offer in shown])


def show_estimates(
    command: Command, shown: Sequence[Offer], problems: Mapping[str, str], workload: Workload
) -> None:
    """The offers with what a run would take on each, the cheapest run first, and what that assumes.

    Args:
        command: whose answer it is.
        shown: the offers.
        problems: what each provider that could not be asked said.
        workload: the run.
    """
    from aquachat.cloud.estimates import assumption_lines, by_total_cost, estimate

    found = by_total_cost([(offer, estimate(offer, workload)) for offer in shown])
    assumptions = assumption_lines(workload)
    command.output.result(
        {
            "offers": [offer_json(o) | {"estimate": estimate_json(e)} for o, e in found],
            "problems": problems,
            "workload": {
                "name": workload.name,
                "command": workload.command,
                "parameters": workload.num_parameters,
                "tokens": workload.tokens,
                "sampled_tokens": workload.sampled_tokens,
                "flops": workload.flops,
                "assumptions": list(assumptions),
            },
        }
    )
    command.output.table(
        f"`{workload.command}` on each offer", ESTIMATE_COLUMNS, [_estimate_row(*f) for f in found]
    )
    told = [f"{o.instance_type}: {e.problem or e.note}" for o, e in found if e.problem or e.note]
    of_offers = [line for _, entry in found for line in entry.assumptions[:1]]
    for line in dict.fromkeys((*told, *assumptions, *of_offers)):
        command.output.text(f"- {line}")


def estimate_json(found: Estimate) -> dict[str, Any]:
    """`estimate` of an offer in the JSON document."""
    return {
        "hours": found.hours,
        "cost_usd": None if found.cost_usd is None else float(found.cost_usd),
        "problem": found.problem,
        "note": found.note,
        "stage_hours": dict(found.stage_hours),
        "device_batch_tokens": found.device_batch_tokens,
        "assumptions": list(found.assumptions),
    }


def _estimate_row(offer: Offer, found: Estimate) -> tuple[object, ...]:
    *cells, regions = offer_row(offer)
    hours = "-" if found.hours is None else f"{found.hours:.1f}"
    cost = "-" if found.cost_usd is None else f"{found.cost_usd:.2f}"
    return (*cells, hours, cost, regions)


def offer_row(offer: Offer) -> tuple[object, ...]:
    """A line of the table of offers; see `OFFER_COLUMNS`."""
    price = "-" if offer.price_usd_per_hour is None else f"{offer.price_usd_per_hour:.2f}"
    regions = ", ".join(offer.regions) or ("yes" if offer.available else "-")
    memory = offer.memory_gib
    kind = (offer.provider, offer.instance_type, offer.gpus, offer.gpu_name)
    return (*kind, memory, price, regions)


def offer_json(offer: Offer) -> dict[str, Any]:
    """An entry of `offers` in the JSON document."""
    price = offer.price_usd_per_hour
    return {
        "provider": offer.provider,
        "instance_type": offer.instance_type,
        "gpus": offer.gpus,
        "gpu_name": offer.gpu_name,
        "price_usd_per_hour": None if price is None else float(price),
        "regions": list(offer.regions),
        "available": offer.available,
        "vcpus": offer.vcpus,
        "memory_gib": offer.memory_gib,
        "storage_gib": offer.storage_gib,
        "architecture": offer.architecture,
    }


def show_surveys(command: Command, found: Sequence[tuple[CloudSession, Survey]]) -> None:
    """The machines of each provider, and what is known of the rest."""
    rows = [(session, row) for session, view in found for row in view.rows]
    command.output.result({"providers": [_survey_json(session, view) for session, view in found]})
    columns = ("provider", "job", "machine", "type", "region", "status", "USD", "ends", "note")
    if rows:
        command.output.table("Machines", columns, [_row_cells(*row) for row in rows])
    for session, view in found:
        _say_of(command, session, view)


def _say_of(command: Command, session: CloudSession, view: Survey) -> None:
    """What of a survey is no row."""
    if view.problem is None and not view.rows:
        command.output.text(f"{view.provider}: no machine of ours runs")
    if view.num_foreign:
        command.output.note(
            f"{view.provider}: {view.num_foreign} machines of the account are not ours, and are "
            "left alone"
        )
    for order in view.unsettled:
        command.output.warn(
            f"it is not known whether the order `{order.name}` of job {order.job} made a machine; "
            "every `status` and `reap` looks for it"
        )
    if view.num_damaged:
        command.output.warn(
            f"{view.num_damaged} lines of `{session.ledger.path}` cannot be read; they are kept"
        )


def _row_cells(session: CloudSession, row: Row) -> tuple[object, ...]:
    machine = row.machine
    status = "not listed" if row.instance is None else row.instance.raw_status
    cost = "-" if row.cost_usd is None else f"{row.cost_usd:.2f}"
    left_s = row.deadline_s - session.clock.time()
    return (
        machine.provider,
        machine.job,
        machine.instance_id,
        machine.instance_type,
        machine.region,
        status,
        cost,
        f"in {_span(left_s)}" if left_s > 0 else f"{_span(-left_s)} ago",
        row.overdue or _note_of(row),
    )


def _note_of(row: Row) -> str:
    if row.machine.is_left:
        return "its end was not confirmed"
    if row.is_watched:
        return "a launcher here is in charge"
    return "" if row.is_known else "launched from another computer"


def _span(seconds: float) -> str:
    """Example: `_span(7500) -> "2 h 5 min"`."""
    hours, minutes = divmod(int(seconds // 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _survey_json(session: CloudSession, view: Survey) -> dict[str, Any]:
    return {
        "provider": view.provider,
        "problem": view.problem,
        "machines": [_row_json(row) for row in view.rows],
        "unsettled_orders": [{"name": o.name, "job": o.job} for o in view.unsettled],
        "num_foreign": view.num_foreign,
        "num_damaged_ledger_lines": view.num_damaged,
    }


def _row_json(row: Row) -> dict[str, Any]:
    machine, price = row.machine, row.machine.price_usd_per_hour
    return {
        "job": machine.job,
        "instance_id": machine.instance_id,
        "name": machine.name,
        "instance_type": machine.instance_type,
        "region": machine.region,
        "status": None if row.instance is None else str(row.instance.status),
        "ip": None if row.instance is None else row.instance.ip,
        "ordered_at_s": machine.ordered_at_s,
        "deadline_s": row.deadline_s,
        "price_usd_per_hour": None if price is None else float(price),
        "cost_usd": None if row.cost_usd is None else float(row.cost_usd),
        "in_ledger": row.is_known,
        "watched": row.is_watched,
        "overdue": row.overdue or None,
    }


def show_ended(
    command: Command, ended: Sequence[Ended], views: Sequence[tuple[CloudSession, Survey]]
) -> None:
    """What was ended, and with `views` what is left."""
    document: dict[str, Any] = {
        "ended": [
            {
                "provider": one.machine.provider,
                "job": one.machine.job,
                "instance_id": one.machine.instance_id,
                "confirmed_by": one.confirmed_by,
                "cost_usd": None if one.cost_usd is None else float(one.cost_usd),
                "reason": one.reason,
            }
            for one in ended
        ]
    }
    if views:
        document["providers"] = [_survey_json(session, view) for session, view in views]
    command.output.result(document)
    for one in ended:
        cost = "" if one.cost_usd is None else f", {one.cost_usd:.2f} USD in all"
        command.output.text(
            f"{one.machine.provider} machine {one.machine.instance_id} of job {one.machine.job} "
            f"ended ({one.confirmed_by}){cost}"
        )
    if not ended:
        command.output.text("nothing was running that had to be ended")


def warn_of_problems(command: Command, problems: Mapping[str, AquachatError]) -> None:
    """Why a provider gave no offers."""
    for name, error in problems.items():
        command.output.warn(f"{name}: {error.message}")


def warn_of_keyless(command: Command, sessions: Sequence[CloudSession]) -> None:
    """Machines in the ledger at a provider that was not asked must not be forgotten."""
    from aquachat.cloud.jobs import jobs_of

    asked = {session.provider.name for session in sessions}
    jobs = jobs_of(sessions[0].ledger.read().records).values()
    others = {job.provider for job in jobs if job.live or job.unsettled} - asked
    for name in sorted(others):
        command.output.warn(
            f"the ledger has machines at {name}, which was not asked: give `--provider {name}` and "
            "its key"
        )
