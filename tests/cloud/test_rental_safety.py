"""No interruption, fault or full disk leaves a machine on the bill, or results on a machine."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from aquachat.cloud import attending, delivery, remote_job, renting
from aquachat.cloud.attending import Attended, LogCopy
from aquachat.cloud.delivery import Delivery
from aquachat.cloud.errors import BootError, StoppedError
from aquachat.cloud.ledger import Event, Record
from aquachat.cloud.limits import Limits
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.renting import Outcome, attend
from aquachat.cloud.session import CloudSession, change_limits
from aquachat.errors import DataError, Interrupted, RemoteError
from tests.cloud.machines import GOES_ON, TRAINS, Rented

pytestmark = pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)


def nothing_is_paid_for(rent: Rented) -> None:
    assert rent.births
    assert rent.world.cloud.running() == []


@pytest.mark.parametrize("name", ["launch_ready", "mark_started"])
def test_a_signal_between_two_steps_ends_the_machine(
    rent: Rented, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = getattr(renting, name)

    def interrupted(*arguments: Any, **options: Any) -> None:
        step(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(renting, name, interrupted)
    with pytest.raises(Interrupted):
        rent.rental(rent.work(GOES_ON)).run()
    nothing_is_paid_for(rent)


def test_a_signal_before_anybody_attends_ends_the_machine(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(renting, "attend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rent.rental(rent.work(GOES_ON)).run()
    nothing_is_paid_for(rent)


def test_a_ledger_that_cannot_be_read_does_not_keep_the_machine(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = CloudSession.job

    def unreadable(self: CloudSession, name: str) -> Any:
        if rent.shown:
            raise DataError("cannot read the ledger", hint="check its permissions")
        return job(self, name)

    monkeypatch.setattr(remote_job, "FOLLOW_S", 1.0)
    monkeypatch.setattr(CloudSession, "job", unreadable)
    with pytest.raises(DataError, match="cannot read the ledger"):
        rent.rental(rent.work(GOES_ON)).run()
    nothing_is_paid_for(rent)


def test_interrupted_while_pulling_it_ends_without_the_results(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attending, "pull", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rent.rental().run()
    assert any("without pulling" in line for line in rent.world.said)
    nothing_is_paid_for(rent)


def test_an_answer_that_cannot_be_read_does_not_cost_the_results(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise RemoteError("the machine says `Welcome`", hint="log in and look")

    monkeypatch.setattr(attending, "state", unreadable)
    plan = rent.plan()
    outcome = rent.rental(plan=plan).run()
    assert outcome.state is None
    assert outcome.pulled is not None
    assert (rent.folder(plan.job).results / "runs" / "r" / "base" / "model").exists()
    nothing_is_paid_for(rent)


def test_results_are_here_before_the_machine_is_ended(rent: Rented) -> None:
    plan = rent.plan()
    gone, here = rent.world.cloud.on_end, []

    def ended(machine: Any) -> None:
        here.append((rent.folder(plan.job).results / "pulled.sha256").exists())
        gone(machine)

    rent.world.cloud.on_end = ended
    rent.rental(plan=plan).run()
    assert here == [True]


def test_a_full_disk_here_does_not_end_the_training_and_the_log_is_whole(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, refused = LogCopy.__call__, [2]

    def full(self: LogCopy, block: bytes) -> None:
        if refused[0] > 0:
            refused[0] -= 1
            with self.file.open("ab") as file:
                file.write(block[:1])
            raise DataError("cannot write the log: the disk is full", hint="free some space")
        receive(self, block)

    monkeypatch.setattr(LogCopy, "__call__", full)
    plan = rent.plan()
    outcome = rent.rental(rent.work(f"{TRAINS}; sleep 1; echo step 2"), plan).run()
    assert refused == [0]
    assert outcome.state is not None
    assert (outcome.state.code, outcome.state.reason) == (0, "ended")
    assert rent.folder(plan.job).log.read_bytes() == b"step 1\nstep 2\n"
    assert rent.shown == ["step 1", "step 2"]


def test_the_command_is_written_down_before_it_starts(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = rent.plan()
    known: list[tuple[str, ...]] = []

    def killed(*_: object, **__: object) -> str:
        known.append(rent.folder(plan.job).load().command)
        raise KeyboardInterrupt

    monkeypatch.setattr(renting, "start", killed)
    with pytest.raises(KeyboardInterrupt):
        rent.rental(plan=plan).run()
    assert known == [rent.work().words]
    nothing_is_paid_for(rent)


def test_a_job_that_is_stopped_while_it_is_set_up_never_starts(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, send = rent.plan(), Delivery.send

    def stopped(self: Delivery, machine: RemoteMachine) -> None:
        send(self, machine)
        session = rent.world.session()
        session.note(Record(Event.STOPPED, plan.job, session.provider.name))

    monkeypatch.setattr(Delivery, "send", stopped)
    with pytest.raises(StoppedError):
        rent.rental(plan=plan).run()
    assert not (rent.server.home / "aquachat" / plan.job / "job" / "lock").exists()
    nothing_is_paid_for(rent)
    rent.world.sent.clear()  # each process keeps its own pace


def test_a_gpu_that_multiplies_wrongly_is_given_back(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rent.server.folder / "torch"
    broken = {"FAKE_GPUS": "1", "FAKE_BROKEN": json.dumps({"0": "wrong"})}
    rent.server.set_session(variables={"PYTHONPATH": str(folder), **broken})
    monkeypatch.setattr(delivery, "check_driver", lambda machine, expected: 1)
    rental = rent.rental(rent.work(device="cuda"))
    rental._max_rerolls = 0
    with pytest.raises(BootError, match="GPU 0"):
        rental.run()
    nothing_is_paid_for(rent)


def test_a_watcher_with_other_limits_tells_the_timers_on_the_machine(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_job, "FOLLOW_S", 1.0)
    look = "$(cat ../job/deadline) $(cat ../job/terminate.json)"
    waits = (
        f'was="{look}"; i=0; while [ "$was" = "{look}" ]; do i=$((i+1)); '
        "[ $i -lt 150 ] || exit 5; sleep 0.1; done; sleep 0.5; echo told"
    )
    plan = rent.plan()
    detached = rent.rental(rent.work(waits), plan, detach=True, self_terminate=True).run()
    session, folder = rent.world.session(), rent.folder(plan.job)
    change_limits(session, plan.job, Limits(2.0))
    record = folder.load()
    order = rent.server.home / record.work / "job" / "terminate.json"
    before_s = json.loads(order.read_text())["seconds"]
    with RemoteMachine(record.target, folder.path) as remote:
        say, show = rent.world.said.append, rent.shown.append
        attended = Attended(remote, folder, record, rent.home, say, show)
        outcome = attend(session, Outcome(detached.machine, record), attended)
    assert outcome.state is not None
    assert (outcome.state.code, rent.shown[-1]) == (0, "told")
    assert json.loads(order.read_text())["seconds"] < before_s - 3600
    nothing_is_paid_for(rent)
    rent.world.sent.clear()


def test_a_machine_that_cannot_reach_its_provider_is_not_left_alone(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aquachat.cloud import self_termination
    from aquachat.cloud.ssh_errors import CommandError

    monkeypatch.setattr(self_termination, "ARM_S", 3.0)
    rental = rent.rental(rent.work(GOES_ON), detach=True, self_terminate=True)
    variable = next(name for name in rental._environ if name.endswith("_URL"))
    rental._environ[variable] = "http://127.0.0.1:9"
    with pytest.raises(CommandError, match="cannot end itself"):
        rental.run()
    nothing_is_paid_for(rent)


def test_names_in_env_replace_nothing_of_the_supervisor(rent: Rented) -> None:
    names = ("job", "home", "work", "project", "why", "child", "group", "end_at", "code")
    env = {name: f"/nowhere/{name}" for name in names}
    plan = rent.plan()
    outcome = rent.rental(rent.work('echo "$job $home $code"; exit 3', env=env), plan).run()
    assert outcome.state is not None
    assert (outcome.state.code, outcome.state.reason) == (3, "ended")
    assert rent.folder(plan.job).log.read_text() == "/nowhere/job /nowhere/home /nowhere/code\n"
