"""Ending a machine, and believing it only when the provider's own reading says so.

A 200 to a terminate request is no proof: machines have stayed active after one. So the request is
repeated until the status reads terminating or terminated, or until the machine is unknown by its
id and absent from the list, for a minute. Everything else is said loudly, with the id and the
command that tries again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aquachat.cloud.errors import AuthError, CloudError, LeftRunningError, NotFoundError
from aquachat.cloud.jobs import Machine
from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.session import CloudSession

BUDGET_S: Final = 600.0
"""How long ending is tried before a person is called."""
ABSENT_S: Final = 60.0
"""How long a machine must be missing from a list, which can be stale, to count as gone."""
POLL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A machine whose end was confirmed."""

    machine: Machine
    confirmed_by: str
    """`terminating`, `terminated`, or `absent`."""
    cost_usd: Decimal | None
    reason: str


def terminate_and_confirm(
    session: CloudSession, machine: Machine, *, reason: str, budget_s: float = BUDGET_S
) -> Ended:
    """End a machine; on return it is ending or gone, as the provider reads.

    Raises:
        LeftRunningError: that could not be confirmed; the ledger remembers it.
    """
    interrupted_by: BaseException | None = None
    try:
        session.note(_record(session, machine, Event.TERMINATING, reason=reason))
        confirmed_by = _end(session, machine, budget_s)
    except LeftRunningError as error:
        session.note(_record(session, machine, Event.LEFT, reason=error.message))
        raise
    except BaseException as error:  # Ctrl-C too: it would leave a paid machine; raised again below
        interrupted_by = error
        confirmed_by = _end_despite(session, machine, budget_s)
    cost = machine.use.cost_usd(session.clock.time())
    session.note(
        _record(
            session,
            machine,
            Event.TERMINATED,
            reason=reason,
            confirmed_by=confirmed_by,
            cost_usd=None if cost is None else str(cost),
        )
    )
    if interrupted_by is not None:
        raise interrupted_by
    return Ended(machine, confirmed_by, cost, reason)


def end_live(session: CloudSession, job: str, *, reason: str) -> list[Ended]:
    """End every machine of a job that the ledger has as running, all of them, whatever happens.

    A machine that was already given up is left to `stop`, which a person runs.

    Raises:
        LeftRunningError: at least one could not be confirmed; the others were tried too.
    """
    ended = []
    failure: LeftRunningError | None = None
    for machine in session.job(job).live:
        if machine.is_left:
            continue
        try:
            ended.append(terminate_and_confirm(session, machine, reason=reason))
        except LeftRunningError as error:
            session.say(error.message)
            failure = failure or error
    if failure is not None:
        raise failure
    return ended


@contextmanager
def ended_on_error(session: CloudSession, job: str) -> Iterator[None]:
    """End the job's machines if anything, Ctrl-C included, leaves the block.

    This is the policy until training has started.
    """
    try:
        yield
    except BaseException as error:  # Ctrl-C and bugs too: a machine costs whatever went wrong
        if live := session.job(job).live:
            session.say(f"ending {', '.join(f'`{machine.instance_id}`' for machine in live)}")
        end_live(session, job, reason=f"{type(error).__name__} before training started")
        raise


def stop_command(machine: Machine) -> str:
    """The command that ends a machine."""
    return f"aquachat launch stop {machine.job or machine.instance_id}"


def left_running(session: CloudSession, machine: Machine, problem: str) -> LeftRunningError:
    """The loud error for a machine that may still be on the bill."""
    price = machine.price_usd_per_hour
    rate = "at a price that is not known" if price is None else f"at ${price:.2f} an hour"
    error = LeftRunningError(
        f"machine `{machine.instance_id}` of {session.provider.name} may still be running {rate}"
        + (f": {problem}" if problem else ""),
        hint=f"run `{stop_command(machine)}`, or end it at {session.provider.console_url}",
    )
    error.instance_id = machine.instance_id
    return error


def _end(session: CloudSession, machine: Machine, budget_s: float) -> str:
    give_up_s = session.clock.time() + budget_s
    absent_since_s: float | None = None
    while True:
        problem = _ask_to_end(session, machine)
        try:
            instance = session.provider.get(machine.instance_id)
            absent_since_s = None
            if instance.status.is_ended:
                return str(instance.status)
            problem = problem or f"its status is still `{instance.raw_status}`"
        except NotFoundError:
            now_s = session.clock.time()
            is_listed, trouble = _is_listed(session, machine)
            absent_since_s = (
                None if is_listed else now_s if absent_since_s is None else absent_since_s
            )
            if absent_since_s is not None and now_s - absent_since_s >= ABSENT_S:
                return "absent"
            problem = trouble or "it has only just vanished from the list"
        except CloudError as error:
            absent_since_s = None
            _stop_if_hopeless(session, machine, error)
            problem = error.message
        if session.clock.time() >= give_up_s:
            raise left_running(session, machine, problem)
        session.clock.sleep(POLL_S * session.rng.uniform(0.8, 1.2))


def _end_despite(session: CloudSession, machine: Machine, budget_s: float) -> str:
    session.say(
        f"interrupted while ending machine `{machine.instance_id}`, which goes on; "
        f"interrupt again to leave it to `{stop_command(machine)}`"
    )
    try:
        return _end(session, machine, budget_s)
    except LeftRunningError as error:
        session.note(_record(session, machine, Event.LEFT, reason=error.message))
        raise
    except BaseException:  # a second Ctrl-C gives up, and must say which machine is left
        message = left_running(session, machine, "ending it was interrupted").message
        session.note(_record(session, machine, Event.LEFT, reason=message))
        session.say(message)
        raise


def _ask_to_end(session: CloudSession, machine: Machine) -> str:
    """Send the request once; returns what went wrong, empty if nothing."""
    try:
        session.provider.terminate(machine.instance_id)
    except NotFoundError:
        return ""
    except CloudError as error:
        _stop_if_hopeless(session, machine, error)
        return error.message
    return ""


def _stop_if_hopeless(session: CloudSession, machine: Machine, error: CloudError) -> None:
    if isinstance(error, AuthError) and error.status == 401:
        raise left_running(session, machine, error.message) from error


def _is_listed(session: CloudSession, machine: Machine) -> tuple[bool, str]:
    """Whether the list has the machine; taken to have it where the list cannot be read."""
    try:
        listed = session.provider.list()
    except CloudError as error:
        _stop_if_hopeless(session, machine, error)
        return True, error.message
    running = [i for i in listed if i.id == machine.instance_id and not i.status.is_ended]
    return bool(running), "it is still listed" if running else ""


def _record(session: CloudSession, machine: Machine, event: Event, **details: str | None) -> Record:
    return Record(
        event,
        machine.job,
        session.provider.name,
        order=machine.name,
        instance_id=machine.instance_id,
        details=details,
    )
