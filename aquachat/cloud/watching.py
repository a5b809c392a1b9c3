"""Holding a job to its limits while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from aquachat.cloud.base import Instance
from aquachat.cloud.errors import CloudError, NotFoundError
from aquachat.cloud.jobs import Machine
from aquachat.cloud.session import CloudSession

POLL_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why watching ended."""

    kind: Literal["done", "limit", "gone"]
    """Work ended, a limit was reached, or the provider says that the machine is broken or over."""
    reason: str


def watch(
    session: CloudSession,
    machine: Machine,
    *,
    is_done: Callable[[float], bool] = lambda seconds: False,
    poll_s: float = POLL_S,
) -> Verdict:
    """Return when the job is done, over its limits, or its machine is gone; ends nothing itself.

    The limits are read from the ledger at each poll, so that another command can change them. The
    last wait ends at the deadline, and a poll that takes long is the most by which it is missed.

    Args:
        session: the provider and the ledger.
        machine: of the job.
        is_done: whether the work has ended; it may wait for that for the seconds it is given.
        poll_s: how often the provider is asked.
    """
    while True:
        job = session.job(machine.job)
        now_s = session.clock.time()
        deadline_s = job.deadline_s(machine)
        if job.is_stopped:
            return Verdict("gone", "another command stopped the job")
        if now_s >= deadline_s:
            reason = job.limits.reason(job.uses(machine), now_s) or "its time is up"
            return Verdict("limit", reason)
        if is_done(min(poll_s, deadline_s - now_s)):
            return Verdict("done", "the work ended")
        instance = _ask(session, machine)
        if instance is not None and instance.status.is_broken:
            return Verdict("gone", f"the provider says `{instance.raw_status}`")
        next_s = min(now_s + poll_s, deadline_s)
        session.clock.sleep(max(0.0, next_s - session.clock.time()))


def _ask(session: CloudSession, machine: Machine) -> Instance | None:
    """The machine; None where it could not be asked for or is missing, which proves nothing."""
    try:
        return session.provider.get(machine.instance_id)
    except NotFoundError:
        session.say(
            f"{session.provider.name} does not list machine `{machine.instance_id}`; "
            "taken to be running"
        )
    except CloudError as error:
        session.say(error.message)
    return None
