"""A job costs what the meter says, and never more than one poll above what it may."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import terminate_and_confirm
from aquachat.cloud.limits import Limits, Use
from aquachat.cloud.session import change_limits
from aquachat.cloud.watching import watch
from aquachat.errors import ConfigError
from tests.cloud.fake_cloud import Fault
from tests.cloud.world import PROVIDERS, World, world_of

PRICES = st.decimals(Decimal("0.01"), Decimal("50"), places=2)


@given(PRICES, st.floats(0.01, 100), st.floats(0, 1e6), st.none() | PRICES)
def test_at_the_deadline_no_limit_is_exceeded(
    price: Decimal, hours: float, start_s: float, cost: Decimal | None
) -> None:
    limits = Limits(hours, cost)
    use = Use(start_s, price)
    deadline_s = limits.deadline_s([use])
    assert use.hours(deadline_s) <= hours + 1e-6
    if cost is not None:
        assert use.hours(deadline_s) * float(price) <= float(cost) + 1e-6
    assert limits.reason([use], deadline_s - 1.0) is None
    assert limits.reason([use], deadline_s + 1e-3) is not None
    now_s = start_s
    while limits.reason([use], now_s) is None:
        wait_s = limits.poll_s([use], now_s, 3600.0)
        assert 0 < wait_s <= 3600.0
        now_s = max(now_s + wait_s, now_s + 1e-3)
    assert now_s <= deadline_s + 0.01


def test_machines_that_were_ended_count_too() -> None:
    limits = Limits(max_hours=10, max_cost_usd=Decimal(10))
    first = Use(0.0, Decimal(4), ended_at_s=3600.0)
    assert limits.deadline_s([first, Use(7200.0, Decimal(2))]) == 7200.0 + 3 * 3600.0
    assert Limits(max_hours=3).deadline_s([first, Use(7200.0, Decimal(2))]) == 7200.0 + 2 * 3600.0


def test_cost_is_rounded_up_to_a_cent() -> None:
    assert Use(0.0, Decimal("3.29")).cost_usd(1.0) == Decimal("0.01")
    assert Use(0.0, Decimal("3.29")).cost_usd(3600.0) == Decimal("3.29")
    assert Use(0.0, None).cost_usd(3600.0) is None


@pytest.mark.parametrize("hours", [0, -1, float("inf"), float("nan"), 1e9])
def test_hours_that_are_no_limit_are_refused(hours: float) -> None:
    with pytest.raises(ConfigError, match="--max-hours"):
        Limits(hours)


@pytest.mark.parametrize("cost", ["0", "-1", "NaN", "Infinity"])
def test_a_cost_that_is_no_limit_is_refused(cost: str) -> None:
    with pytest.raises(ConfigError, match="--max-cost"):
        Limits(1.0, Decimal(cost))


def test_a_cost_limit_without_a_price_is_refused_and_not_ignored() -> None:
    with pytest.raises(ConfigError, match="price of the machine is not known"):
        Limits(4.0, Decimal(10)).max_minutes(None)


def test_limits_that_leave_no_time_are_refused() -> None:
    with pytest.raises(ConfigError, match="less than a minute"):
        Limits(4.0, Decimal("0.01")).max_minutes(Decimal(20))


def test_the_budget_is_the_lower_of_hours_and_cost() -> None:
    assert Limits(4.0).budget_usd(Decimal("2.50")) == Decimal("10.00")
    assert Limits(4.0, Decimal(3)).budget_usd(Decimal("2.50")) == Decimal(3)


@pytest.mark.parametrize("kind", PROVIDERS)
@pytest.mark.parametrize("limits", [Limits(1.5), Limits(4.0, Decimal("2.00"))], ids=str)
@pytest.mark.parametrize("fault", [None, Fault.SERVER_ERROR, Fault.DROP])
def test_the_overshoot_is_at_most_one_poll(
    kind: str, limits: Limits, fault: Fault | None, tmp_path: Path
) -> None:
    poll_s = 600.0
    with world_of(kind, tmp_path) as world:
        session = world.session()
        plan = world.plan(limits=limits)
        machine = launch_ready(session, plan).machine
        route = "get" if kind == "lambda" else "list"
        if fault is not None:
            world.cloud.inject(route, *[fault] * 20)
        verdict = watch(session, machine, poll_s=poll_s)
        assert verdict.kind == "limit"
        world.cloud.heal()
        terminate_and_confirm(session, machine, reason=verdict.reason)
        price_cents = next(m.price_cents for m in world.cloud.machines.values() if m.is_ours)
        most_cents = limits.max_hours * price_cents
        if limits.max_cost_usd is not None:
            most_cents = min(most_cents, float(limits.max_cost_usd) * 100)
        billed = world.cloud.billed_cents()
        assert most_cents * 0.98 <= billed <= most_cents + price_cents * poll_s / 3600


def test_the_watcher_ends_when_the_work_does(world: World) -> None:
    session = world.session()
    plan = world.plan()
    machine = launch_ready(session, plan).machine
    polls = iter([False, False, True])
    assert watch(session, machine, is_done=lambda seconds: next(polls)).kind == "done"


def test_the_watcher_sees_a_machine_that_the_provider_took_away(world: World) -> None:
    session = world.session()
    plan = world.plan()
    machine = launch_ready(session, plan).machine
    word = "preempted" if world.kind == "lambda" else "Failed"
    world.cloud.machines[machine.instance_id].forced_status = word
    verdict = watch(session, machine)
    assert verdict.kind == "gone"
    assert word in verdict.reason


def test_a_machine_that_is_not_listed_is_taken_to_be_running(world: World) -> None:
    session = world.session()
    plan = world.plan(limits=Limits(0.5))
    machine = launch_ready(session, plan).machine
    world.cloud.machines.pop(machine.instance_id)
    assert watch(session, machine).kind == "limit"
    assert world.clock.time() - machine.ordered_at_s >= 1800
    assert any("taken to be running" in line for line in world.said)


def test_changed_limits_are_read_at_the_next_poll(world: World) -> None:
    session = world.session()
    plan = world.plan(limits=Limits(100.0))
    machine = launch_ready(session, plan).machine
    num_polls = 0

    def change_at_the_third_poll(seconds: float) -> bool:
        nonlocal num_polls
        num_polls += 1
        if num_polls == 3:
            change_limits(session, plan.job, Limits(0.5))
        return num_polls > 500

    assert watch(session, machine, is_done=change_at_the_third_poll).kind == "limit"
    assert world.clock.time() - machine.ordered_at_s <= 0.5 * 3600 + 30
