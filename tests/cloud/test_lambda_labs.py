"""Lambda's API, as its specification has it and as it has been seen to behave."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from aquachat.cloud.base import GpuRequest, InstanceStatus
from aquachat.cloud.errors import (
    AuthError,
    CloudError,
    NoCapacityError,
    NotFoundError,
    RefusedError,
    UnreadableError,
)
from aquachat.cloud.launching import launch
from aquachat.errors import AquachatError, ConfigError
from tests.cloud.fake_cloud import Fault, Reply
from tests.cloud.fake_lambda import FakeLambda
from tests.cloud.world import World


@pytest.fixture
def cloud(lambda_world: World) -> FakeLambda:
    assert isinstance(lambda_world.cloud, FakeLambda)
    return lambda_world.cloud


def test_offers_have_prices_and_regions_cheapest_first(lambda_world: World) -> None:
    offers = lambda_world.session().provider.offers(GpuRequest())
    assert [offer.instance_type for offer in offers] == [
        "gpu_1x_a10",
        "gpu_1x_h100_sxm5",
        "gpu_8x_h100_sxm5",
    ]
    assert offers[1].price_usd_per_hour == Decimal("3.29")
    assert offers[1].regions == ("us-west-1", "us-east-1")
    assert (offers[2].gpus, offers[2].vcpus, offers[2].memory_gib) == (8, 30, 200)


def test_arm_machines_are_offered_only_when_asked_for(lambda_world: World) -> None:
    provider = lambda_world.session().provider
    named = provider.offers(GpuRequest(instance_types=("gpu_1x_gh200",)))
    assert [offer.architecture for offer in named] == ["arm64"]
    assert len(provider.offers(GpuRequest(include_arm=True))) == 4


@pytest.mark.parametrize(
    ("want", "words"),
    [
        (GpuRequest(instance_types=("gpu_1x_h100_sxm",)), "gpu_1x_h100_sxm5"),
        (GpuRequest(instance_types=("$(reboot)",)), "gpu_1x_a10"),
        (GpuRequest(regions=("us-moon-1",)), "us-"),
        (GpuRequest(supplier="acme"), "--supplier"),
    ],
)
def test_what_there_is_not_is_named_with_a_way_out(
    lambda_world: World, want: GpuRequest, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        lambda_world.session().provider.offers(want)
    assert words in str(caught.value.hint)
    assert caught.value.exit_code == 2


def test_the_only_ssh_key_is_taken_where_none_is_named(
    lambda_world: World, cloud: FakeLambda
) -> None:
    launch(lambda_world.session(), lambda_world.plan())
    (order,) = [e for e in cloud.exchanges if e.route == "launch"]
    assert b'"ssh_key_names": ["me"]' in order.request


@pytest.mark.parametrize(
    ("keys", "name", "words"),
    [
        ([], None, "add one at"),
        (["a", "b"], None, "--ssh-key-name NAME"),
        (["a", "b"], "c", "a, b"),
        ([], "c", "it has none"),
        (["a"], "$(rm -rf /)", "the account has: a"),
    ],
)
def test_a_missing_ssh_key_is_found_before_anything_is_ordered(
    lambda_world: World, cloud: FakeLambda, keys: list[str], name: str | None, words: str
) -> None:
    cloud.ssh_keys = keys
    with pytest.raises(ConfigError) as caught:
        launch(lambda_world.session(), lambda_world.plan(ssh_key_name=name))
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert not [e for e in cloud.exchanges if e.route == "launch"]


def test_an_order_holds_one_key_the_name_and_the_tags_and_no_quantity(
    lambda_world: World, cloud: FakeLambda
) -> None:
    plan = lambda_world.plan()
    machine = launch(lambda_world.session(), plan)
    made = cloud.machines[machine.instance_id]
    assert "quantity" not in made.body
    assert made.body["name"] == machine.name
    tags = {tag["key"]: tag["value"] for tag in made.body["tags"]}
    assert tags["aquachat:run"] == plan.job
    assert float(tags["aquachat:max-h"]) == 4.0
    assert abs(int(tags["aquachat:t0"]) - made.created_s) < 30


CODES: list[tuple[int, str, type[AquachatError], int]] = [
    (401, "global/invalid-api-key", AuthError, 4),
    (403, "global/account-inactive", AuthError, 4),
    (403, "global/invalid-address", AuthError, 4),
    (400, "instance-operations/launch/insufficient-capacity", NoCapacityError, 75),
    (400, "instance-operations/launch/file-system-in-wrong-region", RefusedError, 4),
    (400, "global/quota-exceeded", RefusedError, 4),
    (400, "global/object-does-not-exist", RefusedError, 4),
    (404, "global/object-does-not-exist", NotFoundError, 4),
    (400, "global/invalid-parameters", RefusedError, 4),
    (400, "global/duplicate", RefusedError, 4),
    (418, "global/something-new", RefusedError, 4),
]


@pytest.mark.parametrize(("status", "code", "kind", "exit_code"), CODES)
def test_each_code_of_a_refused_order_does_what_its_row_says(
    lambda_world: World,
    cloud: FakeLambda,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    kind: type[AquachatError],
    exit_code: int,
) -> None:
    def refuse(body: dict[str, Any]) -> Reply:
        return Reply(status, cloud.error(code, "The reason."))

    monkeypatch.setattr(cloud, "_launch", refuse)
    with pytest.raises(kind) as caught:
        launch(lambda_world.session(), lambda_world.plan())
    assert caught.value.exit_code == exit_code
    assert caught.value.hint
    assert cloud.num_made == 0
    orders = [e for e in cloud.exchanges if e.route == "launch"]
    assert len(orders) == (2 if kind is NoCapacityError else 1), "each region, or once"
    cloud.has_unknown_fields = True  # codes that the specification does not have for an order


def test_an_expired_key_is_said_with_the_page_that_makes_one(lambda_world: World) -> None:
    lambda_world.cloud.accepted_key = "another"
    with pytest.raises(AuthError) as caught:
        launch(lambda_world.session(), lambda_world.plan())
    assert "does not accept the key" in caught.value.message
    assert "https://cloud.lambda.ai/api-keys" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("booting", InstanceStatus.PENDING),
        ("active", InstanceStatus.ACTIVE),
        ("hibernating", InstanceStatus.UNKNOWN),
        ("", InstanceStatus.UNKNOWN),
    ],
)
def test_unknown_words_and_fields_are_no_error(
    lambda_world: World, cloud: FakeLambda, word: str, status: InstanceStatus
) -> None:
    cloud.has_unknown_fields = True
    cloud.status_of_next.extend([word])
    machine = launch(lambda_world.session(), lambda_world.plan())
    instance = lambda_world.session().provider.get(machine.instance_id)
    assert instance.status is (status if word else InstanceStatus.PENDING)
    assert instance.raw_status == (word or "booting")


def test_an_unknown_region_in_a_list_can_be_chosen(lambda_world: World, cloud: FakeLambda) -> None:
    cloud.has_unknown_fields = True
    cloud.listed_regions["gpu_1x_h100_sxm5"] = ("us-new-9",)
    want = GpuRequest(gpus=("h100",), count=1, regions=("us-new-9",))
    machine = launch(lambda_world.session(), lambda_world.plan(want=want))
    assert machine.region == "us-new-9"


@pytest.mark.parametrize(
    "body",
    [{}, {"data": None}, {"data": {}}, {"data": [1]}, {"data": [{"status": "active"}]}, [], None],
)
def test_a_list_that_cannot_be_read_is_never_an_empty_one(
    lambda_world: World, cloud: FakeLambda, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    monkeypatch.setattr(cloud, "execute", lambda *a: Reply(200, body))
    with pytest.raises(UnreadableError):
        lambda_world.session().provider.list()
    cloud.has_unknown_fields = True


def test_the_jupyter_token_stays_outside(lambda_world: World) -> None:
    session = lambda_world.session()
    launch(session, lambda_world.plan())
    assert "jupyter" not in repr(session.provider.list())


def test_an_odd_id_leads_to_no_other_address(lambda_world: World, cloud: FakeLambda) -> None:
    with pytest.raises(CloudError):
        lambda_world.session().provider.get("../ssh-keys")
    assert [e.path for e in cloud.exchanges] == ["/api/v1/instances/..%2Fssh-keys"]
    cloud.exchanges.clear()


def test_what_a_moved_api_says_names_the_new_host(lambda_world: World) -> None:
    lambda_world.cloud.inject("offers", Fault.MOVED)
    with pytest.raises(RefusedError, match=r"has moved to `new\.example\.com`"):
        launch(lambda_world.session(), lambda_world.plan())
