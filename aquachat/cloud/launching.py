"""Ordering a machine so that none is ever made that nobody knows of, and never two.

There is no idempotency key at either provider, so:

1. an `intent` with the order's name is on disk before the request;
2. a clear answer is written down before anything else is done;
3. an unclear one (time-out, 5xx, reset, Ctrl-C inside the call) is settled by listing for the name
   for at least a minute: one machine is adopted, of several one is kept and the others are ended,
   none leaves the order `unknown`, which every later `status` and `reap` looks for again;
4. only then may another order go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from aquachat.cloud.base import GpuRequest, Instance, LaunchSpec
from aquachat.cloud.choosing import Candidate, candidates
from aquachat.cloud.ending import terminate_and_confirm
from aquachat.cloud.errors import (
    AmbiguousWriteError,
    AuthError,
    CloudError,
    LedgerError,
    LeftRunningError,
    NoCapacityError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    UnreadableError,
)
from aquachat.cloud.jobs import Job, Machine
from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.limits import Limits
from aquachat.cloud.naming import Stamp, name_of, new_job, tags_of
from aquachat.cloud.session import CloudSession, machine_of
from aquachat.errors import AquachatError, ConfigError, DataError

RECONCILE_S: Final = 60.0
"""How long an order of unclear outcome is looked for."""
RECONCILE_LIMIT_S: Final = 600.0
"""How long the list is asked for where it cannot be read."""
RECONCILE_POLL_S: Final = 5.0
MAX_UNCLEAR: Final = 3
"""Orders without a clear answer or a machine, after which a launch gives up."""
MAX_RATE_LIMITED: Final = 6
CAPACITY_POLL_S: Final = (15.0, 60.0)
"""A window of capacity for eight GPUs lasts about 84 s (measured by others, August 2026)."""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What a person asked for."""

    want: GpuRequest
    limits: Limits = field(default_factory=Limits)
    job: str = field(default_factory=new_job)
    ssh_key_name: str | None = None
    user_data: str | None = field(default=None, repr=False)
    file_systems: tuple[str, ...] = ()
    image_family: str | None = None
    wait_for_capacity_s: float = 0.0


def launch(session: CloudSession, plan: LaunchPlan) -> Machine:
    """Rent one machine: types, then regions, in order, and again while waiting for capacity.

    Raises:
        NoCapacityError: nothing that fits is free (exit code 75).
        ConfigError: an unknown type, region or key name, or a limit that cannot be held.
        CloudError: the provider refused; nothing is running.
        LeftRunningError: whether something is running could not be found out.
        StoppedError: `aquachat launch stop` was run for the job meanwhile.
    """
    return _Launch(session, plan).run()


class _Launch:
    def __init__(self, session: CloudSession, plan: LaunchPlan) -> None:
        self._session = session
        self._plan = plan
        self._prepared: dict[tuple[str, str], LaunchSpec] = {}
        self._num_unclear = 0
        self._num_rate_limited = 0

    def run(self) -> Machine:
        session, plan = self._session, self._plan
        give_up_s = session.clock.time() + plan.wait_for_capacity_s
        while True:
            session.check_not_stopped(plan.job)
            problem: AquachatError | None = None
            try:
                offers = session.provider.offers(plan.want)
            except (NoCapacityError, UnreadableError, NotSentError, RateLimitedError) as error:
                offers, problem = [], error
            for candidate in candidates(offers, plan.want):
                machine = self._try(candidate)
                if machine is not None:
                    return machine
            left_s = give_up_s - session.clock.time()
            if left_s <= 0:
                raise problem or self._no_capacity()
            pause_s = min(session.rng.uniform(*CAPACITY_POLL_S), left_s)
            reason = problem.message if problem else "nothing is free"
            session.say(f"{reason}; asking again in {pause_s:.0f} s")
            session.clock.sleep(pause_s)

    def _try(self, candidate: Candidate) -> Machine | None:
        """Order one candidate, again while the outcome says that this is safe and sensible."""
        while True:
            try:
                return self._order(candidate)
            except NoCapacityError as error:
                self._session.say(error.message)
                return None
            except RateLimitedError as error:
                self._num_rate_limited += 1
                if self._num_rate_limited > MAX_RATE_LIMITED:
                    raise
                grown_s = 12.5 * 2.0 ** min(self._num_rate_limited - 1, 3)
                pause_s = max(error.retry_after_s or 0.0, grown_s)
                self._session.clock.sleep(min(pause_s, 120.0) * self._session.rng.uniform(1.0, 1.5))
            except AmbiguousWriteError as error:  # looked for, and not there
                self._num_unclear += 1
                if self._num_unclear >= MAX_UNCLEAR:
                    raise CloudError(
                        f"{self._num_unclear} orders got no clear answer and made no machine: "
                        f"{error.message}",
                        hint="run `aquachat launch status` in some minutes, before another launch",
                    ) from error

    def _order(self, candidate: Candidate) -> Machine:
        session, plan = self._session, self._plan
        session.check_not_stopped(plan.job)
        job = session.job(plan.job)
        spec = self._spec(candidate, job)
        session.ledger.append(self._intent(spec))
        session.say(f"ordering `{spec.offer.instance_type}` in `{spec.region}` as `{spec.name}`")
        known = frozenset(job.machines)
        try:
            return self._created(session.provider.create(spec), spec)
        except (RefusedError, NoCapacityError, NotSentError, ConfigError) as error:
            self._note(spec, Event.REFUSED, error.message)
            raise
        except AmbiguousWriteError as error:
            self._note(spec, Event.UNKNOWN, error.message)
            session.say(f"{error.message}; looking for `{spec.name}`")
            found = self._find(known)
            if not found:
                raise
            return self._keep_one(found, spec)
        except (LedgerError, LeftRunningError):
            raise
        except BaseException as error:  # Ctrl-C inside the order: a machine may exist all the same
            self._note(spec, Event.UNKNOWN, type(error).__name__)
            self._end_whatever_there_is(spec, known)
            raise

    def _created(self, instance: Instance, spec: LaunchSpec) -> Machine:
        session = self._session
        record = Record(
            Event.CREATED,
            self._plan.job,
            session.provider.name,
            order=spec.name,
            instance_id=instance.id,
        )
        try:
            session.ledger.append(record)
        except DataError as error:
            machine = machine_of(instance, self._plan.job, session.clock.time())
            terminate_and_confirm(session, machine, reason="it could not be written down")
            raise LedgerError(
                f"machine `{instance.id}` was ended again, because the ledger could not be "
                f"written: {error.message}",
                hint=error.hint,
            ) from error
        return session.job(self._plan.job).machines[instance.id]

    def _find(self, known: frozenset[str]) -> list[Instance]:
        """Machines of our name that were not there before the order; looks for a minute.

        Raises:
            LeftRunningError: the list could not be read, so it is not known.
        """
        session = self._session
        started_s = session.clock.time()
        while True:
            trouble = ""
            try:
                listed = session.provider.list()
            except CloudError as error:
                trouble = error.message
                is_hopeless = isinstance(error, AuthError)
                if is_hopeless or session.clock.time() - started_s >= RECONCILE_LIMIT_S:
                    raise self._not_known(trouble) from error
            else:
                found = [i for i in listed if self._is_ours(i) and i.id not in known]
                if found:
                    return found
            if not trouble and session.clock.time() - started_s >= RECONCILE_S:
                return []
            session.clock.sleep(RECONCILE_POLL_S)

    def _is_ours(self, instance: Instance) -> bool:
        stamp = instance.stamp
        return stamp is not None and stamp.job == self._plan.job and not instance.status.is_ended

    def _keep_one(self, found: Sequence[Instance], spec: LaunchSpec) -> Machine:
        """Adopt all, keep that of this order, end the others."""
        session = self._session
        kept, *others = sorted(found, key=lambda i: (i.name != spec.name, i.id))
        machine = session.adopt(kept, self._plan.job)
        session.say(f"found machine `{kept.id}`, which the order had made")
        for other in others:
            extra = session.adopt(other, self._plan.job)
            terminate_and_confirm(session, extra, reason="the order made more than one")
        return machine

    def _end_whatever_there_is(self, spec: LaunchSpec, known: frozenset[str]) -> None:
        """After Ctrl-C or a bug inside the request; what is raised here replaces nothing good."""
        session = self._session
        session.say(
            f"interrupted inside an order; looking for `{spec.name}` for a minute "
            "(interrupt again to leave: `aquachat launch reap` ends it)"
        )
        found = self._find(known)
        for instance in found:
            machine = session.adopt(instance, self._plan.job)
            terminate_and_confirm(session, machine, reason="interrupted inside the order")
        if not found:
            session.say("the order made no machine so far; `aquachat launch status` looks again")

    def _not_known(self, problem: str) -> LeftRunningError:
        provider = self._session.provider
        return LeftRunningError(
            f"whether the order of job {self._plan.job} made a machine is not known: {problem}",
            hint=f"run `aquachat launch status`, or look at {provider.console_url}",
        )

    def _spec(self, candidate: Candidate, job: Job) -> LaunchSpec:
        plan = self._plan
        price = candidate.offer.price_usd_per_hour
        minutes = plan.limits.max_minutes(price, job.uses())
        stamp = Stamp(plan.job, int(self._session.clock.time()), minutes)
        key = (candidate.offer.instance_type, str(price))
        if key not in self._prepared:
            self._prepared[key] = self._session.provider.prepare(
                LaunchSpec(
                    candidate.offer,
                    candidate.region,
                    name_of(stamp),
                    ssh_key_name=plan.ssh_key_name,
                    user_data=plan.user_data,
                    file_systems=plan.file_systems,
                    image_family=plan.image_family,
                    budget_usd=plan.limits.budget_usd(price),
                )
            )
        return replace(
            self._prepared[key],
            offer=candidate.offer,
            region=candidate.region,
            name=name_of(stamp),
            tags=tags_of(stamp),
        )

    def _intent(self, spec: LaunchSpec) -> Record:
        limits = self._plan.limits
        price = spec.offer.price_usd_per_hour
        return Record(
            Event.INTENT,
            self._plan.job,
            self._session.provider.name,
            order=spec.name,
            details={
                "instance_type": spec.offer.instance_type,
                "region": spec.region,
                "gpus": spec.offer.gpus,
                "price_usd_per_hour": None if price is None else str(price),
                "max_hours": limits.max_hours,
                "max_cost_usd": None if limits.max_cost_usd is None else str(limits.max_cost_usd),
            },
        )

    def _note(self, spec: LaunchSpec, event: Event, reason: str) -> None:
        self._session.note(
            Record(
                event,
                self._plan.job,
                self._session.provider.name,
                order=spec.name,
                details={"reason": reason},
            )
        )

    def _no_capacity(self) -> NoCapacityError:
        """Says whether waiting or paying more would help."""
        want, provider = self._plan.want, self._session.provider
        hint = "wait with `--wait-for-capacity 2h`, or allow more types or regions"
        if want.max_price_usd_per_hour is not None:
            dearer = [
                offer.price_usd_per_hour
                for offer in provider.offers(replace(want, max_price_usd_per_hour=None))
                if offer.price_usd_per_hour is not None
            ]
            if dearer and min(dearer) > want.max_price_usd_per_hour:
                return NoCapacityError(
                    f"nothing that fits costs at most ${want.max_price_usd_per_hour} an hour",
                    hint=f"the cheapest is ${min(dearer):.2f}: `--max-price {min(dearer):.2f}`",
                )
        return NoCapacityError(f"nothing that fits is free at {provider.name} now", hint=hint)
