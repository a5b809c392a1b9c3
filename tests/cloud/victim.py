"""A real process that launches, trains for no time, ends, and is killed at a ledger write."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.session import in_charge
from tests.cloud.fake_cloud import FakeClock
from tests.cloud.mortality import Life, MortalLedger
from tests.cloud.world import World, make_cloud


def main() -> None:
    kind, url, home, dies_at = sys.argv[1:]
    clock = FakeClock()
    cloud = make_cloud(kind, clock)
    cloud.url_elsewhere = url
    world = World(cloud, clock, Path(home), kind)
    ledger = MortalLedger(world.ledger_path, clock)
    ledger.life = Life(int(dies_at), lambda: os.kill(os.getpid(), signal.SIGKILL))
    session = world.session(ledger=ledger)
    plan = world.plan()
    with in_charge(session, plan.job):
        launch_ready(session, plan)
        end_live(session, plan.job, reason="training ended")


if __name__ == "__main__":
    main()
