from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.cli.environment import parse_env
from aquachat.cloud.env_file import parse_env_file, render_env, select_variables, write_env
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.ssh_errors import CommandError
from aquachat.errors import ConfigError
from tests.cloud.sshd import Sshd, running_sshd

NASTY = {
    "QUOTES": """a'b"c`d""",
    "LINES": "first\nSECOND=2\n\nlast\n",
    "COMMAND": "$(touch hit) `touch hit`; touch hit",
    "DOLLAR": "$HOME ${PATH} $$",
    "SPACES": "  two  spaces  # no comment",
    "BACKSLASH": "\\n \\' \\\\",
    "UNICODE": "schlüssel 鍵 🔑",
    "EMPTY": "",
}
VALUES = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=40)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as made:
        yield made


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    with server.machine(tmp_path / "job") as made:
        yield made


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["A", "b_2", "_C", "LONG_NAME"]), VALUES))
def test_what_is_rendered_is_parsed_back(values: dict[str, str]) -> None:
    simple = {name: value for name, value in values.items() if "'" not in value}
    assert parse_env_file(render_env(simple)) == simple


@settings(max_examples=20, deadline=None)
@given(VALUES)
def test_a_shell_reads_what_was_rendered_and_runs_nothing(value: str) -> None:
    text = render_env({"X_1": value}) + 'printf "%s" "$X_1"'
    done = subprocess.run(["sh"], input=text.encode(), capture_output=True, check=True)
    assert done.stdout.decode() == value


@pytest.mark.parametrize(
    "text", ["A=1", "export A = 1 # c", "A='x y'", 'A="x#y"\n\n# c\nB=', "A=#"]
)
def test_simple_files_are_read_as_the_command_line_reads_them(text: str) -> None:
    if text != "A=#":
        assert parse_env_file(text) == parse_env(text)
    assert set(parse_env_file(text)) == set(parse_env(text))


def test_quotes_lines_and_commands_are_kept() -> None:
    text = 'A=$(rm -rf /)\nB=\'one\ntwo = 2\n\'\nC="say \\"hi\\" \\$5"  # c\r\nexport D=x=y\n'
    assert parse_env_file(text) == {
        "A": "$(rm -rf /)",
        "B": "one\ntwo = 2\n",
        "C": 'say "hi" $5',
        "D": "x=y",
    }


@pytest.mark.parametrize("text", ["KEY='s3cret", 'A=1\nKEY="s3cret', "A=1\ns3cret", "A='x's3cret"])
def test_a_broken_line_is_named_and_its_value_is_not(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_env_file(text)
    assert "line" in caught.value.message
    assert "s3cret" not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize("name", ["", "A B", "1A", "A;touch hit", "$(id)", "Ä"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        render_env({name: "1"})
    with pytest.raises(ConfigError):
        select_variables({}, [name])


def test_a_value_that_no_environment_can_hold_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        render_env({"KEY": "s3cret\0"})
    assert "s3cret" not in str(caught.value)


def test_only_variables_that_are_set_are_chosen() -> None:
    assert select_variables({"A": "1", "B": "", "C": "3"}, ["A", "B", "D"]) == {"A": "1"}


def test_values_arrive_as_they_are_in_a_file_of_its_owner(
    server: Sshd, machine: RemoteMachine
) -> None:
    write_env(machine, "jobs/x/.env", NASTY)
    file = server.home / "jobs" / "x" / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in file.parent.iterdir()] == [".env"]
    for name, value in NASTY.items():
        read = f'. ./jobs/x/.env; printf "%s" "${{{name}}}"'
        assert machine.script(read).stdout.decode() == value
    assert not list(server.home.rglob("hit"))


def test_a_full_disk_leaves_the_earlier_file(server: Sshd, tmp_path: Path) -> None:
    with server.machine(tmp_path / "job") as machine:
        write_env(machine, "x/.env", {"A": "old"})
        server.set_session(limits="ulimit -f 8; trap '' XFSZ")
        with pytest.raises(CommandError, match="disk of the machine is full"):
            write_env(machine, "x/.env", {"A": "n" * 90_000})
    assert (server.home / "x" / ".env").read_text() == "A=old\n"
    assert [p.name for p in (server.home / "x").iterdir()] == [".env"]


def test_no_command_line_ever_holds_a_value(machine: RemoteMachine) -> None:
    secret = "hf_" + "q7" * 20
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    text = entry.read_bytes().decode("utf-8", "replace")
                except OSError:
                    continue
                if secret in text:
                    seen.append(text)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            write_env(machine, "x/.env", {"HF_TOKEN": secret})
    finally:
        done.set()
        watcher.join()
    assert os.path.exists("/proc/self/cmdline")
    assert seen == []
