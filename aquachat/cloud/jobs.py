"""Jobs, orders and machines, rebuilt from the records of the ledger.

    order    open -> filled | refused | unknown -> filled | absent
    machine  live -> terminating -> ended;  left is a live machine that a person must look at

An open order is treated as an unknown one: its process may have died in the middle of the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.limits import Limits, Use
from aquachat.errors import ConfigError

FORGET_UNKNOWN_S: Final = 24 * 3600.0
"""An order of which nothing was seen for so long came to nothing."""


class OrderState(StrEnum):
    """What became of an order."""

    OPEN = "open"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    ABSENT = "absent"
    FILLED = "filled"


class MachineState(StrEnum):
    """What we know of a machine."""

    LIVE = "live"
    TERMINATING = "terminating"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Order:
    """One request that could make a machine."""

    name: str
    job: str
    provider: str
    ordered_at_s: float
    price_usd_per_hour: Decimal | None = None
    instance_type: str = ""
    region: str = ""
    state: OrderState = OrderState.OPEN

    @property
    def is_unsettled(self) -> bool:
        """Whether a machine of it may exist that the ledger does not have."""
        return self.state in (OrderState.OPEN, OrderState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that the ledger knows."""

    provider: str
    instance_id: str
    job: str
    ordered_at_s: float
    """When its order was sent: the bill is counted from here."""
    name: str = ""
    price_usd_per_hour: Decimal | None = None
    instance_type: str = ""
    region: str = ""
    state: MachineState = MachineState.LIVE
    ended_at_s: float | None = None
    status: str = ""
    """The last word of the provider."""
    is_left: bool = False
    """An attempt to end it was not confirmed."""

    @property
    def use(self) -> Use:
        """Its time on the bill."""
        return Use(self.ordered_at_s, self.price_usd_per_hour, self.ended_at_s)


@dataclass(frozen=True, slots=True)
class Job:
    """One launch, with all its orders and machines."""

    job: str
    provider: str = ""
    limits: Limits = field(default_factory=Limits)
    orders: Mapping[str, Order] = field(default_factory=dict)
    machines: Mapping[str, Machine] = field(default_factory=dict)
    """By instance id."""
    is_stopped: bool = False
    """A person stopped it, so nothing more is ordered for it."""
    started_on: str = ""
    """The machine on which training goes on without a launcher; empty before that."""

    @property
    def live(self) -> list[Machine]:
        """Machines whose end is not confirmed, the oldest first."""
        return [m for m in self.machines.values() if m.state is not MachineState.ENDED]

    @property
    def unsettled(self) -> list[Order]:
        """Orders that may have made a machine that nobody knows of."""
        return [order for order in self.orders.values() if order.is_unsettled]

    def uses(self, last: Machine | None = None) -> list[Use]:
        """The bill of every machine; that of `last` (if given) at the end, and open ones before."""
        others = [m.use for m in self.machines.values() if m is not last]
        return others + ([last.use] if last is not None else [])

    def deadline_s(self, machine: Machine) -> float:
        """When a machine must be ended; by hours alone where its price is not known."""
        earlier = [m.use for m in self.machines.values() if m.ended_at_s is not None]
        uses = [*earlier, machine.use] if machine.ended_at_s is None else earlier
        try:
            return self.limits.deadline_s(uses)
        except ConfigError:
            return replace(self.limits, max_cost_usd=None).deadline_s(uses)

    def cost_usd(self, now_s: float) -> Decimal | None:
        """What the job has cost so far; None where a price is not known."""
        costs = [machine.use.cost_usd(now_s) for machine in self.machines.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(costs) else None


def jobs_of(records: Iterable[Record]) -> dict[str, Job]:
    """Every job of a ledger, in the order of their first record.

    A record whose predecessors were lost to damage still counts: a machine that is only mentioned
    is a machine.
    """
    jobs: dict[str, Job] = {}
    for record in records:
        job = jobs.get(record.job) or Job(record.job)
        if record.provider:
            job = replace(job, provider=record.provider)
        jobs[record.job] = _apply(job, record)
    return jobs


def _apply(job: Job, record: Record) -> Job:
    match record.event:
        case Event.INTENT:
            return _with_order(_with_limits(job, record), _order(record))
        case Event.REFUSED | Event.UNKNOWN | Event.ABSENT:
            order = job.orders.get(record.order) or _order(record)
            return _with_order(job, replace(order, state=OrderState(str(record.event))))
        case Event.CREATED | Event.ADOPTED:
            if (filled := job.orders.get(record.order)) is not None:
                job = _with_order(job, replace(filled, state=OrderState.FILLED))
            return _with_machine(job, _machine(job, record))
        case Event.LIMITS:
            return _with_limits(job, record)
        case Event.STARTED:
            return replace(job, started_on=record.instance_id)
        case Event.STOPPED:
            return replace(job, is_stopped=True)
    machine = job.machines.get(record.instance_id) or _machine(job, record)
    match record.event:
        case Event.STATUS:
            machine = replace(machine, status=str(record.details.get("status", "")))
        case Event.TERMINATING if machine.state is MachineState.LIVE:
            machine = replace(machine, state=MachineState.TERMINATING)
        case Event.TERMINATED:
            machine = replace(
                machine, state=MachineState.ENDED, ended_at_s=record.time_s, is_left=False
            )
        case Event.LEFT:
            machine = replace(machine, is_left=True)
    return _with_machine(job, machine)


def _with_order(job: Job, order: Order) -> Job:
    return replace(job, orders={**job.orders, order.name: order})


def _with_machine(job: Job, machine: Machine) -> Job:
    return replace(job, machines={**job.machines, machine.instance_id: machine})


def _with_limits(job: Job, record: Record) -> Job:
    hours = record.details.get("max_hours")
    if hours is None:
        return job
    try:
        return replace(
            job, limits=Limits(float(hours), _decimal(record.details.get("max_cost_usd")))
        )
    except (ConfigError, ValueError):
        return job


def _order(record: Record) -> Order:
    details = record.details
    return Order(
        name=record.order,
        job=record.job,
        provider=record.provider,
        ordered_at_s=_seconds(details.get("ordered_at_s"), record.time_s),
        price_usd_per_hour=_decimal(details.get("price_usd_per_hour")),
        instance_type=str(details.get("instance_type", "")),
        region=str(details.get("region", "")),
    )


def _machine(job: Job, record: Record) -> Machine:
    """The machine of a record, with what its order and what is known already say."""
    order = job.orders.get(record.order)
    known = job.machines.get(record.instance_id)
    if known is not None:
        return known
    details = record.details
    price = _decimal(details.get("price_usd_per_hour"))
    return Machine(
        provider=record.provider or job.provider,
        instance_id=record.instance_id,
        job=record.job,
        ordered_at_s=_seconds(
            details.get("ordered_at_s"), order.ordered_at_s if order else record.time_s
        ),
        name=record.order,
        price_usd_per_hour=price
        if price is not None or order is None
        else order.price_usd_per_hour,
        instance_type=str(details.get("instance_type") or (order.instance_type if order else "")),
        region=str(details.get("region") or (order.region if order else "")),
    )


def _decimal(value: Any) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


def _seconds(value: Any, default_s: float) -> float:
    return float(value) if isinstance(value, int | float) else default_s
