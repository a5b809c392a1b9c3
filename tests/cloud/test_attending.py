"""The log of a job here: every byte once, no line that fills the memory, nothing half shown."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.cloud import remote_job
from aquachat.cloud.attending import MAX_LINE_BYTES, LogCopy, LogLines, shown_line
from aquachat.cloud.env_file import _WRITE
from aquachat.cloud.remote import RemoteMachine, script_command
from aquachat.cloud.remote_job import LogFollower, Place, start, state, stop
from aquachat.cloud.shell_scripts import command, script
from aquachat.cloud.ssh_errors import DeadlineError
from tests.cloud.sshd import Sshd, running_sshd

PLACE = Place.of("1a2b3c4d")
SECRET = {"DATABASE_URL": "postgres://me:pass-31337@db"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd") / "sshd") as made:
        yield made


@pytest.fixture
def server(shared: Sshd, tmp_path: Path) -> Iterator[Sshd]:
    """A home of its own on one server."""
    (tmp_path / "there").mkdir()
    shared.set_session(home=tmp_path / "there")
    yield shared
    shared.end_processes()


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    with server.machine(tmp_path / "job") as made:
        yield made


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_are_shown_whole_however_they_arrive(size: int) -> None:
    shown: list[str] = []
    lines = LogLines(shown.append, SECRET)
    text = f"one\r\n10%\r20%\nkey {SECRET['DATABASE_URL']}.\nlast".encode()
    for start_ in range(0, len(text), size):
        lines(text[start_ : start_ + size])
    assert shown == ["one", "20%", "key [DATABASE_URL redacted]."]
    lines.close()
    assert shown[3:] == ["last"]


def test_a_secret_of_several_lines_is_hidden_in_each_of_them() -> None:
    secrets = {"PEM": "first part\nsecond part\n"}
    shown = [shown_line(line, secrets) for line in b"x first part\nsecond part y".split(b"\n")]
    assert shown == ["x [PEM redacted]", "[PEM redacted] y"]


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    shown: list[str] = []
    lines = LogLines(shown.append, SECRET)
    for _ in range(100):
        lines(b"x" * 32_768)
        assert len(lines._rest) <= MAX_LINE_BYTES
    lines(b"\nnext\n")
    assert shown == ["(a line of more than 65,536 bytes; it is whole in the log)", "next"]


def test_a_progress_bar_without_line_breaks_shows_its_last_state() -> None:
    shown: list[str] = []
    lines = LogLines(shown.append)
    for step in range(20_000):
        lines(f"\rstep {step:10}".encode())
        assert len(lines._rest) <= MAX_LINE_BYTES
    lines(b"\n")
    assert shown == ["step      19999"]


def test_a_line_whose_beginning_was_shown_by_nobody_is_completed_or_left_out(
    tmp_path: Path,
) -> None:
    file = tmp_path / "training.log"
    address = SECRET["DATABASE_URL"].encode()
    file.write_bytes(b"one\nkey " + address[:9])
    shown: list[str] = []
    LogCopy(file, shown.append, SECRET)(address[9:] + b"\n")
    assert shown == ["key [DATABASE_URL redacted]"]
    cut = LogLines(shown.append, SECRET, is_cut=True)
    cut(address[9:] + b"\ntwo\n")
    assert shown[1:] == ["two"]


def test_a_log_is_for_its_user_only(tmp_path: Path) -> None:
    copy = LogCopy(tmp_path / "training.log", lambda line: None)
    copy(b"x\n")
    assert copy.file.stat().st_mode & 0o777 == 0o600


def test_a_long_log_that_grows_all_the_time_comes_in_steps_and_is_whole(
    machine: RemoteMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_job, "COMMAND_S", 8.0)
    start(machine, PLACE, ["sh", "-c", "yes line | head -c 5000001; exec yes more"], grace_s=1)
    received = bytearray()
    follower = LogFollower(machine, PLACE, received.extend)
    began = time.monotonic()
    assert follower.step(1.0) is False
    assert time.monotonic() - began < 8.0
    stop(machine, PLACE, grace_s=1)
    there = machine.script(f"cd && head -c 5000001 {PLACE.work}/job/training.log | cksum").text
    while len(received) < 5_000_001:
        follower.step(1.0)
    whole = bytes(received[:5_000_001])
    here = subprocess.run(["cksum"], input=whole, capture_output=True, check=True).stdout
    assert here.decode().split() == there.split()


def test_a_long_log_over_a_slow_link_comes_in_steps(machine: RemoteMachine) -> None:
    size = 12 << 20
    start(machine, PLACE, ["sh", "-c", f"yes line | head -c {size}"])
    while (now := state(machine, PLACE)).kind != "ended":
        time.sleep(0.1)
    assert now.code == 0
    received = bytearray()

    def slowly(block: bytes) -> None:
        received.extend(block)
        time.sleep(0.02)  # 1.6 MB/s: the machine's end of the channel is full all the time

    assert LogFollower(machine, PLACE, slowly).step(1.0) is False
    assert 0 < len(received) < size


def test_a_machine_that_goes_silent_is_asked_again_and_nothing_is_ended(
    machine: RemoteMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(machine, PLACE, ["echo", "done"])
    received = bytearray()
    follower = LogFollower(machine, PLACE, received.extend)
    said: list[str] = []

    def silent(seconds: float) -> bool:
        raise DeadlineError("a command did not end within 85 s", hint="allow more time")

    with monkeypatch.context() as patch:
        patch.setattr(follower, "step", silent)
        assert follower.try_step(1.0, said.append) is False
    while not follower.try_step(2.0, said.append):
        pass
    assert bytes(received) == b"done\n"
    assert "going on at byte 0" in said[0]


def test_a_second_supervisor_of_a_job_does_nothing(machine: RemoteMachine) -> None:
    start(machine, PLACE, ["sh", "-c", "echo begun >>../count; sleep 1"])
    words = ["sh", f"{PLACE.work}/job/supervise.sh", PLACE.work, PLACE.project]
    assert machine.run(words).code == 0
    while not LogFollower(machine, PLACE, lambda block: None).step(2):
        pass
    assert machine.script(f"cat {PLACE.work}/count").text == "begun\n"


def test_what_a_command_leaves_running_is_ended_with_it(machine: RemoteMachine) -> None:
    start(machine, PLACE, ["sh", "-c", "while :; do date >../alive; sleep 0.1; done & sleep 0.5"])
    while not LogFollower(machine, PLACE, lambda block: None).step(2):
        pass
    machine.script(f"rm {PLACE.work}/alive")
    time.sleep(0.5)
    assert machine.run(["test", "-e", f"{PLACE.work}/alive"]).code == 1


def test_half_a_command_never_runs(machine: RemoteMachine) -> None:
    words = command("start", PLACE.work, PLACE.project, "0", "1", script("supervise"), "100")
    result = machine.run(words, stdin=b"echo half >../half\n", deadline_s=40)
    assert result.code == 8
    assert machine.run(["test", "-e", f"{PLACE.work}/job/lock"]).code == 1


def test_half_of_the_secrets_never_take_their_name(machine: RemoteMachine) -> None:
    words = script_command(_WRITE, f"{PLACE.work}/.env", "100")
    assert machine.run(words, stdin=b"A='half").code == 8
    assert machine.script(f"ls -A {PLACE.work}").text == ""
