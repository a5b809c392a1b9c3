"""A command on a real machine: started once, followed to its last byte, ended in time."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from aquachat.cloud.env_file import write_env
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_job import (
    JobState,
    LogFollower,
    Place,
    parse_state,
    set_deadline,
    start,
    state,
    stop,
)
from aquachat.cloud.ssh_errors import CommandError
from aquachat.errors import RemoteError
from tests.cloud.proxy import Proxy
from tests.cloud.sshd import Sshd, running_sshd

T = TypeVar("T")
PLACE = Place.of(secrets.token_hex(4))  # tmux servers of one user share a folder
COUNT = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done"
SAVES = "trap 'echo saved; exit 143' TERM; echo begun; while :; do sleep 0.1; done"
IGNORES = "trap '' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.fixture(params=["tmux", "setsid"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sshd]:
    """A machine with tmux, and one without."""
    if request.param == "tmux" and shutil.which("tmux") is None:
        pytest.skip("tmux is not installed (`apt-get install tmux`)")
    with running_sshd(tmp_path / "sshd") as made:
        made.set_session(path=made.path_with(without=() if request.param == "tmux" else ["tmux"]))
        yield made


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    with server.machine(tmp_path / "job") as made:
        yield made


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def wait(until: Callable[[], T], seconds: float = 20.0) -> T:
    end = time.monotonic() + seconds
    while not (value := until()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)
    return value


def job_file(server: Sshd, name: str) -> Path:
    return server.home / PLACE.work / "job" / name


def followed(machine: RemoteMachine) -> bytes:
    received = bytearray()
    follower = LogFollower(machine, PLACE, received.extend)
    while not follower.step(5):
        pass
    return bytes(received)


def processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_command_runs_without_the_connection_and_leaves_log_and_code(
    server: Sshd, machine: RemoteMachine
) -> None:
    words = shell("echo one 'two'; echo $(pwd) $AQUACHAT_HOME; sleep 1; echo three >&2; exit 7")
    form = start(machine, PLACE, words)
    assert form == ("tmux" if (Path(server.path) / "tmux").exists() else "setsid")
    machine.close()
    home = server.home / PLACE.work
    assert followed(machine).decode() == f"one two\n{home}/project {home}/home\nthree\n"
    assert state(machine, PLACE) == JobState("ended", 7, "ended")


def test_started_twice_it_runs_once(server: Sshd, machine: RemoteMachine) -> None:
    for _ in range(3):
        start(machine, PLACE, shell("echo begun >>../count; echo begun; sleep 0.5"))
    assert followed(machine) == b"begun\n"
    start(machine, PLACE, shell("echo again >>../count"))
    assert (server.home / PLACE.work / "count").read_text() == "begun\n"


def test_started_by_several_at_once_it_runs_once(server: Sshd, tmp_path: Path) -> None:
    import threading

    def begin(index: int) -> None:
        with server.machine(tmp_path / f"job{index}") as machine:
            start(machine, PLACE, shell("echo begun >>../count; sleep 0.5"))

    threads = [threading.Thread(target=begin, args=(index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait(job_file(server, "exit").exists)
    assert (server.home / PLACE.work / "count").read_text() == "begun\n"


def test_a_cut_while_starting_starts_it_once(server: Sshd, tmp_path: Path) -> None:
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        for num_bytes in (200, 1500, 3500, 6000, 100000):
            proxy.cut_after_bytes = proxy.sent + num_bytes
            start(machine, PLACE, shell("echo begun >>../count; sleep 2"))
        assert proxy.connections > 1
    wait(job_file(server, "exit").exists)
    assert (server.home / PLACE.work / "count").read_text() == "begun\n"


def test_a_log_followed_over_cut_connections_is_byte_identical(
    server: Sshd, tmp_path: Path
) -> None:
    received = bytearray()
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        start(machine, PLACE, shell(COUNT))
        follower = LogFollower(machine, PLACE, received.extend)
        said: list[str] = []
        proxy.cut_after_received = proxy.received + 3000
        while not follower.try_step(5, said.append):
            if len(said) < 4:
                proxy.cut_after_received = proxy.received + 2500 + 700 * len(said)
    assert bytes(received) == job_file(server, "training.log").read_bytes()
    assert received.count(b"\n") == 300
    assert any("going on at byte" in line for line in said)


def test_an_old_log_is_received_from_the_byte_that_is_asked_for(machine: RemoteMachine) -> None:
    start(machine, PLACE, shell("printf '0123456789\\000\\377'; sleep 0.2"))
    assert followed(machine) == b"0123456789\0\xff"
    rest = bytearray()
    assert LogFollower(machine, PLACE, rest.extend, offset=8).step() is True
    assert bytes(rest) == b"89\0\xff"


def test_a_stop_lets_it_save(machine: RemoteMachine) -> None:
    start(machine, PLACE, shell(SAVES))
    wait(lambda: state(machine, PLACE).kind == "running")
    time.sleep(0.5)
    assert stop(machine, PLACE) == JobState("ended", 143, "stop")
    assert followed(machine).endswith(b"saved\n")
    assert stop(machine, PLACE).kind == "ended"


def test_what_does_not_end_by_itself_is_killed_with_all_its_children(
    machine: RemoteMachine,
) -> None:
    marker = f"31{os.getpid()}.5"
    start(machine, PLACE, shell(f"sleep {marker} & {IGNORES}"), grace_s=1)
    wait(lambda: processes_with(f"sleep\0{marker}"))
    assert stop(machine, PLACE, grace_s=1) == JobState("ended", 137, "stop")
    wait(lambda: not processes_with(f"sleep\0{marker}"))


def test_the_machine_ends_it_at_its_deadline_with_nobody_connected(
    server: Sshd, machine: RemoteMachine
) -> None:
    start(machine, PLACE, shell(SAVES), seconds=2)
    machine.close()
    wait(job_file(server, "exit").exists)
    assert job_file(server, "exit").read_text() == "143 deadline\n"


def test_a_deadline_can_be_changed_while_it_runs(server: Sshd, machine: RemoteMachine) -> None:
    start(machine, PLACE, shell(SAVES), seconds=3600)
    time.sleep(0.5)
    set_deadline(machine, PLACE, 1)
    wait(job_file(server, "exit").exists)
    assert job_file(server, "exit").read_text() == "143 deadline\n"


def test_a_supervisor_that_vanished_is_lost_and_no_success(
    server: Sshd, machine: RemoteMachine
) -> None:
    start(machine, PLACE, shell("echo begun; sleep 60"))
    wait(lambda: job_file(server, "training.log").read_text())
    os.kill(int(job_file(server, "pid").read_text().split()[0]), signal.SIGKILL)
    wait(lambda: state(machine, PLACE).kind == "lost")
    follower = LogFollower(machine, PLACE, lambda block: None)
    assert follower.step(5) is True
    assert follower.is_lost


def test_secrets_reach_the_command_and_no_command_line(
    server: Sshd, machine: RemoteMachine
) -> None:
    secret = "x'$(touch pwned)\"\n`id` sk-31337"
    write_env(machine, PLACE.file(".env"), {"WANDB_API_KEY": secret})
    start(machine, PLACE, shell('printf %s "$WANDB_API_KEY" >../seen; sleep 1'))
    wait((server.home / PLACE.work / "seen").exists)
    assert processes_with("sk-31337") == []
    followed(machine)
    assert (server.home / PLACE.work / "seen").read_text() == secret
    assert (server.home / PLACE.work / ".env").stat().st_mode & 0o777 == 0o600
    assert not list(server.home.rglob("pwned"))


def test_words_with_shell_characters_run_nothing(server: Sshd, machine: RemoteMachine) -> None:
    words = ["printf", "%s|", "$(touch pwned)", "a'b", '"; touch pwned; "', "*", "ü\n"]
    start(machine, PLACE, words)
    assert followed(machine).decode() == "".join(f"{word}|" for word in words[2:])
    assert not list(server.home.rglob("pwned"))


def test_nothing_started_is_said(machine: RemoteMachine) -> None:
    assert state(machine, PLACE) == JobState("none")
    with pytest.raises(CommandError, match="nothing was started"):
        LogFollower(machine, PLACE, lambda block: None).step(2)


def test_a_state_that_cannot_be_read_is_an_error() -> None:
    assert parse_state("0 ended\n") == JobState("ended", 0, "ended")
    with pytest.raises(RemoteError, match="cannot be read"):
        parse_state("Welcome to Ubuntu")
