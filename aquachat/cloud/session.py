"""What launching, ending and looking after machines of one provider share."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aquachat.cloud.base import CloudProvider, Instance
from aquachat.cloud.clock import Clock
from aquachat.cloud.errors import StoppedError
from aquachat.cloud.jobs import Job, Machine, jobs_of
from aquachat.cloud.ledger import Event, Ledger, Record
from aquachat.cloud.limits import Limits
from aquachat.cloud.locking import locked
from aquachat.errors import DataError

logger = logging.getLogger(__name__)

PROBE_S: Final = 1.0
"""How long to wait for a job's lock: `status` holds it for an instant to see whether it is held."""


@dataclass(frozen=True, slots=True)
class CloudSession:
    """A provider, the ledger, and how to speak to a person meanwhile."""

    provider: CloudProvider
    ledger: Ledger
    clock: Clock
    rng: random.Random
    say: Callable[[str], None] = logger.info
    """Takes one line of progress, without secrets."""

    def job(self, job: str) -> Job:
        """What the ledger says of a job; an empty one where it says nothing."""
        return jobs_of(self.ledger.read().records).get(job) or Job(job, self.provider.name)

    def check_not_stopped(self, job: str) -> None:
        """Raise StoppedError if `aquachat launch stop` was run for the job."""
        if self.job(job).is_stopped:
            raise StoppedError(
                f"job {job} was stopped by another command",
                hint="`aquachat launch status` shows what is running",
            )

    def note(self, record: Record) -> None:
        """Write a record whose loss costs no money; a full disk must not keep a machine alive."""
        try:
            self.ledger.append(record)
        except DataError as error:
            self.say(f"the ledger could not be written: {error.message}")

    def adopt(self, instance: Instance, job: str) -> Machine:
        """Take a machine that was found by its name into the ledger."""
        stamp = instance.stamp
        price = instance.price_usd_per_hour
        record = Record(
            Event.ADOPTED,
            job,
            self.provider.name,
            order=instance.name,
            instance_id=instance.id,
            details={
                "instance_type": instance.instance_type,
                "region": instance.region,
                "ordered_at_s": stamp.ordered_at_s if stamp else None,
                "price_usd_per_hour": None if price is None else str(price),
            },
        )
        self.note(record)
        known = self.job(job).machines.get(instance.id)
        return known or machine_of(instance, job, self.clock.time())


def machine_of(instance: Instance, job: str, now_s: float) -> Machine:
    """A machine that the ledger does not have; on the bill since its order, or since now."""
    stamp = instance.stamp
    ordered_at_s = stamp.ordered_at_s if stamp else instance.created_at or now_s
    return Machine(
        provider=instance.provider,
        instance_id=instance.id,
        job=job,
        ordered_at_s=ordered_at_s,
        name=instance.name,
        price_usd_per_hour=instance.price_usd_per_hour,
        instance_type=instance.instance_type,
        region=instance.region,
        status=instance.raw_status,
    )


def mark_started(session: CloudSession, machine: Machine) -> None:
    """Write down that the job goes on without a launcher, so that `reap` leaves it its time.

    Raises:
        DataError: the ledger cannot be written; then `reap` would end the machine.
    """
    session.ledger.append(
        Record(
            Event.STARTED,
            machine.job,
            session.provider.name,
            order=machine.name,
            instance_id=machine.instance_id,
        )
    )


def change_limits(session: CloudSession, job: str, limits: Limits) -> None:
    """Give a job other limits, which its watcher reads at its next look.

    The name of a machine keeps the minutes that it was ordered with, and `reap` on a computer
    without this ledger goes by those.

    Raises:
        DataError: the ledger cannot be written.
    """
    cost = limits.max_cost_usd
    details = {
        "max_hours": limits.max_hours,
        "max_cost_usd": None if cost is None else str(cost),
    }
    session.ledger.append(Record(Event.LIMITS, job, session.provider.name, details=details))


def strays(session: CloudSession, job: Job, listed: list[Instance]) -> list[Instance]:
    """Running machines that carry the job's name and that the ledger does not have."""
    return [
        instance
        for instance in listed
        if instance.stamp is not None
        and instance.stamp.job == job.job
        and not instance.status.is_ended
        and instance.id not in job.machines
    ]


@contextmanager
def in_charge(session: CloudSession, job: str) -> Iterator[None]:
    """Be the process that looks after a job, until the block ends or the process dies.

    `reap` ends the machines of a job that nobody is in charge of and that has not started.

    Raises:
        DataError: another process is in charge.
    """
    lock = session.ledger.job_lock(job)
    with locked(
        lock, clock=session.clock, wait_s=PROBE_S, holder=f"another `aquachat launch` of {job}"
    ):
        yield
