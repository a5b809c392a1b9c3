"""A machine that ends itself: when its time is up, when nobody came, and only then."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aquachat.cloud.launching import launch
from aquachat.cloud.self_termination import ARMED_FILE, ORDER_FILE, end_when_due
from tests.cloud.world import World


class Box:
    """The work folder of a machine, whose clock is the provider's."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.work = world, folder
        self.machine = launch(world.session(), world.plan())
        self.lines: list[str] = []
        (folder / "job").mkdir()
        self.order(3600.0)

    def order(self, seconds: float, linger_s: float = 1800.0) -> None:
        file = self.work / ORDER_FILE
        order = {"provider": self.world.kind, "instance_id": self.machine.instance_id}
        file.write_text(json.dumps({**order, "seconds": seconds, "linger_s": linger_s}))
        self.touch(file)

    def touch(self, file: Path) -> None:
        file.touch()
        now_s = self.world.clock.time()
        os.utime(file, (now_s, now_s))

    def end(self) -> float:
        """Run the program to its end; returns how many seconds it waited."""
        clock, began_s = self.world.clock, self.world.clock.time()
        provider = self.world.session().provider
        end_when_due(self.work, provider, now=clock.time, sleep=clock.sleep, say=self.lines.append)
        assert (self.work / "job" / "terminate.done").exists()
        assert self.world.cloud.running() == []
        return clock.time() - began_s


@pytest.fixture
def box(lambda_world: World, tmp_path: Path) -> Box:
    (tmp_path / "box").mkdir()
    return Box(lambda_world, tmp_path / "box")


def test_it_ends_when_its_time_is_up_and_not_before(box: Box) -> None:
    assert 3600 <= box.end() <= 3600 + 60
    assert "its time is up" in box.lines[0]
    assert (box.work / ARMED_FILE).exists()


def test_ended_work_waits_for_somebody_to_pull_it_and_then_ends(box: Box) -> None:
    box.touch(box.work / "job" / "exit")
    assert 1800 <= box.end() <= 1800 + 60
    assert "nobody ended the machine" in box.lines[0]


def test_a_request_that_is_accepted_and_not_done_is_repeated(box: Box) -> None:
    box.world.cloud.num_ignored_terminates = 2
    box.end()
    assert sum(line.startswith("ending machine") for line in box.lines) == 3


def test_a_provider_that_cannot_be_asked_is_asked_again(box: Box) -> None:
    from tests.cloud.fake_cloud import KEY, Fault

    box.world.cloud.inject("terminate", *([Fault.SERVER_ERROR] * 3))
    box.end()
    assert not any(KEY in line for line in box.lines)


def test_a_machine_that_its_provider_does_not_name_is_not_armed(box: Box) -> None:
    box.world.cloud.machines.pop(box.machine.instance_id)
    box.end()
    assert not (box.work / ARMED_FILE).exists()
