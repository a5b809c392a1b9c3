"""Over every fault at every kind of request nothing is leaked and nothing doubled.

One scenario is: rent, wait until usable, end. A fault strikes on the way. Whatever comes of it, a
machine that still runs afterwards was announced by an error and is found and ended by `reap`, and
the meter of the fake never saw two machines at a time unless the provider itself made two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.errors import LeftRunningError
from aquachat.cloud.survey import reap
from aquachat.errors import AquachatError
from tests.cloud.fake_cloud import FakeCloud, Fault
from tests.cloud.world import World

ROUTES = ("offers", "check", "launch", "list", "terminate")
FOR_EVER = 1000


@dataclass(frozen=True)
class Scenario:
    name: str
    break_it: Callable[[FakeCloud], None]
    makes_two: bool = False
    """The provider itself makes more than one machine of one order."""
    is_slow: bool = False
    """The client must run into a real time-out."""


def _at(route: str, fault: Fault, times: int = 1) -> Scenario:
    name = f"{route}: {fault.value} x{times}" if times < FOR_EVER else f"{route}: {fault.value}"
    slow = fault in (Fault.HANG_AFTER, Fault.TRICKLE_AFTER)
    return Scenario(name, lambda cloud: cloud.inject(route, *[fault] * times), is_slow=slow)


def _set(name: str, makes_two: bool = False, **knobs: object) -> Scenario:
    def break_it(cloud: FakeCloud) -> None:
        for knob, value in knobs.items():
            assert hasattr(cloud, knob)
            setattr(cloud, knob, value)

    return Scenario(name, break_it, makes_two)


def _statuses(*words: str) -> Scenario:
    return Scenario(f"status {', '.join(words)}", lambda cloud: cloud.status_of_next.extend(words))


def _slow_and_lost(seconds: float) -> Scenario:
    def break_it(cloud: FakeCloud) -> None:
        cloud.slow_create_s = seconds
        cloud.inject("launch", Fault.DROP_AFTER)

    # an order that takes effect after the minute of looking is the one case with two machines
    return Scenario(f"made {seconds:.0f} s after a lost answer", break_it, seconds > 60)


SCENARIOS = [
    *(_at(route, fault) for route in ROUTES for fault in Fault),
    *(_at(route, Fault.SERVER_ERROR, FOR_EVER) for route in ROUTES),
    *(_at(route, Fault.EXPIRED, FOR_EVER) for route in ROUTES),
    _slow_and_lost(20),
    _slow_and_lost(50),
    _slow_and_lost(90),
    _set("two machines of one order", makes_two=True, num_per_order=2),
    _set("listed but refused", num_refused_orders=1),
    _set("a full region", full_regions={"us-east-1"}),
    _set("full everywhere", full_regions={"us-east-1", "us-west-1", "ca-east-1"}),
    _set("stale lists", num_stale_lists=5),
    _set("200 to terminate, still active", num_ignored_terminates=3),
    _set("terminate is never obeyed", num_ignored_terminates=FOR_EVER),
    _set("the address is late", ip_late_s=60.0),
    _set("never active", is_never_active=True),
    _set("unknown fields", has_unknown_fields=True),
    _statuses("unhealthy"),
    _statuses("unhealthy", "unhealthy", "unhealthy"),
    _statuses("preempted"),
    _statuses("Failed"),
    _statuses("hibernating"),
]


MORE_SCENARIOS = [
    _at(route, fault, times) for route in ROUTES for fault in Fault for times in (2, 3, 7)
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_is_leaked_or_doubled(world: World, scenario: Scenario) -> None:
    _check(world, scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", MORE_SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_is_leaked_or_doubled_by_repeated_faults(world: World, scenario: Scenario) -> None:
    _check(world, scenario)


def _check(world: World, scenario: Scenario) -> None:
    cloud = world.cloud
    timeout_s = 0.15 if scenario.is_slow else 10.0
    session = world.session(read_timeout_s=timeout_s, write_timeout_s=timeout_s)
    plan = world.plan()
    scenario.break_it(cloud)
    problem: AquachatError | None = None
    try:
        launch_ready(session, plan, boot_s=330.0)
        assert len(cloud.running()) == 1
        end_live(session, plan.job, reason="training ended")
    except AquachatError as error:
        problem = error
    if problem is None:
        assert cloud.running() == []
    else:
        assert problem.hint
    if cloud.running():
        assert isinstance(problem, LeftRunningError)
        assert "aquachat launch" in str(problem.hint)

    cloud.heal()
    left = reap(world.session())
    assert left.failures == ()
    assert cloud.running() == []
    assert left.survey.rows == ()
    if not scenario.makes_two:
        assert cloud.doubled_s() == 0.0


def test_there_are_at_least_forty_fault_points() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) >= 40
