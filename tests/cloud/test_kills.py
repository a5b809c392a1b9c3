"""A launcher that is killed at any moment leaves nothing that `status` and `reap` do not find."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.session import in_charge
from aquachat.cloud.survey import reap, survey
from aquachat.cloud.wire import WireAnswer, WireRequest
from aquachat.errors import Interrupted
from tests.cloud.fake_cloud import Fault
from tests.cloud.mortality import Interruption, Killed, Life, MortalLedger
from tests.cloud.world import PROVIDERS, World, world_of

ROOT = Path(__file__).parents[2]


def _live_and_die(world: World, life: Life) -> None:
    ledger = MortalLedger(world.ledger_path, world.clock, fsync=lambda handle: None)
    ledger.life = life
    session = world.session(transport=life.transport, ledger=ledger)
    plan = world.plan()
    with in_charge(session, plan.job):
        launch_ready(session, plan)
        end_live(session, plan.job, reason="training ended")


def _check_that_nothing_is_left(world: World) -> None:
    running = {machine.id for machine in world.cloud.running()}
    session = world.session()
    seen = survey(session)
    assert {row.machine.instance_id for row in seen.rows} >= running
    billed = Decimal(str(world.cloud.billed_cents())) / 100
    done = reap(world.session())
    assert world.cloud.running() == []
    assert done.failures == ()
    assert done.survey.rows == ()
    reported = sum((ended.cost_usd or Decimal(0) for ended in done.ended), Decimal(0))
    if running:
        assert reported >= billed, "the cost until then is reported"


@pytest.mark.parametrize(
    "fault", [None, pytest.param(Fault.ERROR_AFTER, marks=pytest.mark.long)], ids=str
)
@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_death_at_any_step_is_cleaned_up(kind: str, fault: Fault | None, tmp_path: Path) -> None:
    life = Life()
    with world_of(kind, tmp_path / "alive") as world:
        world.cloud.boot_s = 25.0
        world.cloud.inject("launch", *([fault] if fault else []))
        _live_and_die(world, life)
        assert world.cloud.running() == []
    assert life.num_steps >= 30
    for dies_at in range(1, life.num_steps + 1):
        with world_of(kind, tmp_path / str(dies_at)) as world:
            world.cloud.boot_s = 25.0
            world.cloud.inject("launch", *([fault] if fault else []))
            with pytest.raises(Killed):
                _live_and_die(world, Life(dies_at))
            world.cloud.heal()
            _check_that_nothing_is_left(world)
            assert world.cloud.doubled_s() == 0.0


@pytest.mark.parametrize("kind", PROVIDERS)
def test_reap_waits_for_the_order_of_a_launcher_that_just_died(kind: str, tmp_path: Path) -> None:
    with world_of(kind, tmp_path) as world:
        world.cloud.slow_create_s = 40.0
        with pytest.raises(Killed):
            _live_and_die(world, Life(9))
        assert world.cloud.num_made == 1
        assert world.cloud.running() == [], "it takes effect only in a moment"
        assert len(reap(world.session()).ended) == 1
        assert world.cloud.running() == []


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), Interrupted("SIGTERM", exit_code=143)])
@pytest.mark.parametrize("kind", PROVIDERS)
def test_ctrl_c_at_any_step_leaves_nothing_running(
    kind: str, signal: BaseException, tmp_path: Path
) -> None:
    at = 0
    while True:
        at += 1
        with world_of(kind, tmp_path / str(at)) as world:
            world.cloud.boot_s = 25.0
            life = Interruption(at, signal)
            with suppress(type(signal)):
                _live_and_die(world, life)
                assert life.num_steps < at, "the signal was swallowed"
            assert world.cloud.running() == []
            if life.num_steps < at:
                break
    assert at > 30


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_second_ctrl_c_while_ending_leaves_the_command_that_ends_it(
    kind: str, tmp_path: Path
) -> None:
    with world_of(kind, tmp_path) as world:
        plan = world.plan()
        launch_ready(world.session(), plan)

        def interrupt(request: WireRequest) -> WireAnswer:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            end_live(world.session(transport=interrupt), plan.job, reason="training ended")
        assert len(world.cloud.running()) == 1
        assert any(f"aquachat launch stop {plan.job}" in line for line in world.said)
        assert "may still be running" in world.said[-1]
        assert reap(world.session()).failures == ()
        assert world.cloud.running() == []


def _kill_a_process(kind: str, dies_at: int, home: Path) -> None:
    with world_of(kind, home) as world:
        world.cloud.boot_s = 0.0
        victim = [sys.executable, "-m", "tests.cloud.victim", kind, world.cloud.url, str(home)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        done = subprocess.run(
            [*victim, str(dies_at)],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -9, done.stderr.decode()
        assert done.stdout + done.stderr == b""
        _check_that_nothing_is_left(world)


@pytest.mark.parametrize(("kind", "dies_at"), [("lambda", 4), ("hyperbolic", 5)])
def test_a_real_kill_around_the_first_answer_is_cleaned_up(
    kind: str, dies_at: int, tmp_path: Path
) -> None:
    _kill_a_process(kind, dies_at, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("dies_at", range(1, 16))
@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_real_kill_at_every_ledger_write_is_cleaned_up(
    kind: str, dies_at: int, tmp_path: Path
) -> None:
    _kill_a_process(kind, dies_at, tmp_path)
