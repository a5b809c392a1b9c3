"""`status` shows both views, and `reap` ends ours and only ours."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from aquachat.cloud.base import Instance
from aquachat.cloud.booting import launch_ready
from aquachat.cloud.errors import CloudError, LeftRunningError, StoppedError
from aquachat.cloud.launching import launch
from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.limits import Limits
from aquachat.cloud.naming import Stamp, name_of
from aquachat.cloud.session import in_charge, mark_started
from aquachat.cloud.survey import PULL_GRACE_S, reap, stop, survey
from aquachat.cloud.watching import watch
from aquachat.errors import DataError
from tests.cloud.fake_cloud import Fault
from tests.cloud.world import World


def test_status_shows_what_runs_and_what_it_costs(world: World) -> None:
    session = world.session()
    plan = world.plan()
    with in_charge(session, plan.job):
        ready = launch_ready(session, plan)
        world.clock.sleep(3600.0)
        (row,) = survey(world.session()).rows
    assert row.machine.instance_id == ready.machine.instance_id
    assert row.instance is not None
    assert row.is_watched
    assert row.overdue == ""
    billed = Decimal(str(world.cloud.billed_cents())) / 100
    assert row.cost_usd is not None
    assert billed <= row.cost_usd < billed + Decimal("0.50")
    assert row.deadline_s == pytest.approx(row.machine.ordered_at_s + 4 * 3600)


def test_could_not_ask_does_not_read_as_none_running(world: World) -> None:
    session = world.session()
    launch_ready(session, world.plan())
    for fault in (Fault.SERVER_ERROR, Fault.EXPIRED, Fault.DROP, Fault.GARBAGE_AFTER):
        world.cloud.inject("list", *[fault] * 6)
        seen = survey(world.session())
        assert seen.problem
        assert len(seen.rows) == 1, "what the ledger says is still shown"
        world.cloud.heal()
        world.cloud.inject("list", *[fault] * 6)
        with pytest.raises(CloudError, match="not known"):
            reap(world.session())
        world.cloud.heal()
    assert len(world.cloud.running()) == 1


def test_an_empty_list_does_not_make_the_ledger_forget(world: World) -> None:
    session = world.session()
    plan = world.plan()
    launch_ready(session, plan)
    mark_started(session, session.job(plan.job).live[0])
    world.cloud.num_stale_lists = 3
    for _ in range(3):
        (row,) = survey(world.session()).rows
        assert row.instance is None
        assert row.overdue == ""
    assert survey(world.session()).rows[0].instance is not None


def test_reap_leaves_a_watched_job_alone_until_the_grace_is_over(world: World) -> None:
    session = world.session()
    plan = world.plan(limits=Limits(1.0))
    with in_charge(session, plan.job):
        launch_ready(session, plan)
        assert reap(world.session()).ended == ()
        world.clock.sleep(3600.0)
        assert reap(world.session()).ended == ()
        world.clock.sleep(PULL_GRACE_S)
        assert len(reap(world.session()).ended) == 1
    assert world.cloud.running() == []


def test_training_that_goes_on_alone_runs_until_its_limits(world: World) -> None:
    session = world.session()
    plan = world.plan(limits=Limits(1.0))
    with in_charge(session, plan.job):
        launch_ready(session, plan)
        session.ledger.append(Record(Event.STARTED, plan.job, instance_id=_only(world)))
    assert reap(world.session()).ended == ()
    world.clock.sleep(3600.0)
    (ended,) = reap(world.session()).ended
    assert "past its limits" in ended.reason
    assert world.cloud.running() == []


def test_a_machine_beside_the_one_that_trains_is_ended(world: World) -> None:
    session = world.session()
    plan = world.plan()
    launch_ready(session, plan)
    session.ledger.append(Record(Event.STARTED, plan.job, instance_id=_only(world)))
    job = session.job(plan.job)
    (order,) = job.orders.values()
    trained_on = _only(world)
    world.cloud.add("901", order.name, 100, world.cloud.machines[trained_on].body)
    (ended,) = reap(world.session()).ended
    assert ended.machine.instance_id == "901"
    assert [m.id for m in world.cloud.running()] == [trained_on]


@pytest.mark.parametrize("minutes", [30, 240])
def test_a_machine_from_another_computer_is_judged_by_its_name(world: World, minutes: int) -> None:
    stamp = Stamp("feedbeef", int(world.clock.time()), minutes)
    body = {"tags": []}
    world.cloud.add("900", name_of(stamp), 275, body)
    world.clock.sleep(3600.0)
    seen = survey(world.session())
    assert [row.is_known for row in seen.rows] == [False]
    ended = reap(world.session()).ended
    assert len(ended) == (1 if minutes == 30 else 0)


def test_machines_of_other_people_are_counted_and_not_touched(world: World) -> None:
    near_misses = ("aquachat", "aquachat-deadbeef", "my-aquachat-deadbeef-6ab13b80-1m", "")
    for index, name in enumerate(near_misses):
        world.cloud.add_foreign(str(500 + index), name, {})
    world.clock.sleep(1e6)
    seen = survey(world.session())
    assert seen.rows == ()
    assert seen.num_foreign == 1 + len(near_misses)
    assert reap(world.session()).ended == ()
    with pytest.raises(CloudError, match="no machine of ours"):
        stop(world.session(), "500")
    for index in range(len(near_misses)):
        assert world.cloud.machines.pop(str(500 + index)).ended_s is None


def test_stop_ends_a_job_by_its_name_or_its_machine(world: World) -> None:
    plans = [world.plan(), world.plan()]
    for plan in plans:
        launch(world.session(), plan)
    assert len(world.cloud.running()) == 2
    (ended,) = stop(world.session(), plans[0].job)
    assert ended.machine.job == plans[0].job
    (last,) = world.cloud.running()
    stop(world.session(), last.id)
    assert world.cloud.running() == []


def test_a_machine_that_cannot_be_ended_is_said_loudly_and_remembered(world: World) -> None:
    session = world.session()
    plan = world.plan()
    launch_ready(session, plan)
    machine_id = _only(world)
    world.cloud.num_ignored_terminates = 10_000
    with pytest.raises(LeftRunningError) as caught:
        stop(world.session(), plan.job)
    assert machine_id in caught.value.message
    assert f"aquachat launch stop {plan.job}" in str(caught.value.hint)
    assert "https://" in str(caught.value.hint)
    assert caught.value.exit_code == 1
    (machine,) = session.job(plan.job).live
    assert machine.is_left
    world.cloud.heal()
    assert len(reap(world.session()).ended) == 1
    assert session.job(plan.job).live == []


def test_one_machine_that_cannot_be_ended_does_not_save_the_others(world: World) -> None:
    plans = [world.plan(), world.plan()]
    for plan in plans:
        launch(world.session(), plan)
    ids = [m.id for m in world.cloud.running()]
    world.cloud.unendable = {ids[0]}
    done = reap(world.session())
    assert [e.machine.instance_id for e in done.ended] == [ids[1]]
    assert len(done.failures) == 1
    world.cloud.unendable = set()
    reap(world.session())
    assert world.cloud.running() == []


def test_two_processes_cannot_be_in_charge_of_one_job(world: World) -> None:
    session = world.session()
    other = in_charge(world.session(), "1a2b3c4d")
    with in_charge(session, "1a2b3c4d"), pytest.raises(DataError, match="in use"), other:
        pass


def test_an_order_without_a_trace_is_looked_for_during_a_day(world: World) -> None:
    session = world.session()
    intent = Record(Event.INTENT, "1a2b3c4d", world.kind, order="aquachat-1a2b3c4d-6ab13b80-240m")
    session.ledger.append(intent)
    assert len(survey(world.session()).unsettled) == 1
    assert reap(world.session()).survey.unsettled != ()
    world.clock.sleep(24 * 3600.0)
    assert survey(world.session()).unsettled == ()


def test_a_ledger_that_was_deleted_is_made_up_for_by_names(world: World) -> None:
    launch_ready(world.session(), world.plan(limits=Limits(1.0)))
    world.ledger_path.unlink()
    world.clock.sleep(3600.0 + PULL_GRACE_S)
    assert len(reap(world.session()).ended) == 1
    assert world.cloud.running() == []


def _only(world: World) -> str:
    (machine,) = world.cloud.running()
    return machine.id


def test_a_job_that_is_stopped_while_it_starts_is_not_ordered_again(world: World) -> None:
    session = world.session()
    plan = world.plan()

    def stop_it(instance: Instance) -> bool:
        stop(world.session(), plan.job)
        return False

    with in_charge(session, plan.job), pytest.raises(StoppedError):
        launch_ready(session, plan, probe=stop_it)
    assert world.cloud.num_made == 1
    assert world.cloud.running() == []


def test_a_job_that_is_stopped_while_it_waits_for_capacity_orders_nothing(world: World) -> None:
    world.cloud.full_regions = {"us-west-1", "us-east-1", "ca-east-1"}
    session = world.session()
    plan = world.plan(wait_for_capacity_s=7200.0)
    say = world.said.append

    def stop_it(line: str) -> None:
        say(line)
        world.cloud.full_regions = set()
        assert stop(world.session(), plan.job) == []

    waiting = replace(session, say=stop_it)
    with in_charge(session, plan.job), pytest.raises(StoppedError):
        launch_ready(waiting, plan)
    assert world.cloud.num_made == 0


def test_a_watcher_sees_that_its_job_was_stopped(world: World) -> None:
    session = world.session()
    plan = world.plan()
    machine = launch_ready(session, plan).machine
    stop(world.session(), plan.job)
    assert watch(session, machine).kind == "gone"
