"""From an order to a machine that can be used, ending and re-ordering those that cannot.

Of eight H100 machines seven came up active without a usable GPU in one report (August 2026), and
one can stay `unhealthy` for ever, paid. So waiting has bounds, and a caller's probe (log in,
multiply two matrices on the GPU) decides; a bad machine is ended and another ordered, at most a
few times, all on the same bill.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aquachat.cloud.base import Instance, InstanceStatus
from aquachat.cloud.ending import ended_on_error, terminate_and_confirm
from aquachat.cloud.errors import AuthError, BootError, CloudError, RefusedError
from aquachat.cloud.jobs import Machine
from aquachat.cloud.launching import LaunchPlan, launch
from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.session import CloudSession, strays

BOOT_S: Final = 1500.0
"""Eight GPUs need 10 to 15 minutes."""
UNHEALTHY_GRACE_S: Final = 120.0
POLL_S: Final = 10.0
MAX_REROLLS: Final = 2

Probe = Callable[[Instance], bool]
"""Whether the machine can be used; False is "not yet", BootError is "never"."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A machine that can be used."""

    machine: Machine
    instance: Instance
    num_rerolls: int
    """Machines that were ended before this one, because they could not be used."""


def launch_ready(
    session: CloudSession,
    plan: LaunchPlan,
    *,
    probe: Probe = lambda instance: True,
    boot_s: float = BOOT_S,
    max_rerolls: int = MAX_REROLLS,
) -> Ready:
    """Rent a machine and wait until `probe` accepts it. On any error nothing is left running.

    Raises:
        BootError: the last of the re-ordered machines was bad too.
        AquachatError: as `launch` does.
    """
    for num_rerolls in range(max_rerolls + 1):
        try:
            with ended_on_error(session, plan.job):
                machine = launch(session, plan)
                instance = wait_until_ready(session, plan, machine, probe=probe, boot_s=boot_s)
        except BootError as error:
            session.say(error.message)
            if num_rerolls == max_rerolls:
                raise
        else:
            return Ready(session.job(plan.job).machines[machine.instance_id], instance, num_rerolls)
    raise AssertionError("the last machine is returned or raises")


def wait_until_ready(
    session: CloudSession,
    plan: LaunchPlan,
    machine: Machine,
    *,
    probe: Probe,
    boot_s: float = BOOT_S,
) -> Instance:
    """Poll until the machine is active, has an address and passes `probe`.

    Every poll also ends machines that an earlier, unclear order of this job made after all.

    Raises:
        BootError: it is broken, unhealthy for two minutes, or not ready in `boot_s`.
        RefusedError: it costs more than `--max-price`.
        AuthError: the key is no longer accepted.
        StoppedError: `aquachat launch stop` was run for the job meanwhile.
    """
    give_up_s = session.clock.time() + boot_s
    health = _Health(session, plan, machine)
    while True:
        session.check_not_stopped(machine.job)
        instance = _look(session, machine)
        if instance is not None:
            health.check(instance)
            if instance.is_reachable and probe(instance):
                return instance
        if session.clock.time() >= give_up_s:
            word = f"`{health.last_word}`" if health.last_word else "not listed"
            raise _bad(machine, f"was not ready within {boot_s / 60:.0f} minutes ({word})")
        job = session.job(machine.job)
        reason = plan.limits.reason(job.uses(machine), session.clock.time())
        if reason is not None:
            raise RefusedError(
                f"machine `{machine.instance_id}` was ended while it started: {reason}",
                hint="raise `--max-hours` or `--max-cost`",
            )
        session.clock.sleep(POLL_S * session.rng.uniform(0.9, 1.1))


class _Health:
    """What was seen of a machine so far."""

    def __init__(self, session: CloudSession, plan: LaunchPlan, machine: Machine) -> None:
        self.last_word = ""
        self._session = session
        self._plan = plan
        self._machine = machine
        self._unhealthy_since_s: float | None = None

    def check(self, instance: Instance) -> None:
        """Note a new status; raise BootError or RefusedError if waiting is pointless."""
        if instance.raw_status != self.last_word:
            self.last_word = instance.raw_status
            _note_status(self._session, self._machine, self.last_word)
        _check_price(self._plan, instance)
        if instance.status.is_broken:
            raise _bad(self._machine, f"became `{instance.raw_status}`")
        now_s = self._session.clock.time()
        if instance.status is not InstanceStatus.UNHEALTHY:
            self._unhealthy_since_s = None
        elif self._unhealthy_since_s is None:
            self._unhealthy_since_s = now_s
        elif now_s - self._unhealthy_since_s >= UNHEALTHY_GRACE_S:
            raise _bad(self._machine, "stays unhealthy")


def _look(session: CloudSession, machine: Machine) -> Instance | None:
    """The machine in the list; None where it is not there (yet) or the list cannot be read."""
    try:
        listed = list(session.provider.list())
    except AuthError:
        raise
    except CloudError as error:
        session.say(error.message)
        return None
    for stray in strays(session, session.job(machine.job), listed):
        extra = session.adopt(stray, machine.job)
        session.say(f"an earlier order made machine `{stray.id}` after all; ending it")
        terminate_and_confirm(session, extra, reason="an earlier order made it after all")
    return next((i for i in listed if i.id == machine.instance_id), None)


def _check_price(plan: LaunchPlan, instance: Instance) -> None:
    most, price = plan.want.max_price_usd_per_hour, instance.price_usd_per_hour
    if most is not None and price is not None and price > most:
        raise RefusedError(
            f"machine `{instance.id}` costs ${price:.2f} an hour, more than `--max-price {most}`",
            hint=f"allow it with `--max-price {price:.2f}`",
        )


def _bad(machine: Machine, what: str) -> BootError:
    return BootError(
        f"machine `{machine.instance_id}` {what}, and was ended",
        hint="try another `--region` or `--instance-type`",
    )


def _note_status(session: CloudSession, machine: Machine, word: str) -> None:
    session.say(f"machine `{machine.instance_id}` is {word or 'without a status'}")
    session.note(
        Record(
            Event.STATUS,
            machine.job,
            session.provider.name,
            order=machine.name,
            instance_id=machine.instance_id,
            details={"status": word},
        )
    )
