"""A launch makes one machine, or none."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from aquachat.cloud.base import GpuRequest
from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.errors import NoCapacityError
from aquachat.cloud.launching import launch
from aquachat.cloud.limits import Limits
from tests.cloud.world import World


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
