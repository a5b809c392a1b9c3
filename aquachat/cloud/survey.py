"""What runs, what it costs, and ending what should not run any more.

Two sources are laid beside each other: what the provider lists, and what the ledger says. Machines
of other people are neither shown as ours nor touched: a machine is ours by its id in the ledger,
or by a name or tags of exactly our form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from aquachat.cloud.base import Instance
from aquachat.cloud.ending import Ended, terminate_and_confirm
from aquachat.cloud.errors import CloudError, LeftRunningError
from aquachat.cloud.jobs import FORGET_UNKNOWN_S, Job, Machine, Order, jobs_of
from aquachat.cloud.launching import RECONCILE_POLL_S, RECONCILE_S
from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.locking import is_locked
from aquachat.cloud.naming import is_job
from aquachat.cloud.session import CloudSession, machine_of

PULL_GRACE_S: Final = 900.0
"""How long after its deadline a living watcher may still pull results before `reap` steps in."""


@dataclass(frozen=True, slots=True)
class Row:
    """One machine, in both views."""

    machine: Machine
    instance: Instance | None
    """None where the provider does not list it, which is no proof that it is gone."""
    is_known: bool
    """Whether it is in this computer's ledger; else it is of ours, from another computer."""
    is_watched: bool
    """Whether a living process here is in charge of it."""
    deadline_s: float
    cost_usd: Decimal | None
    overdue: str = ""
    """Why it should not be running; empty where it may."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of one provider."""

    provider: str
    rows: tuple[Row, ...] = ()
    unsettled: tuple[Order, ...] = ()
    """Orders of which it is not known whether they made a machine."""
    problem: str | None = None
    """Why the provider could not be asked; then `rows` is what the ledger says."""
    num_foreign: int = 0
    """Machines of the account that are not ours."""
    num_damaged: int = 0
    """Lines of the ledger that cannot be read."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """What `reap` did."""

    ended: tuple[Ended, ...]
    failures: tuple[LeftRunningError, ...]
    survey: Survey
    """What is left."""


def survey(session: CloudSession) -> Survey:
    """Ask the provider, lay its answer beside the ledger, and write down what is new.

    Machines that carry the name of one of our orders are adopted. Nothing is ended.
    """
    try:
        listed = list(session.provider.list())
    except CloudError as error:
        return _from_ledger(session, error)
    jobs = _jobs(session)
    for instance in listed:
        stamp = instance.stamp
        job = jobs.get(stamp.job) if stamp else None
        if job is not None and instance.id not in job.machines and not instance.status.is_ended:
            session.adopt(instance, job.job)
    _settle(session, listed)
    jobs = _jobs(session)
    now_s = session.clock.time()
    by_id = {instance.id: instance for instance in listed}
    rows = [
        _row(session, job, machine, by_id.get(machine.instance_id), now_s)
        for job in jobs.values()
        for machine in job.live
    ]
    known = {machine for job in jobs.values() for machine in job.machines}
    others = [instance for instance in listed if instance.id not in known]
    running = [instance for instance in others if not instance.status.is_ended]
    rows += [_foreign_row(instance, now_s) for instance in running if instance.stamp]
    return Survey(
        session.provider.name,
        tuple(rows),
        tuple(order for job in jobs.values() for order in job.unsettled),
        num_foreign=sum(instance.stamp is None for instance in running),
        num_damaged=session.ledger.read().num_damaged,
    )


def reap(session: CloudSession) -> Reaped:
    """End every machine of ours that should not run any more, and say what could not be ended.

    That is: what is past its limits; what its launcher left behind before training started; and
    what an order made beside the machine that its job uses. A job that a living process is in
    charge of is left to it, until fifteen minutes past its deadline.

    Raises:
        CloudError: the provider could not be asked, so nothing is known.
    """
    found = _survey_settled(session)
    ended, failures = [], []
    for row in found.rows:
        if not row.overdue:
            continue
        session.say(f"ending `{row.machine.instance_id}`: {row.overdue}")
        try:
            ended.append(terminate_and_confirm(session, row.machine, reason=row.overdue))
        except LeftRunningError as error:
            failures.append(error)
    return Reaped(tuple(ended), tuple(failures), survey(session))


def stop(session: CloudSession, target: str) -> list[Ended]:
    """End every machine of a job, or the machine with this id, whoever is in charge.

    A launcher that lives on orders nothing more for the job; it may be waiting for capacity.

    Raises:
        CloudError: the provider could not be asked, or nothing of ours has this name.
        LeftRunningError: the end of one could not be confirmed; the others were tried too.
    """
    is_alive = is_job(target) and _is_watched(session, target)
    if is_alive or target in _jobs(session):
        session.note(Record(Event.STOPPED, target, session.provider.name))
    found = survey(session)
    rows = [row for row in found.rows if target in (row.machine.job, row.machine.instance_id)]
    if not rows and is_alive:
        return []  # its launcher has nothing yet, and orders nothing any more
    if not rows:
        if found.problem is not None:
            raise CloudError(found.problem, hint="run the same command again in a minute")
        raise CloudError(
            f"no machine of ours at {session.provider.name} is, or belongs to, `{target}`",
            hint="`aquachat launch status` lists them",
        )
    ended: list[Ended] = []
    failure: LeftRunningError | None = None
    for row in rows:
        try:
            ended.append(terminate_and_confirm(session, row.machine, reason="stopped by a person"))
        except LeftRunningError as error:
            session.say(error.message)
            failure = failure or error
    if failure is not None:
        raise failure
    return ended


def _survey_settled(session: CloudSession) -> Survey:
    """A survey that waits until fresh orders of dead launchers can be told from empty ones."""
    while True:
        found = survey(session)
        if found.problem is not None:
            raise CloudError(
                f"what runs is not known: {found.problem}",
                hint=f"run it again in a minute, or look at {session.provider.console_url}",
            )
        now_s = session.clock.time()
        fresh = [
            order
            for order in found.unsettled
            if 0 <= now_s - order.ordered_at_s < RECONCILE_S and not _is_watched(session, order.job)
        ]
        if not fresh:
            return found
        session.clock.sleep(RECONCILE_POLL_S)


def _jobs(session: CloudSession) -> dict[str, Job]:
    jobs = jobs_of(session.ledger.read().records)
    return {name: job for name, job in jobs.items() if job.provider == session.provider.name}


def _settle(session: CloudSession, listed: Sequence[Instance]) -> None:
    """Write down what the provider says of machines that ended, and close very old orders."""
    now_s = session.clock.time()
    by_id = {instance.id: instance for instance in listed}
    for job in _jobs(session).values():
        for machine in job.live:
            instance = by_id.get(machine.instance_id)
            if instance is not None and instance.status.is_ended:
                _note_ended(session, machine, instance, now_s)
        for order in job.unsettled:
            if now_s - order.ordered_at_s >= FORGET_UNKNOWN_S:
                session.note(Record(Event.ABSENT, job.job, order.provider, order=order.name))


def _note_ended(session: CloudSession, machine: Machine, instance: Instance, now_s: float) -> None:
    cost = machine.use.cost_usd(now_s)
    session.note(
        Record(
            Event.TERMINATED,
            machine.job,
            machine.provider,
            order=machine.name,
            instance_id=machine.instance_id,
            details={
                "reason": "found ended",
                "confirmed_by": str(instance.status),
                "cost_usd": None if cost is None else str(cost),
            },
        )
    )


def _row(
    session: CloudSession, job: Job, machine: Machine, instance: Instance | None, now_s: float
) -> Row:
    if machine.price_usd_per_hour is None and instance is not None:
        machine = replace(machine, price_usd_per_hour=instance.price_usd_per_hour)
    is_watched = _is_watched(session, job.job)
    deadline_s = job.deadline_s(machine)
    overdue = ""
    if now_s >= deadline_s + (PULL_GRACE_S if is_watched else 0.0):
        overdue = "it is past its limits"
    elif not is_watched and not job.started_on:
        overdue = "its launcher is gone, and training had not started"
    elif not is_watched and job.started_on != machine.instance_id:
        overdue = f"its job uses `{job.started_on}`"
    return Row(
        machine, instance, True, is_watched, deadline_s, machine.use.cost_usd(now_s), overdue
    )


def _foreign_row(instance: Instance, now_s: float) -> Row:
    """A machine of ours that another computer launched: only its stamp says how long it may run."""
    stamp = instance.stamp
    if stamp is None:
        raise ValueError("not a machine of ours")
    machine = machine_of(instance, stamp.job, now_s)
    is_over = now_s >= stamp.deadline_s + PULL_GRACE_S
    overdue = "it is past the limits in its name" if is_over else ""
    cost = machine.use.cost_usd(now_s)
    return Row(machine, instance, False, False, stamp.deadline_s, cost, overdue)


def _from_ledger(session: CloudSession, error: CloudError) -> Survey:
    now_s = session.clock.time()
    jobs = _jobs(session)
    return Survey(
        session.provider.name,
        tuple(_row(session, job, m, None, now_s) for job in jobs.values() for m in job.live),
        tuple(order for job in jobs.values() for order in job.unsettled),
        problem=error.message,
        num_damaged=session.ledger.read().num_damaged,
    )


def _is_watched(session: CloudSession, job: str) -> bool:
    return is_locked(session.ledger.job_lock(job))
