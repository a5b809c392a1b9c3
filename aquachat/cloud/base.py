"""What every provider of machines speaks: requests, offers, instances, and the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, Protocol

from aquachat.cloud.naming import Stamp, stamp_of

MAX_CENTS: Final = 10**9
"""What is dearer in an hour is no price but a mistake."""


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """What a person wants; an empty field does not restrict.

    Example:
        GpuRequest(gpus=("h100",), count=1, max_price_usd_per_hour=Decimal("2.5"))
    """

    instance_types: tuple[str, ...] = ()
    """Exact names, in order of preference."""
    gpus: tuple[str, ...] = ()
    """Parts of a GPU's name in any case, in order of preference: `h100`, `a10`."""
    count: int | None = None
    """GPUs of one machine."""
    regions: tuple[str, ...] = ()
    """In order of preference; a named region is tried even where the list shows no capacity."""
    max_price_usd_per_hour: Decimal | None = None
    """Of the whole machine; an offer without a known price never passes."""
    supplier: str | None = None
    include_arm: bool = False
    """Machines with arm64 processors, which need other wheels; else only when named exactly."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A kind of machine that a provider rents out."""

    provider: str
    instance_type: str
    gpus: int
    gpu_name: str
    price_usd_per_hour: Decimal | None
    """Of the whole machine; None where the provider names no price."""
    regions: tuple[str, ...] = ()
    """Where it is said to be free now, which is advice and no promise."""
    available: bool = False
    vcpus: int | None = None
    memory_gib: int | None = None
    storage_gib: int | None = None
    architecture: str = "x86_64"
    supplier: str | None = None
    terms: Mapping[str, str] = field(default_factory=dict)
    """What this provider needs to order it, for example `networkType`."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One order: what to rent, where, and what marks it as ours."""

    offer: Offer
    region: str
    name: str
    """The reconcile key, see `naming`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    ssh_key_name: str | None = None
    """A key that the provider has already; exactly one."""
    user_data: str | None = field(default=None, repr=False)
    """cloud-init for the host key only. Secrets of a person never go in here."""
    file_systems: tuple[str, ...] = ()
    image_family: str | None = None
    budget_usd: Decimal | None = None
    """The most that the job may cost; a prepaid account must hold it."""


class InstanceStatus(StrEnum):
    """What a machine does, in words that are the same for every provider."""

    PENDING = "pending"
    ACTIVE = "active"
    UNHEALTHY = "unhealthy"
    PREEMPTED = "preempted"
    FAILED = "failed"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    UNKNOWN = "unknown"
    """A word that this version does not know. Taken for running and billing."""

    @property
    def is_ended(self) -> bool:
        """Whether the provider says that the machine is ending or gone."""
        return self in (InstanceStatus.TERMINATING, InstanceStatus.TERMINATED)

    @property
    def is_broken(self) -> bool:
        """Whether waiting for it is pointless."""
        return self in (InstanceStatus.PREEMPTED, InstanceStatus.FAILED) or self.is_ended


@dataclass(frozen=True, slots=True)
class Instance:
    """A rented machine, as the provider describes it. Holds no secret."""

    provider: str
    id: str
    status: InstanceStatus
    raw_status: str = ""
    """The provider's own word."""
    name: str = ""
    ip: str | None = None
    ssh_user: str = "ubuntu"
    ssh_port: int = 22
    region: str = ""
    instance_type: str = ""
    gpus: int | None = None
    price_usd_per_hour: Decimal | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: float | None = None
    """Seconds since the epoch, where the provider says so."""

    @property
    def stamp(self) -> Stamp | None:
        """What our tags or our name say about it; None for a machine that is not ours."""
        return stamp_of(self.name, self.tags)

    @property
    def is_reachable(self) -> bool:
        """Whether it is active and has an address; sshd may still be starting."""
        return self.status is InstanceStatus.ACTIVE and bool(self.ip)


class CloudProvider(Protocol):
    """A service that makes and ends machines.

    Every method raises a `CloudError`; an empty list is an answer, never a failure.
    """

    @property
    def name(self) -> str:
        """`lambda` or `hyperbolic`."""
        ...

    @property
    def key_envs(self) -> tuple[str, ...]:
        """The environment variables that can hold the key, best first."""
        ...

    @property
    def console_url(self) -> str:
        """Where a person ends a machine by hand."""
        ...

    @property
    def injects_host_key(self) -> bool:
        """Whether `LaunchSpec.user_data` is carried to the machine."""
        ...

    def offers(self, want: GpuRequest) -> Sequence[Offer]:
        """Every offer that fits, the preferred and then the cheapest first.

        Raises:
            ConfigError: it names a type, region or supplier that there is not.
        """
        ...

    def prepare(self, spec: LaunchSpec) -> LaunchSpec:
        """Check what can be checked before money is spent: the SSH key, the balance."""
        ...

    def create(self, spec: LaunchSpec) -> Instance:
        """Order a machine, once.

        Raises:
            NoCapacityError: refused, nothing was created.
            RefusedError: refused, nothing was created.
            NotSentError: nothing was asked.
            AmbiguousWriteError: a machine may exist.
        """
        ...

    def get(self, instance_id: str) -> Instance:
        """Describe a machine.

        Raises:
            NotFoundError: the provider answered that there is none with this id.
        """
        ...

    def list(self) -> Sequence[Instance]:
        """Every machine of the account, of whatever origin."""
        ...

    def terminate(self, instance_id: str) -> None:
        """Ask to end a machine; may be repeated. That this returns is no proof, see `ending`."""
        ...


def dollars_from_cents(cents: Any) -> Decimal | None:
    """A price in dollars from one in cents (`275`, `"275"`, `99.5`); None if it is no price.

    Example:
        dollars_from_cents("275") -> Decimal("2.75")
    """
    if cents is None or isinstance(cents, bool):
        return None
    try:
        amount = Decimal(str(cents).strip())
    except InvalidOperation:
        return None
    return amount / 100 if amount.is_finite() and 0 <= amount < MAX_CENTS else None
