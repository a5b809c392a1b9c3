from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquachat.cloud.remote import RemoteMachine, script_command
from aquachat.cloud.ssh_errors import (
    AuthFailedError,
    CommandError,
    DeadlineError,
    DroppedError,
    HostKeyError,
    UnreachableError,
    reason_of,
)
from aquachat.cloud.target import Target, fingerprint, parse_target
from aquachat.errors import ConfigError
from tests.cloud.proxy import Proxy
from tests.cloud.sshd import Sshd, free_port, make_key, running_sshd

HOSTILE = ["$(touch hit)", "`touch hit`", "a;touch hit", "'\"", "\n", "-n", "*", "~"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as made:
        yield made


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    with server.machine(tmp_path / "job") as made:
        yield made


def test_a_command_gives_its_output_and_its_code(machine: RemoteMachine) -> None:
    command = script_command("cat; echo oops >&2; exit 7")
    result = machine.run(command, stdin=b"\x00 bytes \xff" * 10_000)
    assert result.stdout == b"\x00 bytes \xff" * 10_000
    assert result.stderr == b"oops\n"
    assert result.code == 7
    assert machine.connections == 1


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
        | st.sampled_from(HOSTILE),
        min_size=1,
        max_size=12,
    )
)
def test_no_argument_is_expanded_or_executed(machine: RemoteMachine, words: list[str]) -> None:
    result = machine.script('for word; do printf "%s\\0" "$word"; done; ls', *words)
    assert result.stdout.decode() == "".join(f"{word}\0" for word in words)


def test_output_beyond_the_bound_is_dropped_and_said(machine: RemoteMachine) -> None:
    result = machine.run(["seq", "1", "200000"], max_output_bytes=1000)
    assert len(result.stdout) == 1000
    assert result.truncated


def test_a_command_that_reads_nothing_does_not_block_the_sender(machine: RemoteMachine) -> None:
    assert machine.run(["true"], stdin=b"x" * 10_000_000, deadline_s=20).code == 0


def test_a_child_that_keeps_the_output_open_does_not_hold_the_result(
    machine: RemoteMachine,
) -> None:
    started = time.monotonic()
    result = machine.script("sleep 30 & echo done")
    assert result.text == "done\n"
    assert time.monotonic() - started < 15


def test_a_deadline_is_kept_although_the_command_is_not_over(machine: RemoteMachine) -> None:
    with pytest.raises(DeadlineError, match=r"did not end within 0\.3 s"):
        machine.run(["sleep", "30"], deadline_s=0.3)
    assert machine.run(["echo", "on"]).text == "on\n"


def test_a_signal_on_the_machine_is_no_lost_connection(machine: RemoteMachine) -> None:
    with pytest.raises(CommandError, match=r"ended by a signal|code 137"):
        machine.script("kill -9 $$")


def test_the_first_key_seen_is_pinned_and_a_changed_one_refused(
    own_server: Sshd, tmp_path: Path
) -> None:
    with own_server.machine(tmp_path / "job") as machine:
        machine.check(["true"])
    known = tmp_path / "job" / "known_hosts"
    before = known.read_bytes()
    assert own_server.host_key.split()[1].encode() in before
    assert known.stat().st_mode & 0o777 == 0o600
    old = fingerprint(own_server.host_key.split()[1])
    own_server.change_host_key()
    (own_server.home / "untouched").touch()
    with own_server.machine(tmp_path / "job") as machine, pytest.raises(HostKeyError) as caught:
        machine.run(["rm", "untouched"], stdin=b"a secret")
    assert old in caught.value.message
    assert fingerprint(own_server.host_key.split()[1]) in caught.value.message
    assert (own_server.home / "untouched").exists()
    assert known.read_bytes() == before
    assert "Accepted" not in _log_after_restart(own_server)


def _log_after_restart(server: Sshd) -> str:
    return (server.folder / "sshd.log").read_text().rpartition("Server listening")[2]


def test_a_wrong_key_is_refused_from_the_first_connection(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    target = server.target(host_key=other)
    with RemoteMachine(target, tmp_path / "job") as machine, pytest.raises(HostKeyError):
        machine.wait_until_ready(30)
    assert other.split()[1] in (tmp_path / "job" / "known_hosts").read_text()


def test_a_key_given_beforehand_is_accepted(server: Sshd, tmp_path: Path) -> None:
    target = server.target(host_key=server.host_key)
    with RemoteMachine(target, tmp_path / "job") as machine:
        assert machine.run(["true"]).code == 0


def test_a_given_key_that_differs_from_the_pinned_one_is_refused(
    server: Sshd, tmp_path: Path
) -> None:
    with server.machine(tmp_path / "job") as machine:
        machine.connect()
    make_key(tmp_path / "other")
    target = server.target(host_key=(tmp_path / "other.pub").read_text())
    with RemoteMachine(target, tmp_path / "job") as machine, pytest.raises(HostKeyError):
        machine.connect()


def test_a_wrong_user_key_is_named_and_not_tried_again(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    target = Target("127.0.0.1", server.user, server.port, tmp_path / "stranger")
    with (
        RemoteMachine(target, tmp_path / "job") as machine,
        pytest.raises(AuthFailedError, match="stranger"),
    ):
        machine.persist(lambda: machine.run(["true"]))


def test_a_missing_key_file_is_said(server: Sshd, tmp_path: Path) -> None:
    target = Target("127.0.0.1", server.user, server.port, tmp_path / "nowhere")
    with (
        RemoteMachine(target, tmp_path / "job") as machine,
        pytest.raises(AuthFailedError, match="there is no key"),
    ):
        machine.connect()


def test_a_closed_port_is_unreachable(tmp_path: Path) -> None:
    target = Target("127.0.0.1", "me", free_port(), tmp_path / "key")
    with (
        RemoteMachine(target, tmp_path / "job") as machine,
        pytest.raises(UnreachableError, match="refused"),
    ):
        machine.connect()


def test_a_port_that_never_answers_is_left_at_the_deadline(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target("127.0.0.1", "me", listener.getsockname()[1], tmp_path / "key")
        with (
            RemoteMachine(target, tmp_path / "job") as machine,
            pytest.raises(UnreachableError),
        ):
            machine.connect(0.5)


def test_a_machine_that_starts_late_is_waited_for(own_server: Sshd, tmp_path: Path) -> None:
    own_server.stop()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            own_server.start()

    with own_server.machine(tmp_path / "job", now=lambda: sum(waits), sleep=sleep) as machine:
        machine.wait_until_ready(100)
        assert machine.is_connected
    assert waits[:3] == [1, 2, 4]


def test_a_machine_that_never_starts_is_given_up(tmp_path: Path) -> None:
    waits: list[float] = []
    target = Target("127.0.0.1", "me", free_port(), tmp_path / "key")
    machine = RemoteMachine(target, tmp_path, now=lambda: sum(waits), sleep=waits.append)
    with pytest.raises(UnreachableError):
        machine.wait_until_ready(300)
    assert 200 < sum(waits) <= 300


def test_a_cut_connection_is_told_and_the_next_command_connects_again(
    server: Sshd, tmp_path: Path
) -> None:
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        threading.Timer(0.3, proxy.cut).start()
        with pytest.raises(DroppedError):
            machine.run(["sleep", "20"])
        assert machine.run(["echo", "again"]).text == "again\n"
        assert machine.connections == 2


def test_an_action_is_repeated_after_each_cut(server: Sshd, tmp_path: Path) -> None:
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        tries = []

        def action() -> str:
            tries.append(1)
            machine.connect()
            if len(tries) < 3:
                threading.Timer(0.2, proxy.cut).start()
                machine.run(["sleep", "20"])
            return machine.run(["echo", "done"]).text

        assert machine.persist(action) == "done\n"
        assert len(tries) == 3


def test_secrets_are_not_shown_in_messages(server: Sshd, tmp_path: Path) -> None:
    secrets = {"WANDB_API_KEY": "0123456789abcdef"}
    with (
        server.machine(tmp_path / "job", secrets=secrets) as machine,
        pytest.raises(CommandError, match=r"\[WANDB_API_KEY redacted\]"),
    ):
        machine.script("cat >&2; exit 1", stdin=b"0123456789abcdef")


def test_nothing_is_logged_that_was_sent(
    machine: RemoteMachine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        machine.run(["cat"], stdin=b"correct horse battery")
    assert "correct horse" not in caplog.text


def test_a_full_disk_is_named(own_server: Sshd, tmp_path: Path) -> None:
    own_server.set_session(limits="ulimit -f 8")
    with (
        own_server.machine(tmp_path / "job") as machine,
        pytest.raises(CommandError, match="the disk of the machine is full"),
    ):
        machine.script("trap '' XFSZ; dd of=big 2>&1 >&2", stdin=b"x" * 100_000)


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="this system has no /dev/full")
def test_a_device_without_room_is_named(machine: RemoteMachine) -> None:
    with pytest.raises(CommandError, match="the disk of the machine is full"):
        machine.script("cat > /dev/full", stdin=b"x" * 100_000)


def test_a_missing_sudo_is_named(own_server: Sshd, tmp_path: Path) -> None:
    own_server.set_session(path=own_server.path_with(without=["sudo"]))
    with (
        own_server.machine(tmp_path / "job") as machine,
        pytest.raises(CommandError, match="sudo without a password"),
    ):
        machine.script("sudo -n true")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("tar: x: Cannot write: No space left on device", "disk"),
        ("sudo: a password is required", "sudo"),
        ("mkdir: cannot create directory: Permission denied", "permission"),
        ("touch: Read-only file system", "read-only"),
    ],
)
def test_known_complaints_have_a_way_out(said: str, reason: str) -> None:
    found = reason_of(said)
    assert found is not None
    assert reason in found[0]
    assert found[1]


def test_an_unknown_complaint_is_none_of_them() -> None:
    assert reason_of("segmentation fault") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "me@",
        "@host",
        "host",
        "-oProxyCommand=x@host",
        "me@-oProxyCommand=x",
        "me@a b",
        "me@a;b",
    ],
)
def test_a_target_that_could_be_an_option_or_a_command_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_target(text)


def test_a_target_reads_as_it_is_written() -> None:
    assert parse_target("ubuntu@203.0.113.7") == Target("203.0.113.7", "ubuntu")
    assert parse_target("me@[::1]", port=2222).known_name == "[::1]:2222"
    assert str(Target("host", "me", 2222)) == "me@host port 2222"


def test_a_person_logs_in_with_the_pinned_key_only(server: Sshd, tmp_path: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("no `ssh` here")
    with server.machine(tmp_path / "job") as machine:
        machine.connect()
    known = tmp_path / "job" / "known_hosts"
    command = server.target().command(known, remote=["echo", "a b;c"])
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout == "a b;c\n", done.stderr
    known.write_text("")
    refused = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert refused.returncode == 255
