"""Lambda Cloud, by its public API v1 (specification 1.8.3, https://cloud.lambda.ai/api/v1).

What its table of errors says a client must do is here; what is done about a machine that may or
may not exist is in `launching`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

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
from aquachat.cloud.choosing import check_known, fitting
from aquachat.cloud.errors import (
    AmbiguousWriteError,
    AuthError,
    NoCapacityError,
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

DEFAULT_URL: Final = "https://cloud.lambda.ai/api/v1"
URL_VARIABLE: Final = "AQUACHAT_LAMBDA_URL"
KEYS_PAGE: Final = "https://cloud.lambda.ai/api-keys"
SERVICE: Final = "Lambda"

REGIONS: Final = frozenset(
    (
        *("europe-central-1", "asia-south-1", "australia-east-1", "me-west-1"),
        *("asia-northeast-1", "asia-northeast-2", "us-east-1", "us-east-2", "us-east-3"),
        *("us-west-1", "us-west-2", "us-west-3", "us-south-1", "us-south-2", "us-south-3"),
        *("us-midwest-1", "us-midwest-2"),
    )
)
"""PublicRegionCode of 1.8.3; regions that a listing names are known too."""

_STATUS: Final[Mapping[str, InstanceStatus]] = {
    "booting": InstanceStatus.PENDING,
    "active": InstanceStatus.ACTIVE,
    "unhealthy": InstanceStatus.UNHEALTHY,
    "terminating": InstanceStatus.TERMINATING,
    "terminated": InstanceStatus.TERMINATED,
    "preempted": InstanceStatus.PREEMPTED,
}
_NO_CAPACITY: Final = "instance-operations/launch/insufficient-capacity"
_WRONG_REGION: Final = "instance-operations/launch/file-system-in-wrong-region"
_ARM: Final = re.compile(r"gh200|gb[0-9]{3}", re.IGNORECASE)


class LambdaLabs:
    """A `CloudProvider`. Making one asks nothing and raises ConfigError without a key."""

    name = "lambda"
    key_envs = ("LAMBDA_API_KEY",)
    console_url = "https://cloud.lambda.ai/instances"
    injects_host_key = True

    def __init__(self, around: Surroundings) -> None:
        key = key_of(around.environ, self.key_envs, service=SERVICE, page=KEYS_PAGE)
        self._client = JsonClient(
            service=SERVICE,
            base_url=base_url_of(around.environ, URL_VARIABLE, DEFAULT_URL),
            headers={"Authorization": f"Bearer {key}"},
            user_agent=f"aquachat/{__version__}",
            pacer=around.pacer,
            clock=around.clock,
            rng=around.rng,
            redactor=Redactor([key], around.environ),
            parse_error=_parse_error,
            keys_page=KEYS_PAGE,
            transport=around.transport,
            timeouts=Timeouts(around.read_timeout_s, around.write_timeout_s),
        )

    def offers(self, want: GpuRequest) -> Sequence[Offer]:
        """See `CloudProvider.offers`. A region without capacity is known from the specification."""
        if want.supplier:
            raise ConfigError(
                "Lambda has no suppliers to choose from",
                hint="leave `--supplier` out, or use `aquachat launch hyperbolic`",
            )
        types = as_object(self._data("/instance-types"), SERVICE, "its instance types")
        offers = [_offer(name, item) for name, item in types.items()]
        seen = {region for offer in offers for region in offer.regions}
        check_known("instance type", want.instance_types, types, SERVICE)
        check_known("region", want.regions, REGIONS | seen, SERVICE)
        return fitting(offers, want)

    def ssh_keys(self) -> dict[str, str]:
        """The account's SSH keys: name to public key."""
        keys = as_objects(self._data("/ssh-keys"), SERVICE, "its SSH keys")
        return {text_at(key, "name"): text_at(key, "public_key") for key in keys}

    def prepare(self, spec: LaunchSpec) -> LaunchSpec:
        """Settle on exactly one SSH key; the account's only one where none was named.

        Raises:
            ConfigError: the named key does not exist, or there is none or more than one to take.
        """
        names = sorted(self.ssh_keys())
        page = "https://cloud.lambda.ai/ssh-keys"
        if spec.ssh_key_name:
            if spec.ssh_key_name not in names:
                there = f"the account has: {', '.join(names)}" if names else "it has none"
                raise ConfigError(
                    f"Lambda has no SSH key named `{spec.ssh_key_name}`",
                    hint=f"{there}; add one at {page}",
                )
            return spec
        if len(names) == 1:
            return replace(spec, ssh_key_name=names[0])
        if not names:
            raise ConfigError("the Lambda account has no SSH key", hint=f"add one at {page}")
        raise ConfigError(
            f"the Lambda account has {len(names)} SSH keys",
            hint=f"choose one: `--ssh-key-name NAME`, of {', '.join(names)}",
        )

    def create(self, spec: LaunchSpec) -> Instance:
        """See `CloudProvider.create`."""
        if not spec.ssh_key_name:
            raise ConfigError("Lambda needs exactly one SSH key", hint="give `--ssh-key-name`")
        try:
            answer = self._client.post(
                "/instance-operations/launch", _launch_body(spec), kind="launch"
            )
        except RefusedError as error:
            raise _launch_error(error, spec) from error
        ids = item_at(answer, "data", "instance_ids")
        if not isinstance(ids, list) or len(ids) != 1 or not isinstance(ids[0], str) or not ids[0]:
            raise AmbiguousWriteError(
                f"Lambda took the order `{spec.name}` without naming one machine",
                hint="run `aquachat launch status`",
            )
        return Instance(
            provider=self.name,
            id=ids[0],
            status=InstanceStatus.PENDING,
            name=spec.name,
            region=spec.region,
            instance_type=spec.offer.instance_type,
            gpus=spec.offer.gpus,
            price_usd_per_hour=spec.offer.price_usd_per_hour,
            tags=spec.tags,
        )

    def get(self, instance_id: str) -> Instance:
        """See `CloudProvider.get`."""
        return _instance(self._data(f"/instances/{quote(instance_id, safe='')}"))

    def list(self) -> Sequence[Instance]:
        """See `CloudProvider.list`."""
        found = as_objects(self._data("/instances"), SERVICE, "its list of instances")
        return [_instance(item) for item in found]

    def terminate(self, instance_id: str) -> None:
        """See `CloudProvider.terminate`."""
        body = {"instance_ids": [instance_id]}
        self._client.post("/instance-operations/terminate", body, kind="write")

    def _data(self, path: str) -> Any:
        answer = as_object(self._client.get(path), SERVICE, "data")
        if "data" not in answer:
            raise unreadable(SERVICE, "data")
        return answer["data"]


def _parse_error(answer: Any) -> tuple[str, str, str]:
    return (
        text_at(answer, "error", "code"),
        text_at(answer, "error", "message"),
        text_at(answer, "error", "suggestion"),
    )


def _launch_body(spec: LaunchSpec) -> dict[str, Any]:
    body: dict[str, Any] = {
        "region_name": spec.region,
        "instance_type_name": spec.offer.instance_type,
        "ssh_key_names": [spec.ssh_key_name],
        "name": spec.name,
        "tags": [{"key": key, "value": value} for key, value in spec.tags.items()],
    }
    if spec.file_systems:
        body["file_system_names"] = list(spec.file_systems)
    if spec.image_family:
        body["image"] = {"family": spec.image_family}
    if spec.user_data:
        body["user_data"] = spec.user_data
    return body


def _launch_error(error: RefusedError, spec: LaunchSpec) -> Exception:
    place = f"`{spec.offer.instance_type}` in `{spec.region}`"
    if error.code == _NO_CAPACITY:
        found = NoCapacityError(
            f"Lambda has no {place} now",
            hint="wait with `--wait-for-capacity 2h`, or leave `--region` out",
        )
        found.status, found.code = error.status, error.code
        return found
    if isinstance(error, AuthError):
        return error
    hint = {
        "global/object-does-not-exist": "`aquachat launch offers` lists types; check the SSH key",
        "global/quota-exceeded": "ask Lambda's support for a higher quota, or end a machine",
        _WRONG_REGION: "name the file system's region with `--region`",
    }.get(error.code or "", error.hint)
    other = type(error)(f"{error.message}, for {place}", hint=hint)
    other.status, other.code, other.retry_after_s = error.status, error.code, error.retry_after_s
    return other


def _offer(name: str, item: Any) -> Offer:
    kind = item_at(item, "instance_type")
    regions = item_at(item, "regions_with_capacity_available")
    names = [word_at(region, "name") for region in regions] if isinstance(regions, list) else []
    free = tuple(region for region in names if region)
    gpu_name = word_at(kind, "gpu_description") or word_at(kind, "description")
    return Offer(
        provider=LambdaLabs.name,
        instance_type=name,
        gpus=whole_at(kind, "specs", "gpus") or 0,
        gpu_name=gpu_name,
        price_usd_per_hour=dollars_from_cents(item_at(kind, "price_cents_per_hour")),
        regions=free,
        available=bool(free),
        vcpus=whole_at(kind, "specs", "vcpus"),
        memory_gib=whole_at(kind, "specs", "memory_gib"),
        storage_gib=whole_at(kind, "specs", "storage_gib"),
        architecture="arm64" if _ARM.search(f"{name} {gpu_name}") else "x86_64",
    )


def _instance(item: Any) -> Instance:
    """Reads only what is named here: `jupyter_token` and `jupyter_url` are secrets."""
    instance_id = text_at(item, "id")
    if not instance_id:
        raise unreadable(SERVICE, "the id of an instance")
    raw_status = word_at(item, "status")
    tags = item_at(item, "tags")
    pairs = tags if isinstance(tags, list) else []
    return Instance(
        provider=LambdaLabs.name,
        id=instance_id,
        status=_STATUS.get(raw_status.lower(), InstanceStatus.UNKNOWN),
        raw_status=raw_status,
        name=word_at(item, "name"),
        ip=text_at(item, "ip") or None,
        region=word_at(item, "region", "name"),
        instance_type=word_at(item, "instance_type", "name"),
        gpus=whole_at(item, "instance_type", "specs", "gpus"),
        price_usd_per_hour=dollars_from_cents(
            item_at(item, "instance_type", "price_cents_per_hour")
        ),
        tags={text_at(pair, "key"): text_at(pair, "value") for pair in pairs},
    )
