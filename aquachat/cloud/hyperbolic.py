"""Hyperbolic's on-demand rentals, the generation of its API that answers (`/v2/on-demand/*`).

There is no official specification; the shapes come from live runs of others in August to October
2026. Prices are in cents for the whole option. A rental has a label and no tags, so the label is
the reconcile key. It is prepaid without overdraft: a machine dies when the balance is used up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from aquachat import __version__
from aquachat.cloud.access import Surroundings, base_url_of, key_of
from aquachat.cloud.base import (
    GpuRequest,
    Instance,
    InstanceStatus,
    LaunchSpec,
    Offer,
    dollars_from_cents,
)
from aquachat.cloud.choosing import fitting
from aquachat.cloud.errors import (
    AmbiguousWriteError,
    NoCapacityError,
    NotFoundError,
    RefusedError,
)
from aquachat.cloud.http import JsonClient, Timeouts
from aquachat.cloud.payload import (
    as_object,
    as_objects,
    item_at,
    text_at,
    unreadable,
    whole_at,
    word_at,
)
from aquachat.cloud.redaction import Redactor
from aquachat.errors import ConfigError

DEFAULT_URL: Final = "https://api.hyperbolic.ai/v2"
URL_VARIABLE: Final = "AQUACHAT_HYPERBOLIC_URL"
KEY_VARIABLES: Final = ("HYPERBOLIC_API_KEY", "HYPERBOLIC_API_TOKEN")
KEYS_PAGE: Final = "https://app.hyperbolic.ai/settings"
BILLING_PAGE: Final = "https://app.hyperbolic.ai/billing"
SERVICE: Final = "Hyperbolic"
OPTIONS: Final = "/on-demand/rental-options"
RENTALS: Final = "/on-demand/virtual-machine-rentals"

_STATUS: Final[Mapping[str, InstanceStatus]] = {
    "pending": InstanceStatus.PENDING,
    "starting": InstanceStatus.PENDING,
    "provisioning": InstanceStatus.PENDING,
    "initializing": InstanceStatus.PENDING,
    "running": InstanceStatus.ACTIVE,
    "terminating": InstanceStatus.TERMINATING,
    "terminated": InstanceStatus.TERMINATED,
    "failed": InstanceStatus.FAILED,
    "error": InstanceStatus.FAILED,
}
_CAPACITY_WORDS: Final = re.compile(
    r"capacity|not available|unavailable|sold out|no (?:available )?(?:nodes|options)",
    re.IGNORECASE,
)


class Hyperbolic:
    """A `CloudProvider`. Making one asks nothing and raises ConfigError without a key."""

    name = "hyperbolic"
    key_envs = KEY_VARIABLES
    console_url = "https://app.hyperbolic.ai/instances"
    injects_host_key = False

    def __init__(self, around: Surroundings) -> None:
        self._client = client_of(around, DEFAULT_URL)

    def offers(self, want: GpuRequest) -> Sequence[Offer]:
        """See `CloudProvider.offers`.

        Raises:
            ConfigError: a supplier, which this API does not name.
            NoCapacityError: nothing of the named regions or types is listed; options come and go
                within a minute, so this may be a typing error or bad luck.
        """
        if want.supplier:
            raise ConfigError(
                f"Hyperbolic no longer says who supplies a machine, so `{want.supplier}` cannot "
                "be chosen",
                hint="leave `--supplier` out, or choose with `--region` and `--max-price`",
            )
        options = as_objects(self._get(OPTIONS), SERVICE, "its rental options")
        offers = merged(offer for option in options if (offer := _offer(option)) is not None)
        _check_listed("region", want.regions, {offer.regions[0] for offer in offers})
        _check_listed("type", want.instance_types, {offer.instance_type for offer in offers})
        return fitting(offers, want)

    def balance_usd(self) -> Decimal:
        """What can still be spent, the overdraft included."""
        answer = as_object(self._get("/customer/balance"), SERVICE, "the balance")
        balance = item_at(answer, "balanceCents")
        overdraft = dollars_from_cents(item_at(answer, "maxOverdraftCents")) or Decimal(0)
        if isinstance(balance, int) and balance < 0:
            return overdraft - Decimal(-balance) / 100
        dollars = dollars_from_cents(balance)
        if dollars is None:
            raise unreadable(SERVICE, "the balance")
        return dollars + overdraft

    def prepare(self, spec: LaunchSpec) -> LaunchSpec:
        """Check that the balance holds the job's budget, since the machine dies at zero.

        Raises:
            ConfigError: file systems or an image, which this API does not offer.
            RefusedError: the balance does not reach.
        """
        if spec.file_systems or spec.image_family:
            raise ConfigError(
                "Hyperbolic has neither file systems nor images to choose from",
                hint="leave `--file-system` and `--image-family` out",
            )
        balance = self.balance_usd()
        needed = spec.budget_usd or spec.offer.price_usd_per_hour or Decimal(0)
        if balance < needed or balance <= 0:
            raise RefusedError(
                f"the Hyperbolic balance is ${balance:.2f}, and the job may cost ${needed:.2f}",
                hint=f"add credit at {BILLING_PAGE}, or lower `--max-hours` or `--max-cost`",
            )
        return replace(spec, user_data=None)

    def create(self, spec: LaunchSpec) -> Instance:
        """See `CloudProvider.create`."""
        body = {
            "gpuType": spec.offer.terms["gpuType"],
            "region": spec.region,
            "gpuCount": spec.offer.gpus,
            "networkType": spec.offer.terms["networkType"],
            "termType": "on-demand",
            "label": spec.name,
        }
        try:
            answer = self._client.post(RENTALS, body, kind="launch")
        except RefusedError as error:
            raise _order_error(error, spec) from error
        rental_id = whole_at(answer, "id")
        if rental_id is None or text_at(answer, "label") not in ("", spec.name):
            raise AmbiguousWriteError(
                f"Hyperbolic took the order `{spec.name}` without naming the rental",
                hint="run `aquachat launch status`",
            )
        made = _instance(answer)
        return replace(
            made,
            name=spec.name,
            region=made.region or spec.region,
            gpus=made.gpus or spec.offer.gpus,
            instance_type=spec.offer.instance_type,
            price_usd_per_hour=made.price_usd_per_hour or spec.offer.price_usd_per_hour,
        )

    def get(self, instance_id: str) -> Instance:
        """See `CloudProvider.get`; found in the list, since no address of one rental is known."""
        for instance in self.list():
            if instance.id == instance_id:
                return instance
        raise NotFoundError(
            f"Hyperbolic lists no rental `{instance_id}`",
            hint="`aquachat launch status` shows what it lists",
        )

    def list(self) -> Sequence[Instance]:
        """See `CloudProvider.list`."""
        rentals = as_objects(self._get(RENTALS), SERVICE, "its list of rentals")
        return [_instance(rental) for rental in rentals]

    def terminate(self, instance_id: str) -> None:
        """See `CloudProvider.terminate`."""
        self._client.post(
            f"{RENTALS}/terminate", {"rentalId": rental_id_of(instance_id)}, kind="write"
        )

    def _get(self, path: str) -> Any:
        try:
            return self._client.get(path)
        except NotFoundError as error:
            raise moved(error) from error


def client_of(around: Surroundings, default_url: str) -> JsonClient:
    """A client with Hyperbolic's key and address."""
    key = key_of(around.environ, KEY_VARIABLES, service=SERVICE, page=KEYS_PAGE)
    return JsonClient(
        service=SERVICE,
        base_url=base_url_of(around.environ, URL_VARIABLE, default_url),
        headers={"Authorization": f"Bearer {key}"},
        user_agent=f"aquachat/{__version__}",  # Python's own is answered with HTTP 403
        pacer=around.pacer,
        clock=around.clock,
        rng=around.rng,
        redactor=Redactor([key], around.environ),
        parse_error=parse_error,
        keys_page=KEYS_PAGE,
        transport=around.transport,
        timeouts=Timeouts(around.read_timeout_s, around.write_timeout_s),
    )


def parse_error(answer: Any) -> tuple[str, str, str]:
    """Errors have no documented schema; the usual two places of a text are read."""
    return (
        text_at(answer, "code"),
        text_at(answer, "message") or text_at(answer, "error", "message"),
        "",
    )


def moved(error: NotFoundError) -> RefusedError:
    """The error for a route that is gone, which says nothing about machines."""
    found = RefusedError(
        f"Hyperbolic has moved its API ({error.message}); aquachat speaks `v2/on-demand` as it was "
        "in October 2026",
        hint=f"update aquachat, or set {URL_VARIABLE}; machines are at {Hyperbolic.console_url}",
    )
    found.status, found.code = error.status, error.code
    return found


def rental_id_of(instance_id: str) -> int:
    """The number that the API wants.

    Raises:
        ConfigError: it is no number.
    """
    if not (instance_id.isascii() and instance_id.isdigit()):
        raise ConfigError(
            f"`{instance_id}` cannot be the id of a Hyperbolic rental",
            hint="`aquachat launch status` lists them",
        )
    return int(instance_id)


def merged(offers: Any) -> list[Offer]:
    """Offers that the order form cannot tell apart (form factors) as one, at the highest price."""
    found: dict[tuple[str, str, int, str], Offer] = {}
    for offer in offers:
        key = (
            offer.terms["gpuType"],
            offer.regions[0],
            offer.gpus,
            offer.terms["networkType"],
        )
        other = found.get(key)
        if other is None:
            found[key] = offer
            continue
        prices = (other.price_usd_per_hour, offer.price_usd_per_hour)
        highest = None if None in prices else max(p for p in prices if p is not None)
        found[key] = replace(
            other,
            gpu_name=" or ".join(dict.fromkeys((other.gpu_name, offer.gpu_name))),
            price_usd_per_hour=highest,
            available=other.available or offer.available,
        )
    return list(found.values())


def _check_listed(kind: str, wanted: Sequence[str], listed: set[str]) -> None:
    if not wanted or listed.intersection(wanted):
        return
    named = ", ".join(f"`{name}`" for name in wanted)
    there = ", ".join(sorted(listed)) or "nothing at all"
    raise NoCapacityError(
        f"Hyperbolic lists no {kind} {named} now",
        hint=f"it lists {there}; if the name is right, wait with `--wait-for-capacity 2h`",
    )


def _order_error(error: RefusedError, spec: LaunchSpec) -> Exception:
    place = f"`{spec.offer.instance_type}` in `{spec.region}`"
    if type(error) is RefusedError and _CAPACITY_WORDS.search(error.message):
        found = NoCapacityError(
            f"Hyperbolic has no {place} now",
            hint="wait with `--wait-for-capacity 2h`, or leave `--region` out",
        )
        found.status, found.code = error.status, error.code
        return found
    if isinstance(error, NotFoundError):
        return moved(error)
    if error.status == 402:
        error.hint = f"add credit at {BILLING_PAGE}"
    return error


def _offer(option: Mapping[str, Any]) -> Offer | None:
    """None for what cannot be ordered: switched off, bare metal, or without type, size, region."""
    gpu_type = word_at(option, "gpuType")
    region = word_at(option, "region")
    gpus = whole_at(option, "gpuCount")
    machine = text_at(option, "machineType") or "virtual-machine"
    if option.get("enabled") is False or machine != "virtual-machine":
        return None
    if not gpu_type or not region or not gpus:
        return None
    form = word_at(option, "gpuFormFactor")
    free = whole_at(option, "totalAvailable")  # missing is unknown, and worth a try
    return Offer(
        provider=Hyperbolic.name,
        instance_type=f"{gpu_type}-x{gpus}",
        gpus=gpus,
        gpu_name=f"{gpu_type.upper()} {form}".strip(),
        price_usd_per_hour=dollars_from_cents(option.get("costPerHourCents")),
        regions=(region,),
        available=free is None or free > 0,
        vcpus=whole_at(option, "nodes", 0, "vcpuCount"),
        memory_gib=whole_at(option, "nodes", 0, "ramGb"),
        storage_gib=whole_at(option, "nodes", 0, "storageGb"),
        terms={
            "gpuType": gpu_type,
            "networkType": text_at(option, "connectionType") or "ethernet",
        },
    )


def _instance(rental: Mapping[str, Any]) -> Instance:
    rental_id = whole_at(rental, "id")
    if rental_id is None:
        raise unreadable(SERVICE, "the id of a rental")
    raw_status = word_at(rental, "status")
    gpus = whole_at(rental, "gpuCount")
    login = item_at(rental, "providerData", "sshNetworking", 0)
    public_ip = text_at(rental, "providerData", "nodeNetworking", 0, "publicIp")
    return Instance(
        provider=Hyperbolic.name,
        id=str(rental_id),
        status=_STATUS.get(raw_status.lower(), InstanceStatus.UNKNOWN),
        raw_status=raw_status,
        name=word_at(rental, "label") or word_at(rental, "name"),
        ip=text_at(login, "host") or public_ip or None,
        ssh_user=text_at(login, "user") or "ubuntu",
        ssh_port=whole_at(login, "port") or 22,
        region=word_at(rental, "region"),
        instance_type=f"{word_at(rental, 'gpuType')}-x{gpus}" if gpus else "",
        gpus=gpus,
        price_usd_per_hour=dollars_from_cents(item_at(rental, "currentTerm", "costPerHourCents")),
        created_at=epoch_of(text_at(rental, "createdAt") or text_at(rental, "startedAt")),
    )


def epoch_of(text: str) -> float | None:
    """Seconds since the epoch of a date with its zone, such as `2026-09-12 13:59:00.123+00`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
