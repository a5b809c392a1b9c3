"""Whatever fails, and whenever the launcher dies: nothing is left, and nothing is made twice."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.errors import CloudError
from aquachat.cloud.session import in_charge
from aquachat.cloud.survey import reap
from aquachat.errors import AquachatError
from tests.cloud.fake_cloud import Fault
from tests.cloud.mortality import Interruption, Killed, Life, MortalLedger
from tests.cloud.world import PROVIDERS, World, world_of

FAST = [fault for fault in Fault if fault not in (Fault.HANG_AFTER, Fault.TRICKLE_AFTER)]


def _live(world: World, rng: random.Random) -> None:
    at = rng.randrange(1, 120)
    life = rng.choice([Life(), Life(at), Interruption(at, KeyboardInterrupt())])
    ledger = MortalLedger(world.ledger_path, world.clock, fsync=lambda handle: None)
    ledger.life = life
    session = world.session(transport=life.transport, ledger=ledger)
    plan = world.plan(wait_for_capacity_s=rng.choice([0.0, 300.0]))
    with suppress(AquachatError, Killed, KeyboardInterrupt), in_charge(session, plan.job):
        launch_ready(session, plan, boot_s=200.0)
        end_live(session, plan.job, reason="training ended")


def _check(kind: str, seed: int, home: Path) -> None:
    rng = random.Random(seed)
    with world_of(kind, home, seed) as world:
        cloud = world.cloud
        rate = rng.choice([0.05, 0.2, 0.5])
        cloud.chaos = lambda: rng.choice(FAST) if rng.random() < rate else None
        cloud.boot_s = rng.uniform(0, 60)
        cloud.slow_create_s = rng.choice([0.0, 0.0, rng.uniform(0, 45)])
        cloud.num_stale_lists = rng.choice([0, 0, 3])
        cloud.num_refused_orders = rng.randrange(3)
        cloud.num_ignored_terminates = rng.choice([0, 0, 2])
        _live(world, rng)
        for _ in range(2):  # `reap` in the middle of the trouble, then after it
            with suppress(CloudError):
                reap(world.session())
            cloud.heal()
        assert cloud.running() == [], seed
        assert reap(world.session()).survey.rows == (), seed
        assert cloud.doubled_s() == 0.0, seed


@pytest.mark.parametrize("kind", PROVIDERS)
def test_nothing_is_left_after_chaos(kind: str, tmp_path: Path) -> None:
    for seed in range(12):
        _check(kind, seed, tmp_path / str(seed))


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("kind", PROVIDERS)
def test_nothing_is_left_after_much_chaos(kind: str, part: int, tmp_path: Path) -> None:
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        _check(kind, seed, tmp_path / str(seed))
