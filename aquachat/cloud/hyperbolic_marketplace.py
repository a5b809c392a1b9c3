"""The two older generations of Hyperbolic's API: to see and end machines, not to rent them.

Reported to answer 404 since September 2026, so they are used only where `AQUACHAT_HYPERBOLIC_API`
names one. Their orders carry no label: an order whose answer is lost could not be found again, so
none is placed. Shapes: HyperbolicLabs/hyperbolic-cli 3a62af8 and Hyperbolic-AgentKit 8d2afce.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import (
    GpuRequest,
    Instance,
    InstanceStatus,
    LaunchSpec,
    Offer,
    dollars_from_cents,
)
from aquachat.cloud.choosing import check_known, fitting
from aquachat.cloud.errors import NotFoundError, RefusedError
from aquachat.cloud.hyperbolic import (
    KEY_VARIABLES,
    SERVICE,
    Hyperbolic,
    client_of,
    epoch_of,
    rental_id_of,
)
from aquachat.cloud.hyperbolic import moved as moved_error
from aquachat.cloud.payload import as_objects, item_at, text_at, unreadable, whole_at, word_at
from aquachat.errors import ConfigError

Generation = Literal["marketplace-v1", "marketplace-v2"]
URLS: Final[Mapping[Generation, str]] = {
    "marketplace-v1": "https://api.hyperbolic.xyz/v1/marketplace",
    "marketplace-v2": "https://api.hyperbolic.xyz/v2/marketplace",
}
_STATUS: Final[Mapping[str, InstanceStatus]] = {
    **dict.fromkeys(
        ("pending", "starting", "provisioning", "initializing"), InstanceStatus.PENDING
    ),
    **dict.fromkeys(
        ("ready", "running", "instance_running", "node_ready", "active", "online"),
        InstanceStatus.ACTIVE,
    ),
    "terminating": InstanceStatus.TERMINATING,
    "terminated": InstanceStatus.TERMINATED,
    "failed": InstanceStatus.FAILED,
    "error": InstanceStatus.FAILED,
}


class HyperbolicMarketplace:
    """A `CloudProvider` that refuses to order."""

    name = Hyperbolic.name
    key_envs = KEY_VARIABLES
    console_url = Hyperbolic.console_url
    injects_host_key = False

    def __init__(self, around: Surroundings, generation: Generation) -> None:
        self._client = client_of(around, URLS[generation])
        self._generation = generation

    def offers(self, want: GpuRequest) -> Sequence[Offer]:
        """See `CloudProvider.offers`; only version 1 names suppliers."""
        if self._generation == "marketplace-v1":
            answer = self._read("POST", "/", {"filters": {}})
            nodes = as_objects(item_at(answer, "instances"), SERVICE, "its nodes")
            offers = [_node_offer(node) for node in nodes]
            if want.supplier:
                suppliers = {offer.supplier for offer in offers if offer.supplier}
                check_known("supplier", [want.supplier], suppliers, SERVICE)
                offers = [offer for offer in offers if offer.supplier == want.supplier]
            return fitting(offers, want)
        if want.supplier:
            raise ConfigError(
                "this generation of Hyperbolic's API names no supplier",
                hint="leave `--supplier` out",
            )
        options = as_objects(self._read("GET", "/virtual-machine-options"), SERVICE, "its options")
        return fitting([_option_offer(option) for option in options], want)

    def prepare(self, spec: LaunchSpec) -> LaunchSpec:
        """Refuse: see `create`."""
        raise self._refusal()

    def create(self, spec: LaunchSpec) -> Instance:
        """Refuse, because an order whose answer is lost could not be found again."""
        raise self._refusal()

    def get(self, instance_id: str) -> Instance:
        """See `CloudProvider.get`; found in the list."""
        for instance in self.list():
            if instance.id == instance_id:
                return instance
        raise NotFoundError(
            f"Hyperbolic lists no rental `{instance_id}`",
            hint="`aquachat launch status` shows what it lists",
        )

    def list(self) -> Sequence[Instance]:
        """See `CloudProvider.list`."""
        if self._generation == "marketplace-v1":
            answer = self._read("GET", "/instances")
            rows = as_objects(item_at(answer, "instances"), SERVICE, "its list of instances")
            return [_first_instance(row) for row in rows]
        rows = as_objects(
            self._read("GET", "/virtual-machine-rentals"), SERVICE, "its list of rentals"
        )
        return [_second_instance(row) for row in rows]

    def terminate(self, instance_id: str) -> None:
        """See `CloudProvider.terminate`."""
        if self._generation == "marketplace-v1":
            self._client.post("/instances/terminate", {"id": instance_id}, kind="write")
            return
        body = {"rentalId": rental_id_of(instance_id)}
        self._client.post("/virtual-machine-rentals/terminate", body, kind="write")

    def _read(self, method: str, path: str, body: Any = None) -> Any:
        try:
            return self._client.read(method, path, body)
        except NotFoundError as error:
            raise moved_error(error) from error

    def _refusal(self) -> RefusedError:
        return RefusedError(
            f"aquachat rents nothing through Hyperbolic's `{self._generation}`, whose orders "
            "cannot be marked as ours",
            hint="unset AQUACHAT_HYPERBOLIC_API to use the on-demand generation",
        )


def _node_offer(node: Mapping[str, Any]) -> Offer:
    """Version 1: the price is in cents per hour and GPU."""
    total = whole_at(node, "gpus_total") or 0
    free = 0 if node.get("reserved") is True else total - (whole_at(node, "gpus_reserved") or 0)
    price = dollars_from_cents(item_at(node, "pricing", "price", "amount"))
    region = word_at(node, "location", "region")
    return Offer(
        provider=Hyperbolic.name,
        instance_type=text_at(node, "id"),
        gpus=max(free, 0),
        gpu_name=word_at(node, "hardware", "gpus", 0, "model"),
        price_usd_per_hour=None if price is None else price * max(free, 0),
        regions=(region,) if region else (),
        available=free > 0,
        vcpus=whole_at(node, "hardware", "cpus", 0, "virtual_cores"),
        supplier=word_at(node, "supplier_id") or None,
    )


def _option_offer(option: Mapping[str, Any]) -> Offer:
    """Version 2: the price is in cents per hour, taken for the whole option."""
    gpus = whole_at(option, "gpuCount") or 0
    return Offer(
        provider=Hyperbolic.name,
        instance_type=f"virtual-machine-x{gpus}",
        gpus=gpus,
        gpu_name="",
        price_usd_per_hour=dollars_from_cents(option.get("costPerHour")),
        available=True,
    )


def _first_instance(row: Mapping[str, Any]) -> Instance:
    instance_id = text_at(row, "id")
    if not instance_id:
        raise unreadable(SERVICE, "the id of an instance")
    raw_status = word_at(row, "instance", "status")
    gpus = whole_at(row, "instance", "gpu_count")
    price = dollars_from_cents(item_at(row, "instance", "pricing", "price", "amount"))
    made = Instance(
        provider=Hyperbolic.name,
        id=instance_id,
        status=_STATUS.get(raw_status.lower(), InstanceStatus.UNKNOWN),
        raw_status=raw_status,
        gpus=gpus,
        price_usd_per_hour=None if price is None or gpus is None else price * gpus,
        created_at=epoch_of(text_at(row, "created")),
    )
    return _with_login(made, text_at(row, "sshCommand"))


def _second_instance(row: Mapping[str, Any]) -> Instance:
    rental_id = whole_at(row, "id")
    if rental_id is None:
        raise unreadable(SERVICE, "the id of a rental")
    raw_status = word_at(row, "status")
    made = Instance(
        provider=Hyperbolic.name,
        id=str(rental_id),
        status=_STATUS.get(raw_status.lower(), InstanceStatus.UNKNOWN),
        raw_status=raw_status,
        name=word_at(row, "meta", "name"),
        gpus=whole_at(row, "meta", "gpu_count"),
        price_usd_per_hour=dollars_from_cents(row.get("costPerHour")),
        created_at=epoch_of(text_at(row, "createdAt")),
    )
    made = replace(made, ip=text_at(row, "meta", "public_ip") or None)
    return _with_login(made, text_at(row, "meta", "ssh_command"))


def _with_login(instance: Instance, command: str) -> Instance:
    """Take host, user and port from `ssh ubuntu@host -p 31022`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return instance
    target = next((word for word in words if "@" in word), None)
    if target is None or target.startswith("-"):
        return instance
    user, _, host = target.partition("@")
    port = whole_at(words, words.index("-p") + 1) if "-p" in words else None
    return replace(instance, ip=host or instance.ip, ssh_user=user or "ubuntu", ssh_port=port or 22)
