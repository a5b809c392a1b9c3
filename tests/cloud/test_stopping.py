"""Stopping a job that a launcher keeps: its results come first, and nobody waits for long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from aquachat.cloud import providers, remote_job
from tests.cli.programs import Cli
from tests.cloud.machines import TRAINS, Rented


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_kept_machine_is_pulled_from_and_ended_at_once(
    rent: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "SystemClock", lambda: rent.world.clock)
    monkeypatch.setattr(remote_job, "FOLLOW_S", 1.0)
    plan = rent.plan()
    folder = rent.folder(plan.job)
    done: list[str] = []

    def stop() -> None:
        while not (rent.shown and folder.path.joinpath("job.json").exists()):
            time.sleep(0.05)
        time.sleep(1.0)
        cli = Cli(tmp_path)
        cli.home = rent.world.home
        outcome = cli("launch", "stop", plan.job, **rent.world.environ())
        done.append(outcome.stderr)

    thread = threading.Thread(target=stop)
    thread.start()
    script = f"{TRAINS}; trap 'exit 143' TERM; while :; do sleep 0.1; done"
    rent.rental(rent.work(script), plan, keep=True).run()
    thread.join()
    assert "pulling the results" in done[0]
    assert "its launcher on this computer" not in done[0]
    assert (folder.results / "runs" / "r" / "base" / "model").exists()
    assert rent.world.cloud.running() == []
    rent.world.sent.clear()  # each process keeps its own pace
