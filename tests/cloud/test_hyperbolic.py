"""Hyperbolic's on-demand API, and the two older generations for reading."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import GpuRequest, InstanceStatus
from aquachat.cloud.errors import (
    AuthError,
    NoCapacityError,
    NotFoundError,
    RefusedError,
    UnreadableError,
)
from aquachat.cloud.hyperbolic import epoch_of
from aquachat.cloud.hyperbolic_marketplace import HyperbolicMarketplace
from aquachat.cloud.launching import launch
from aquachat.cloud.limits import Limits
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.providers import open_provider, surroundings, with_keys
from aquachat.cloud.wire import WireAnswer, WireRequest
from aquachat.errors import ConfigError
from tests.cloud.fake_cloud import KEY, FakeClock, Reply
from tests.cloud.fake_hyperbolic import OPTIONS, FakeHyperbolic
from tests.cloud.world import World


@pytest.fixture
def cloud(hyperbolic_world: World) -> FakeHyperbolic:
    assert isinstance(hyperbolic_world.cloud, FakeHyperbolic)
    return hyperbolic_world.cloud


def test_prices_in_cents_become_dollars(hyperbolic_world: World) -> None:
    offers = hyperbolic_world.session().provider.offers(GpuRequest())
    assert [offer.price_usd_per_hour for offer in offers] == [
        Decimal("2.75"),
        Decimal("3.19"),
        Decimal("3.99"),
        Decimal("25.52"),
    ]
    assert [offer.instance_type for offer in offers] == ["h100-x1", "h100-x1", "h200-x1", "h100-x8"]


@pytest.mark.parametrize(
    ("change", "is_there"),
    [
        ({"enabled": False}, False),
        ({"machineType": "bare-metal"}, False),
        ({"gpuCount": None}, False),
        ({"region": None}, False),
        ({"costPerHourCents": None}, True),
        ({"nodes": None}, True),
        ({"totalAvailable": 0}, True),
    ],
)
def test_options_that_cannot_be_ordered_are_left_out(
    cloud: FakeHyperbolic, hyperbolic_world: World, change: dict[str, Any], is_there: bool
) -> None:
    option = cloud._option(OPTIONS[0]) | change
    cloud.execute = lambda *a: Reply(200, [option])  # type: ignore[method-assign]
    offers = hyperbolic_world.session().provider.offers(GpuRequest())
    assert bool(offers) is is_there
    if is_there:
        assert offers[0].available is (change.get("totalAvailable") != 0)


def test_an_option_without_a_price_never_passes_a_highest_price(
    cloud: FakeHyperbolic, hyperbolic_world: World
) -> None:
    option = cloud._option(OPTIONS[0]) | {"costPerHourCents": None}
    cloud.execute = lambda *a: Reply(200, [option])  # type: ignore[method-assign]
    want = GpuRequest(max_price_usd_per_hour=Decimal(100))
    assert hyperbolic_world.session().provider.offers(want) == []


def test_options_that_the_order_cannot_tell_apart_count_at_the_higher_price(
    cloud: FakeHyperbolic, hyperbolic_world: World
) -> None:
    options = [
        cloud._option(OPTIONS[0]) | {"gpuFormFactor": form, "costPerHourCents": cents}
        for form, cents in (("pcie", 275), ("sxm5", "319"))
    ]
    cloud.execute = lambda *a: Reply(200, options)  # type: ignore[method-assign]
    (offer,) = hyperbolic_world.session().provider.offers(GpuRequest())
    assert offer.price_usd_per_hour == Decimal("3.19")
    assert offer.gpu_name == "H100 pcie or H100 sxm5"


def test_a_supplier_is_refused_and_never_ignored(hyperbolic_world: World) -> None:
    with pytest.raises(ConfigError, match="`acme` cannot be chosen") as caught:
        hyperbolic_world.session().provider.offers(GpuRequest(supplier="acme"))
    assert "--supplier" in str(caught.value.hint)
    assert hyperbolic_world.cloud.exchanges == []


@pytest.mark.parametrize(
    "want", [GpuRequest(regions=("us-moon-1",)), GpuRequest(instance_types=("b300-x1",))]
)
def test_what_there_is_not_is_named_with_a_way_out(
    hyperbolic_world: World, want: GpuRequest
) -> None:
    with pytest.raises(NoCapacityError) as caught:
        hyperbolic_world.session().provider.offers(want)
    assert "it lists" in str(caught.value.hint)
    assert "--wait-for-capacity" in str(caught.value.hint)


@pytest.mark.parametrize("balance_cents", [0, 1099, -500])
def test_a_balance_that_does_not_reach_is_found_before_anything_is_ordered(
    hyperbolic_world: World, cloud: FakeHyperbolic, balance_cents: int
) -> None:
    cloud.balance_cents = balance_cents
    with pytest.raises(RefusedError, match=r"the job may cost \$11.00") as caught:
        launch(hyperbolic_world.session(), hyperbolic_world.plan())
    assert "https://" in str(caught.value.hint)
    assert cloud.num_made == 0


def test_a_lower_cost_limit_needs_a_lower_balance(
    hyperbolic_world: World, cloud: FakeHyperbolic
) -> None:
    cloud.balance_cents = 300
    launch(hyperbolic_world.session(), hyperbolic_world.plan(limits=Limits(4.0, Decimal(3))))
    assert cloud.num_made == 1


def test_a_balance_that_cannot_be_read_is_no_balance(
    hyperbolic_world: World, cloud: FakeHyperbolic
) -> None:
    cloud.balance_cents = None  # type: ignore[assignment]
    with pytest.raises(UnreadableError, match="balance"):
        launch(hyperbolic_world.session(), hyperbolic_world.plan())


def test_an_order_that_is_not_named_is_found_by_its_label(
    hyperbolic_world: World, cloud: FakeHyperbolic
) -> None:
    cloud.names_new_rental = False
    machine = launch(hyperbolic_world.session(), hyperbolic_world.plan())
    assert [m.id for m in cloud.running()] == [machine.instance_id]


def test_no_cloud_init_is_sent_where_there_is_no_field_for_it(
    hyperbolic_world: World, cloud: FakeHyperbolic
) -> None:
    launch(hyperbolic_world.session(), hyperbolic_world.plan())
    (order,) = [e for e in cloud.exchanges if e.route == "launch"]
    assert b"cloud-config" not in order.request


def test_where_to_log_in_is_read_from_the_one_place_that_says_it(hyperbolic_world: World) -> None:
    session = hyperbolic_world.session()
    machine = launch(session, hyperbolic_world.plan())
    assert session.provider.get(machine.instance_id).ip is None
    hyperbolic_world.clock.sleep(600.0)
    found = session.provider.get(machine.instance_id)
    assert (found.ssh_user, found.ip, found.ssh_port) == ("ubuntu", "198.51.100.7", 22)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("pending", InstanceStatus.PENDING),
        ("RUNNING", InstanceStatus.ACTIVE),
        ("Failed", InstanceStatus.FAILED),
        ("Migrating", InstanceStatus.UNKNOWN),
    ],
)
def test_statuses_are_read_in_any_case(
    hyperbolic_world: World, cloud: FakeHyperbolic, word: str, status: InstanceStatus
) -> None:
    cloud.status_of_next.append(word)
    machine = launch(hyperbolic_world.session(), hyperbolic_world.plan())
    assert hyperbolic_world.session().provider.get(machine.instance_id).status is status


@pytest.mark.parametrize("body", [{}, None, {"instances": []}, [1], [{"status": "Running"}]])
def test_a_list_that_cannot_be_read_is_never_an_empty_one(
    hyperbolic_world: World, cloud: FakeHyperbolic, body: Any
) -> None:
    cloud.execute = lambda *a: Reply(200, body)  # type: ignore[method-assign]
    with pytest.raises(UnreadableError):
        hyperbolic_world.session().provider.list()


def test_an_api_that_moved_is_said_and_proves_nothing(
    hyperbolic_world: World, cloud: FakeHyperbolic
) -> None:
    machine = launch(hyperbolic_world.session(), hyperbolic_world.plan())
    cloud.execute = lambda *a: Reply(404, {"message": "Not Found"})  # type: ignore[method-assign]
    provider = hyperbolic_world.session().provider
    asks = [
        lambda: provider.list(),
        lambda: provider.get(machine.instance_id),
        lambda: provider.offers(GpuRequest()),
    ]
    for ask in asks:
        with pytest.raises(RefusedError, match="has moved its API") as caught:
            ask()
        assert not isinstance(caught.value, NotFoundError), (
            "a 404 of a route is no proof of absence"
        )


def test_an_expired_key_is_said_with_the_page_that_makes_one(hyperbolic_world: World) -> None:
    hyperbolic_world.cloud.accepted_key = "another"
    with pytest.raises(AuthError) as caught:
        launch(hyperbolic_world.session(), hyperbolic_world.plan())
    assert "https://app.hyperbolic.ai" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-09-12 13:59:00.123+00", 1789221540.123),
        ("2026-09-12T13:59:00Z", 1789221540.0),
        ("2026-09-12 13:59:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_without_a_zone_are_no_dates(text: str, seconds: float | None) -> None:
    assert epoch_of(text) == seconds


# the older generations


def _older(generation: str, answers: dict[str, Any]) -> tuple[HyperbolicMarketplace, list[str]]:
    clock = FakeClock()
    sent: list[str] = []

    def transport(request: WireRequest) -> WireAnswer:
        import json

        path = request.url.split("/marketplace", 1)[1]
        sent.append(f"{request.method} {path} {(request.body or b'').decode()}")
        return WireAnswer(200, {}, json.dumps(answers[path]).encode())

    environ = {"HYPERBOLIC_API_TOKEN": KEY, "AQUACHAT_HYPERBOLIC_API": generation}
    around = Surroundings(environ, clock, random.Random(0), Pacer(clock), transport)
    provider = open_provider("hyperbolic", around)
    assert isinstance(provider, HyperbolicMarketplace)
    return provider, sent


NODE = {
    "id": "node-1",
    "reserved": False,
    "hardware": {"gpus": [{"model": "NVIDIA-H100"}], "cpus": [{"virtual_cores": 96}]},
    "gpus_total": 8,
    "gpus_reserved": 6,
    "location": {"region": "region-3"},
    "pricing": {"price": {"amount": 99, "period": "hourly"}},
    "cluster_name": "c",
    "supplier_id": "acme",
}


def test_the_first_generation_names_suppliers_and_a_price_per_gpu() -> None:
    provider, _ = _older("marketplace-v1", {"/": {"instances": [NODE]}})
    (offer,) = provider.offers(GpuRequest(supplier="acme"))
    assert (offer.gpus, offer.price_usd_per_hour) == (2, Decimal("1.98"))
    with pytest.raises(ConfigError, match="no supplier `other`"):
        provider.offers(GpuRequest(supplier="other"))


def test_the_first_generation_says_how_to_log_in_with_a_command() -> None:
    row = {
        "id": "i-1",
        "created": "2025-05-01T00:00:00Z",
        "sshCommand": "ssh ubuntu@gpu.example.com -p 31022",
        "instance": {
            "status": "node_ready",
            "gpu_count": 2,
            "pricing": {"price": {"amount": 99.5}},
        },
    }
    provider, sent = _older(
        "marketplace-v1", {"/instances": {"instances": [row]}, "/instances/terminate": {}}
    )
    instance = provider.get("i-1")
    assert (instance.ssh_user, instance.ip, instance.ssh_port) == (
        "ubuntu",
        "gpu.example.com",
        31022,
    )
    assert instance.status is InstanceStatus.ACTIVE
    assert instance.price_usd_per_hour == Decimal("1.99")
    provider.terminate("i-1")
    assert sent[-1] == 'POST /instances/terminate {"id": "i-1"}'


def test_the_second_generation_is_read_and_ended_by_number() -> None:
    row = {
        "id": 5,
        "status": "provisioning",
        "costPerHour": 250,
        "createdAt": "2025-07-01T00:00:00Z",
        "meta": {"name": "x", "public_ip": "198.51.100.9", "ssh_command": "ssh -p 2222 me@h"},
    }
    provider, sent = _older(
        "marketplace-v2",
        {
            "/virtual-machine-rentals": [row],
            "/virtual-machine-rentals/terminate": {},
            "/virtual-machine-options": [{"gpuCount": 1, "costPerHour": 250}],
        },
    )
    (instance,) = provider.list()
    assert (instance.ip, instance.ssh_user, instance.ssh_port) == ("h", "me", 2222)
    assert instance.status is InstanceStatus.PENDING
    provider.terminate("5")
    assert sent[-1].endswith('{"rentalId": 5}')
    assert provider.offers(GpuRequest())[0].price_usd_per_hour == Decimal("2.5")
    with pytest.raises(ConfigError, match="names no supplier"):
        provider.offers(GpuRequest(supplier="acme"))


@pytest.mark.parametrize("command", ["ssh -oProxyCommand=reboot@x host", "'", "", "ssh host"])
def test_a_login_command_that_is_none_is_left_alone(command: str) -> None:
    row = {"id": 5, "status": "running", "meta": {"public_ip": "1.2.3.4", "ssh_command": command}}
    provider, _ = _older("marketplace-v2", {"/virtual-machine-rentals": [row]})
    assert provider.list()[0].ip == "1.2.3.4"


def test_nothing_is_rented_through_an_older_generation(hyperbolic_world: World) -> None:
    provider, sent = _older("marketplace-v1", {})
    offer = hyperbolic_world.session().provider.offers(GpuRequest())[0]
    from aquachat.cloud.base import LaunchSpec

    spec = LaunchSpec(offer, "us-east-1", "aquachat-x")
    for ask in (provider.prepare, provider.create):
        with pytest.raises(RefusedError, match="cannot be marked as ours"):
            ask(spec)
    assert sent == []


def test_an_unknown_generation_or_provider_is_named() -> None:
    environ = {"HYPERBOLIC_API_KEY": KEY, "AQUACHAT_HYPERBOLIC_API": "v9"}
    with pytest.raises(ConfigError, match="`v9`"):
        open_provider("hyperbolic", surroundings(environ, FakeClock()))
    with pytest.raises(ConfigError, match="no provider `aws`"):
        open_provider("aws", surroundings({}, FakeClock()))
    assert with_keys(environ) == ["hyperbolic"]
    assert with_keys({"LAMBDA_API_KEY": KEY, "HYPERBOLIC_API_TOKEN": " "}) == ["lambda"]


def test_what_a_provider_says_cannot_draw_on_a_terminal(
    hyperbolic_world: World, cloud: FakeHyperbolic
) -> None:
    cloud.status_of_next.append("\x1b[2J" + "x" * 500)
    machine = launch(hyperbolic_world.session(), hyperbolic_world.plan())
    found = hyperbolic_world.session().provider.get(machine.instance_id)
    assert found.raw_status.isprintable()
    assert len(found.raw_status) <= 100
    assert found.status is InstanceStatus.UNKNOWN
