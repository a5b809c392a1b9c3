"""A launch makes one machine, or none; in the order that was asked for, at the price allowed."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aquachat.cloud.base import GpuRequest, Instance
from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.errors import (
    BootError,
    CloudError,
    LedgerError,
    LeftRunningError,
    NoCapacityError,
    NotSentError,
    RefusedError,
)
from aquachat.cloud.jobs import OrderState
from aquachat.cloud.launching import launch
from aquachat.cloud.ledger import Event, Ledger, Record
from aquachat.cloud.limits import Limits
from aquachat.cloud.wire import NotSentWireError, WireAnswer, WireRequest, exchange
from aquachat.errors import ConfigError, DataError
from tests.cloud.fake_cloud import Fault
from tests.cloud.fake_lambda import FakeLambda
from tests.cloud.world import World


def _orders(world: World) -> list[dict[str, Any]]:
    return [json.loads(e.request) for e in world.cloud.exchanges if e.route == "launch"]


def test_a_launch_makes_one_machine_and_its_end_is_confirmed(world: World) -> None:
    session = world.session()
    plan = world.plan()
    ready = launch_ready(session, plan)
    assert ready.instance.ip
    assert ready.num_rerolls == 0
    assert len(world.cloud.running()) == 1
    (ended,) = end_live(session, plan.job, reason="training ended")
    assert world.cloud.running() == []
    billed = Decimal(str(world.cloud.billed_cents())) / 100
    assert ended.cost_usd is not None
    assert billed <= ended.cost_usd <= billed + Decimal("0.05")


def test_the_intent_is_synced_before_the_request_goes_out(world: World) -> None:
    synced: list[str] = []
    when_ordered: list[str] = []

    def fsync(handle: int) -> None:
        os.fsync(handle)
        synced[:] = [world.ledger_path.read_text()]

    def transport(request: WireRequest) -> WireAnswer:
        if request.method == "POST":
            when_ordered.append(synced[0] if synced else "")
        return exchange(request)

    session = world.session(ledger=world.ledger(fsync), transport=transport)
    plan = world.plan()
    launch(session, plan)
    assert '"event": "intent"' in when_ordered[0]
    assert plan.job in when_ordered[0]
    assert '"event": "created"' in synced[0]


def test_the_ledger_tells_the_whole_story(world: World) -> None:
    session = world.session()
    plan = world.plan()
    launch_ready(session, plan)
    end_live(session, plan.job, reason="training ended")
    events = [str(record.event) for record in session.ledger.read().records]
    assert events == ["intent", "created", "status", "status", "terminating", "terminated"]
    assert session.job(plan.job).live == []


def test_a_stale_list_is_no_proof_that_a_machine_is_gone(world: World) -> None:
    session = world.session()
    plan = world.plan()
    launch_ready(session, plan)
    world.cloud.num_stale_lists = 3
    world.cloud.num_ignored_terminates = 1
    (ended,) = end_live(session, plan.job, reason="training ended")
    assert world.cloud.running() == []
    assert ended.confirmed_by in ("terminating", "terminated")


def test_a_machine_that_vanished_counts_as_gone_after_a_minute(world: World) -> None:
    session = world.session()
    plan = world.plan()
    machine = launch_ready(session, plan).machine
    world.cloud.machines.pop(machine.instance_id)
    start_s = world.clock.time()
    (ended,) = end_live(session, plan.job, reason="training ended")
    assert ended.confirmed_by == "absent"
    assert 60.0 <= world.clock.time() - start_s <= 90.0


def test_a_list_that_fails_is_no_proof_that_a_machine_is_gone(lambda_world: World) -> None:
    session = lambda_world.session()
    plan = lambda_world.plan()
    machine = launch_ready(session, plan).machine
    lambda_world.cloud.machines.pop(machine.instance_id)
    lambda_world.cloud.inject("list", *[Fault.SERVER_ERROR] * 500)
    with pytest.raises(LeftRunningError):
        end_live(session, plan.job, reason="training ended")


def test_without_a_ledger_nothing_is_ordered(world: World) -> None:
    world.ledger_path.parent.mkdir(parents=True)
    world.ledger_path.mkdir()
    with pytest.raises(DataError, match="cannot"):
        launch(world.session(), world.plan())
    world.ledger_path.rmdir()
    assert world.cloud.num_made == 0


class FullAfterIntent(Ledger):
    """A disk that fills up right after the intent."""

    def _write(self, line: bytes) -> None:
        if b'"intent"' not in line:
            raise DataError(f"cannot write `{self.path}`: {os.strerror(errno.ENOSPC)}", hint="x")
        super()._write(line)


def test_a_machine_that_cannot_be_written_down_is_ended(world: World) -> None:
    ledger = FullAfterIntent(world.ledger_path, world.clock)
    with pytest.raises(LedgerError, match="was ended again"):
        launch(world.session(ledger=ledger), world.plan())
    assert world.cloud.num_made == 1
    assert world.cloud.running() == []


def test_types_and_regions_are_tried_in_the_order_that_was_asked_for(lambda_world: World) -> None:
    lambda_world.cloud.num_refused_orders = 3
    types = ("gpu_1x_h100_sxm5", "gpu_1x_a10")
    regions = ("us-west-1", "us-east-1")
    want = GpuRequest(instance_types=types, regions=regions)
    launch(lambda_world.session(), lambda_world.plan(want=want))
    tried = [(o["instance_type_name"], o["region_name"]) for o in _orders(lambda_world)]
    assert tried == [(kind, region) for kind in types for region in regions]


def test_the_cheapest_is_taken_where_no_order_was_asked_for(world: World) -> None:
    machine = launch(world.session(), world.plan(want=GpuRequest(count=1)))
    cheapest = {"lambda": "gpu_1x_a10", "hyperbolic": "h100-x1"}
    assert machine.instance_type == cheapest[world.kind]


def test_a_pinned_region_is_tried_even_where_the_list_says_no(lambda_world: World) -> None:
    cloud = lambda_world.cloud
    assert isinstance(cloud, FakeLambda)
    cloud.listed_regions["gpu_1x_h100_sxm5"] = ()
    want = GpuRequest(gpus=("h100",), count=1, regions=("us-west-1",))
    machine = launch(lambda_world.session(), lambda_world.plan(want=want))
    assert machine.region == "us-west-1"


def test_no_capacity_is_said_with_exit_code_75(world: World) -> None:
    world.cloud.full_regions = {"us-west-1", "us-east-1", "ca-east-1"}
    session = world.session()
    plan = world.plan(want=GpuRequest(gpus=("h100",), regions=("us-east-1",)))
    with pytest.raises(NoCapacityError) as caught:
        launch(session, plan)
    assert caught.value.exit_code == 75
    orders = session.job(plan.job).orders.values()
    assert orders, "a pinned region is tried"
    assert {order.state for order in orders} == {OrderState.REFUSED}
    assert "--wait-for-capacity" in str(caught.value.hint)


def test_waiting_for_capacity_orders_within_a_poll_of_its_return(world: World) -> None:
    world.cloud.full_regions = {"us-west-1", "us-east-1", "ca-east-1"}
    freed_s = world.clock.time() + 1800.0
    session = world.session()
    real = world.clock.sleep

    def sleep(seconds: float) -> None:
        real(seconds)
        if world.clock.time() >= freed_s:
            world.cloud.full_regions = set()

    world.clock.sleep = sleep  # type: ignore[method-assign]
    machine = launch(session, world.plan(wait_for_capacity_s=7200.0))
    assert freed_s <= machine.ordered_at_s <= freed_s + 65.0


def test_waiting_for_capacity_survives_a_provider_that_is_down_for_a_while(world: World) -> None:
    world.cloud.inject("offers", *[Fault.SERVER_ERROR] * 14)
    launch(world.session(), world.plan(wait_for_capacity_s=3600.0))
    assert len(world.cloud.running()) == 1


def test_waiting_for_capacity_ends(world: World) -> None:
    world.cloud.full_regions = {"us-west-1", "us-east-1", "ca-east-1"}
    session = world.session()
    start_s = world.clock.time()
    with pytest.raises(NoCapacityError):
        launch(session, world.plan(wait_for_capacity_s=600.0))
    assert 600.0 <= world.clock.time() - start_s <= 620.0


def test_nothing_above_the_highest_price_is_ordered(world: World) -> None:
    want = GpuRequest(gpus=("h100",), count=1, max_price_usd_per_hour=Decimal("1.00"))
    with pytest.raises(NoCapacityError, match=r"costs at most \$1.00") as caught:
        launch(world.session(), world.plan(want=want))
    cheapest = {"lambda": "3.29", "hyperbolic": "2.75"}[world.kind]
    assert f"--max-price {cheapest}" in str(caught.value.hint)
    assert _orders(world) == []


def test_a_machine_dearer_than_its_offer_is_ended(hyperbolic_world: World) -> None:
    want = GpuRequest(gpus=("h100",), count=1, max_price_usd_per_hour=Decimal("2.80"))
    session = hyperbolic_world.session()
    real = session.provider.create

    def create(spec: Any) -> Instance:
        made = real(spec)
        hyperbolic_world.cloud.machines[made.id].price_cents = 400
        return made

    session.provider.create = create  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=r"costs \$4.00 an hour"):
        launch_ready(session, hyperbolic_world.plan(want=want))
    assert hyperbolic_world.cloud.running() == []


def test_being_too_fast_costs_time_and_no_second_machine(world: World) -> None:
    world.cloud.inject("launch", Fault.RATE_LIMIT, Fault.RATE_LIMIT_HTML, Fault.RATE_LIMIT)
    launch(world.session(), world.plan())
    assert world.cloud.num_made == 1
    assert len(_orders(world)) == 4


def test_being_too_fast_for_ever_ends_with_a_sentence(world: World) -> None:
    world.cloud.inject("launch", *[Fault.RATE_LIMIT] * 50)
    with pytest.raises(CloudError, match="429"):
        launch(world.session(), world.plan())
    assert len(_orders(world)) <= 8


def test_an_order_that_fails_unclearly_again_and_again_is_given_up(world: World) -> None:
    world.cloud.inject("launch", *[Fault.SERVER_ERROR] * 50)
    plan = world.plan()
    session = world.session()
    with pytest.raises(CloudError, match="3 orders got no clear answer"):
        launch(session, plan)
    states = [order.state for order in session.job(plan.job).orders.values()]
    assert states == [OrderState.UNKNOWN] * 3
    assert world.cloud.num_made == 0


def test_no_second_order_goes_out_where_the_list_cannot_be_read(world: World) -> None:
    world.cloud.inject("launch", Fault.DROP_AFTER)
    world.cloud.inject("list", *[Fault.SERVER_ERROR] * 500)
    with pytest.raises(LeftRunningError, match="is not known"):
        launch(world.session(), world.plan())
    assert len(_orders(world)) == 1
    assert len(world.cloud.running()) == 1


def test_of_several_machines_of_one_order_one_is_kept(world: World) -> None:
    world.cloud.num_per_order = 3
    machine = launch(world.session(), world.plan())
    assert [m.id for m in world.cloud.running()] == [machine.instance_id]
    assert world.cloud.num_made == 3


def test_nothing_is_looked_for_where_no_request_left(world: World) -> None:
    def transport(request: WireRequest) -> WireAnswer:
        if request.method == "POST":
            raise NotSentWireError("connection refused")
        return exchange(request)

    start_s = world.clock.time()
    with pytest.raises(NotSentError):
        launch(world.session(transport=transport), world.plan())
    assert world.clock.time() - start_s < 60.0
    assert [e.route for e in world.cloud.exchanges] == ["offers", "check"]


def test_a_bad_machine_is_ended_and_another_ordered_on_the_same_bill(world: World) -> None:
    session = world.session()
    plan = world.plan()
    seen: list[str] = []

    def probe(instance: Instance) -> bool:
        seen.append(instance.id)
        if len(set(seen)) < 3:
            raise BootError(f"the GPU of `{instance.id}` cannot be used", hint="try another")
        return True

    ready = launch_ready(session, plan, probe=probe)
    assert ready.num_rerolls == 2
    assert [m.id for m in world.cloud.running()] == [ready.machine.instance_id]
    assert world.cloud.doubled_s() == 0.0
    cost = session.job(plan.job).cost_usd(world.clock.time())
    assert cost is not None
    assert cost >= Decimal(str(world.cloud.billed_cents())) / 100


def test_bad_machines_are_given_up_after_some(world: World) -> None:
    def probe(instance: Instance) -> bool:
        raise BootError(f"the GPU of `{instance.id}` cannot be used", hint="try another")

    with pytest.raises(BootError):
        launch_ready(world.session(), world.plan(), probe=probe, max_rerolls=1)
    assert world.cloud.num_made == 2
    assert world.cloud.running() == []


@pytest.mark.parametrize("word", ["unhealthy", "preempted", "terminated"])
def test_a_machine_that_cannot_become_ready_is_ended_soon(lambda_world: World, word: str) -> None:
    lambda_world.cloud.status_of_next.extend([word])
    ready = launch_ready(lambda_world.session(), lambda_world.plan())
    assert ready.num_rerolls == 1
    first = next(m for m in lambda_world.cloud.machines.values() if m.is_ours)
    assert first.ended_s is not None
    assert first.ended_s - first.created_s <= 180.0


def test_a_machine_is_not_waited_for_beyond_the_limits(world: World) -> None:
    world.cloud.is_never_active = True
    start_s = world.clock.time()
    with pytest.raises(RefusedError, match="may run"):
        launch_ready(world.session(), world.plan(limits=Limits(0.1)))
    assert world.clock.time() - start_s <= 0.1 * 3600 + 60
    assert world.cloud.running() == []


def test_a_person_who_lost_the_key_is_told_that_a_machine_is_left(world: World) -> None:
    session = world.session()
    plan = world.plan()
    launch_ready(session, plan)
    world.cloud.accepted_key = "another"
    start_s = world.clock.time()
    with pytest.raises(LeftRunningError) as caught:
        end_live(session, plan.job, reason="done")
    assert world.clock.time() - start_s < 30.0, "an expired key does not come back"
    assert "does not accept the key" in caught.value.message
    world.cloud.heal()


def test_limits_hold_over_all_machines_of_a_job(world: World) -> None:
    session = world.session()
    plan = world.plan(limits=Limits(4.0, Decimal("3.00")))
    launch_ready(session, plan)
    world.clock.sleep(2000.0)
    end_live(session, plan.job, reason="bad")
    launch(session, plan)
    job = session.job(plan.job)
    (machine,) = job.live
    end_s = job.deadline_s(machine)
    assert job.cost_usd(end_s) == pytest.approx(Decimal("3.00"), abs=Decimal("0.02"))
    assert machine.name.endswith(f"-{int((end_s - machine.ordered_at_s) // 60)}m")


def test_an_order_without_a_price_is_refused_under_a_cost_limit(hyperbolic_world: World) -> None:
    session = hyperbolic_world.session()
    offers = session.provider.offers

    def without_price(want: GpuRequest) -> Any:
        return [replace(offer, price_usd_per_hour=None) for offer in offers(want)]

    session.provider.offers = without_price  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="price of the machine is not known"):
        launch(session, hyperbolic_world.plan(limits=Limits(4.0, Decimal(5))))
    assert _orders(hyperbolic_world) == []


def test_a_machine_of_an_earlier_job_is_not_taken_for_ours(world: World, tmp_path: Path) -> None:
    first = launch(world.session(), world.plan())
    world.cloud.inject("launch", Fault.DROP_AFTER)
    second = launch(world.session(), world.plan())
    assert second.instance_id != first.instance_id
    assert len(world.cloud.running()) == 2


def test_a_status_command_during_an_unclear_order_causes_no_second_order(world: World) -> None:
    """Another process adopts the machine first; the launcher must still see that it is there."""
    world.cloud.inject("launch", Fault.DROP_AFTER)
    session = world.session()
    plan = world.plan()
    real = session.provider.list

    def adopt_first() -> Any:
        listed = real()
        for instance in listed:
            if instance.stamp is not None:
                session.adopt(instance, plan.job)
        return listed

    session.provider.list = adopt_first  # type: ignore[method-assign]
    machine = launch(session, plan)
    assert [m.id for m in world.cloud.running()] == [machine.instance_id]
    assert len(_orders(world)) == 1


def test_an_event_that_was_written_by_hand_does_not_stop_a_launch(world: World) -> None:
    session = world.session()
    session.ledger.append(Record(Event.INTENT, "x", world.kind, details={"max_hours": "many"}))
    launch(session, world.plan())
    assert len(world.cloud.running()) == 1
