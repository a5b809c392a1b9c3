"""Whole rentals: a fake provider with a money meter, and a real machine behind it."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from aquachat.cloud import remote_job
from aquachat.cloud.ending import terminate_and_confirm
from aquachat.cloud.errors import BootError, RefusedError, StoppedError
from aquachat.cloud.limits import Limits
from aquachat.cloud.pull import MANIFEST
from aquachat.cloud.renting import Options, check_options, reserve_s
from aquachat.cloud.ssh_errors import CommandError, HostKeyError
from aquachat.cloud.survey import stop as stop_at
from aquachat.cloud.survey import survey
from aquachat.cloud.work import find_job
from aquachat.errors import ConfigError, Interrupted, MissingFileError
from tests.cloud.machines import GOES_ON, SECRETS, TRAINS, Rented


def nothing_is_paid_for(rent: Rented) -> None:
    assert rent.world.cloud.running() == []


def test_it_trains_brings_the_results_and_leaves_nothing_running(rent: Rented) -> None:
    plan = rent.plan()
    outcome = rent.rental(plan=plan).run()
    assert outcome.state is not None
    assert (outcome.state.code, outcome.state.reason) == (0, "ended")
    assert outcome.ended is not None
    nothing_is_paid_for(rent)
    assert len(rent.births) == 1
    folder = rent.folder(plan.job)
    assert (folder.results / "runs" / "r" / "base" / "model").read_text() == "weights\n"
    digest = hashlib.sha256(b"weights\n").hexdigest()
    assert f"{digest}  runs/r/base/model\n" in (folder.results / MANIFEST).read_text()
    assert (rent.home.runs / "r" / "base" / "model").read_text() == "weights\n"
    assert rent.shown == ["step 1"]
    assert folder.log.read_bytes() == b"step 1\n"
    there = rent.server.home / "aquachat" / plan.job
    assert (there / "seen").read_text() == SECRETS["WANDB_API_KEY"]
    assert (there / ".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("rent", ["lambda"], indirect=True)
def test_the_first_log_in_is_checked_where_the_provider_carries_a_key(rent: Rented) -> None:
    rent.world.cloud.on_birth = lambda machine: None  # cloud-init did not do it: another key
    with pytest.raises(HostKeyError, match="somebody else may be answering"):
        rent.rental().run()
    assert not (rent.server.home / "aquachat").exists()
    nothing_is_paid_for(rent)


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_command_that_fails_is_pulled_and_ended_all_the_same(rent: Rented) -> None:
    outcome = rent.rental(rent.work(f"{TRAINS}; echo broken >&2; exit 9")).run()
    assert outcome.state is not None
    assert outcome.state.code == 9
    assert outcome.pulled is not None
    assert rent.shown[-1] == "broken"
    nothing_is_paid_for(rent)


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_without_auto_start_it_is_set_up_and_kept_until_its_time_is_up(rent: Rented) -> None:
    plan = rent.plan(limits=Limits(1.0))
    outcome = rent.rental(plan=plan, auto_start=False).run()
    assert outcome.limit
    assert outcome.state is None or outcome.state.kind == "none"
    assert (rent.server.home / "aquachat" / plan.job / "bin" / "aquachat").exists()
    nothing_is_paid_for(rent)
    hours = rent.world.cloud.billed_cents() / rent.births[0].price_cents
    assert 1.0 - reserve_s(3600) / 3600 - 0.02 <= hours <= 1.0 + 30 / 3600


@pytest.mark.parametrize(
    ("rent", "number"),
    [
        ("lambda", signal.SIGINT),
        ("hyperbolic", signal.SIGTERM),
        ("hyperbolic", signal.SIGHUP),
    ],
    indirect=["rent"],
)
def test_interrupted_while_training_it_saves_pulls_and_ends(
    rent: Rented, number: signal.Signals
) -> None:
    plan = rent.plan()
    log = rent.server.home / "aquachat" / plan.job / "job" / "training.log"

    def interrupt() -> None:
        while not (log.exists() and log.read_text()):
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        rent.rental(rent.work(GOES_ON), plan).run()
    thread.join()
    nothing_is_paid_for(rent)
    folder = rent.folder(plan.job)
    assert (folder.results / "runs" / "r" / "base" / "model").exists()
    assert folder.log.read_text().splitlines()[-1] == "saved"


def test_a_limit_stops_the_training_in_time_to_pull(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_job, "FOLLOW_S", 1.0)
    plan = rent.plan(limits=Limits(1.0))
    cloud = rent.world.cloud

    def time_passes() -> None:
        while not rent.shown:
            time.sleep(0.05)
        rent.world.clock.sleep(3500 - reserve_s(3600))

    thread = threading.Thread(target=time_passes)
    thread.start()
    outcome = rent.rental(rent.work(GOES_ON), plan).run()
    thread.join()
    assert outcome.limit
    assert outcome.pulled is not None
    assert outcome.state is not None
    assert outcome.state.reason == "stop"
    nothing_is_paid_for(rent)
    assert cloud.billed_cents() <= rent.births[0].price_cents * (1 + 30 / 3600)


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_set_up_that_fails_ends_the_machine(rent: Rented) -> None:
    with pytest.raises(CommandError, match="no-such-python"):
        rent.rental(rent.work(python="/no-such-python")).run()
    assert len(rent.births) == 1
    nothing_is_paid_for(rent)


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_machine_without_a_gpu_is_replaced_and_then_given_up(rent: Rented) -> None:
    births = rent.world.cloud.on_birth
    revive = rent.server.start

    def born_again(machine: object) -> None:
        if rent.num_ended:
            revive()
        births(machine)  # type: ignore[arg-type]

    rent.world.cloud.on_birth = born_again
    with pytest.raises(BootError):
        rent.rental(rent.work(device="cuda")).run()
    assert len(rent.births) == 3
    nothing_is_paid_for(rent)


def test_a_stop_from_elsewhere_reaches_a_launcher_that_trains(rent: Rented) -> None:
    plan = rent.plan()

    def stop() -> None:
        while not rent.shown:
            time.sleep(0.05)
        stop_at(rent.world.session(), plan.job)

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = rent.rental(rent.work(GOES_ON), plan).run()
    thread.join()
    assert outcome.ended is not None
    nothing_is_paid_for(rent)
    rent.world.sent.clear()  # each process keeps its own pace


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_full_disk_here_does_not_keep_the_machine(
    rent: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aquachat.cloud import attending
    from aquachat.errors import DataError

    def refuse(*_: object, **__: object) -> None:
        rent.world.clock.sleep(600.0)
        raise DataError("cannot write `x`: the disk is full", hint="free some space")

    monkeypatch.setattr(attending, "pull", refuse)
    monkeypatch.setattr(attending, "RETRY_S", 0.1)
    outcome = rent.rental(plan=rent.plan(limits=Limits(2.0))).run()
    assert outcome.pulled is None
    assert any("the disk is full" in line for line in rent.world.said)
    nothing_is_paid_for(rent)


def test_detached_the_machine_ends_itself(rent: Rented) -> None:
    plan = rent.plan()
    outcome = rent.rental(rent.work(GOES_ON), plan, detach=True, self_terminate=True).run()
    assert outcome.ended is None
    session = rent.world.session()
    assert [row.machine.job for row in survey(session).rows] == [plan.job]
    place = rent.server.home / "aquachat" / plan.job
    assert (place / "job" / "terminate.env").stat().st_mode & 0o777 == 0o600
    order = place / "job" / "terminate.json"
    text = order.read_text()
    assert rent.births[0].id in text
    os.utime(order, (1, 1))  # its time is long up; the program reads that at its next look
    end = time.monotonic() + 40
    while rent.world.cloud.running() and time.monotonic() < end:
        time.sleep(0.2)
    nothing_is_paid_for(rent)


def test_leaving_without_anybody_who_holds_the_limits_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing here holds the limits"):
        check_options(Options(auto_start=True, detach=True))
    check_options(Options(auto_start=True, detach=True, self_terminate=True))


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_too_little_time_for_training_is_said_and_nothing_is_left(rent: Rented) -> None:
    rent.world.cloud.boot_s = 1050.0
    with pytest.raises((ConfigError, RefusedError), match=r"the limits leave|it has run"):
        rent.rental(plan=rent.plan(limits=Limits(0.3))).run()
    nothing_is_paid_for(rent)


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_job_that_is_not_known_is_said(rent: Rented) -> None:
    with pytest.raises(MissingFileError, match="no job was begun"):
        find_job(rent.home, None)
    with pytest.raises(MissingFileError, match="there is no job `12345678`"):
        find_job(rent.home, "12345678")


def test_a_stopped_job_orders_and_starts_nothing(rent: Rented) -> None:
    plan = rent.plan()
    births = rent.world.cloud.on_birth

    def stopped_at_birth(machine: object) -> None:
        births(machine)  # type: ignore[arg-type]
        threading.Thread(target=lambda: stop_at(rent.world.session(), plan.job)).start()

    rent.world.cloud.on_birth = stopped_at_birth
    with pytest.raises((StoppedError, BootError)):
        rent.rental(plan=plan).run()
    assert not (rent.server.home / "aquachat" / plan.job / "job" / "training.log").exists()
    nothing_is_paid_for(rent)
    rent.world.sent.clear()  # each process keeps its own pace


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_what_is_ended_twice_is_no_error(rent: Rented) -> None:
    plan = rent.plan()
    outcome = rent.rental(plan=plan).run()
    terminate_and_confirm(rent.world.session(), outcome.machine, reason="again")
    nothing_is_paid_for(rent)
    assert Path(rent.folder(plan.job).path / "known_hosts").read_text().count("ssh-ed25519") == 1
