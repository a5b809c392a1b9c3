"""An order whose answer is lost makes exactly one machine, whatever the timing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.launching import launch
from tests.cloud.fake_cloud import Fault
from tests.cloud.world import PROVIDERS, world_of

NUM_RUNS = 200
LOST = (Fault.DROP_AFTER, Fault.ERROR_AFTER, Fault.GARBAGE_AFTER, Fault.CUT_AFTER)


@pytest.mark.parametrize("kind", PROVIDERS)
@pytest.mark.parametrize("part", range(4))
def test_two_hundred_lost_answers_make_one_machine_each(
    kind: str, part: int, tmp_path: Path
) -> None:
    share = NUM_RUNS // 8
    offset = PROVIDERS.index(kind) * NUM_RUNS // 2
    for seed in range(offset + part * share, offset + (part + 1) * share):
        rng = random.Random(seed)
        with world_of(kind, tmp_path / str(seed), seed) as world:
            cloud = world.cloud
            is_time_out = rng.random() < 0.25
            cloud.boot_s = rng.uniform(0, 30)
            cloud.slow_create_s = rng.uniform(0, 45) if rng.random() < 0.5 else 0.0
            cloud.num_stale_lists = rng.randrange(4)
            for route in ("list", "offers"):
                chosen = rng.choice([Fault.SERVER_ERROR, Fault.DROP, Fault.RATE_LIMIT_HTML])
                cloud.inject(route, *[chosen] * rng.randrange(3))
            cloud.inject("launch", *[Fault.RATE_LIMIT] * rng.randrange(3))
            cloud.inject("launch", Fault.HANG_AFTER if is_time_out else rng.choice(LOST))
            session = world.session(write_timeout_s=0.05 if is_time_out else 10.0)
            plan = world.plan()
            machine = launch(session, plan)
            world.clock.sleep(60.0)
            assert [m.id for m in cloud.running()] == [machine.instance_id], seed
            assert cloud.num_made == 1, seed
            cloud.slow_create_s = 0.0
            end_live(world.session(), plan.job, reason="done")
            assert cloud.running() == []


@pytest.mark.parametrize("kind", PROVIDERS)
def test_an_order_that_takes_effect_after_a_minute_is_ended_when_it_appears(
    kind: str, tmp_path: Path
) -> None:
    with world_of(kind, tmp_path) as world:
        world.cloud.slow_create_s = 150.0
        world.cloud.inject("launch", Fault.DROP_AFTER)
        world.cloud.boot_s = 200.0
        session = world.session()
        plan = world.plan()
        world.said.append("first order is lost")
        ready = launch_ready(session, plan)
        assert [m.id for m in world.cloud.running()] == [ready.machine.instance_id]
        assert world.cloud.num_made == 2
