from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from aquachat.cloud.project import project_files, write_archive
from aquachat.cloud.pull import MANIFEST, PARTS, list_files, pull
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_paths import (
    check_received_path,
    check_remote_folder,
    check_remote_path,
)
from aquachat.cloud.ssh_errors import CommandError
from aquachat.cloud.transfer import send_data, send_file, send_project
from aquachat.errors import AquachatError, ConfigError, DataError, MissingFileError
from tests.cloud.proxy import Proxy
from tests.cloud.sshd import Sshd, running_sshd

MEGABYTE = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as made:
        yield made


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    with server.machine(tmp_path / "job") as made:
        yield made


def write(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def checkout(folder: Path) -> Path:
    write(folder, tracked=b"1", gone=b"2", _dot_env=b"SECRET=1", sub__model_dot_pt=b"3")
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "run.sh").write_text("#!/bin/sh\necho it runs\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "a 'quoted' $(name)\n").write_text("4")
    (folder / "link").symlink_to("tracked")
    (folder / "outside").symlink_to("/etc/passwd")
    (folder / "secret").symlink_to(".env")
    for command in (["init", "-q"], ["add", "-A"], ["add", "-f", ".env"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    write(folder, untracked=b"5", ignored=b"6")
    (folder / "gone").unlink()
    return folder


TRAVELLING = [".gitignore", "a 'quoted' $(name)\n", "link", "run.sh", "tracked", "untracked"]


def test_what_git_knows_or_does_not_ignore_travels_and_no_secret(tmp_path: Path) -> None:
    names = project_files(checkout(tmp_path / "project"))
    assert [str(name) for name in names] == TRAVELLING


def test_a_folder_that_is_no_checkout_travels_without_what_is_made_in_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", a__b=b"", _dot_env=b"", runs__x=b"", _dot_git__config=b"")
    assert project_files(folder) == [PurePosixPath("a/b")]


def test_the_archive_of_the_same_files_is_the_same_bytes(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", a=b"1", b__c=b"2")
    write_archive(folder, project_files(folder), tmp_path / "one")
    os.utime(folder / "a", (1, 1))
    write_archive(folder, project_files(folder), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        assert {(entry.uid, entry.uname, entry.mtime) for entry in archive} == {(0, "", 0)}


def test_a_project_arrives_as_it_is(server: Sshd, machine: RemoteMachine, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "project")
    send_project(machine, folder, "~/training/aquachat")
    there = server.home / "training" / "aquachat"
    names = {path.name for path in there.iterdir()} - {".aquachat-sent"}
    assert names == set(TRAVELLING)
    assert (there / "tracked").read_bytes() == b"1"
    assert os.readlink(there / "link") == "tracked"
    assert machine.check([str(there / "run.sh")]).text == "it runs\n"


def test_the_number_of_files_costs_no_round_trips(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    for index in range(300):
        write(tmp_path / "many", **{f"dir{index % 7}__file{index}": os.urandom(900)})
    sent = send_project(machine, tmp_path / "many", "many")
    assert (machine.connections, machine.channels) == (1, 1)
    assert len([p for p in (server.home / "many").rglob("file*") if p.is_file()]) == 300
    assert sent.num_bytes_sent == sent.num_bytes


def test_a_project_sent_again_replaces_and_the_same_one_is_not_sent(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    folder = write(tmp_path / "p", a=b"old", b=b"old")
    send_project(machine, folder, "p")
    (server.home / "p" / "made-there").touch()
    assert send_project(machine, folder, "p").num_bytes_sent == 0
    assert (server.home / "p" / "made-there").exists()
    (folder / "b").unlink()
    (folder / "a").write_bytes(b"new")
    assert send_project(machine, folder, "p").num_bytes_sent > 0
    assert sorted(p.name for p in (server.home / "p").iterdir()) == [".aquachat-sent", "a"]
    assert (server.home / "p" / "a").read_bytes() == b"new"


def test_a_folder_of_somebody_else_is_not_replaced(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    write(server.home / "theirs", thesis=b"years of work")
    with pytest.raises(ConfigError, match="did not put there"):
        send_project(machine, write(tmp_path / "p", a=b"1"), "theirs")
    assert (server.home / "theirs" / "thesis").read_bytes() == b"years of work"


@pytest.mark.parametrize(
    "folder",
    ["", " ", "/", "//", ".", "./", "..", "../x", "a/../..", "~", "~/", "~root", "~/..", "/home",
     "/home/ubuntu", "/root/", "/usr/local", "/tmp/..", "a\nb", "-rf"],
)  # fmt: skip
def test_a_folder_that_is_not_the_projects_own_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError):
        check_remote_folder(folder)


def test_folders_of_ones_own_are_taken() -> None:
    assert check_remote_folder("~/aquachat/") == "aquachat"
    assert check_remote_folder("/home/ubuntu/aquachat") == "/home/ubuntu/aquachat"
    assert check_remote_path("~/.config/key.json") == ".config/key.json"


@pytest.mark.parametrize("name", ["$(touch hit)", "a;touch hit", "`touch hit`", "a b'\"c", "*"])
def test_names_with_shell_characters_are_names(
    server: Sshd, machine: RemoteMachine, tmp_path: Path, name: str
) -> None:
    send_project(machine, write(tmp_path / "p", a=b"1"), name)
    send_file(machine, tmp_path / "p" / "a", f"files/{name}")
    pull(machine, "files", tmp_path / "back")
    assert (server.home / name / "a").read_bytes() == b"1"
    assert (tmp_path / "back" / name).read_bytes() == b"1"
    assert not list(server.home.rglob("hit"))


def test_a_file_arrives_with_its_mode_and_hash(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(b"private")
    sent = send_file(machine, tmp_path / "key", "~/a/b/key.json")
    there = server.home / "a" / "b" / "key.json"
    assert there.stat().st_mode & 0o777 == 0o600
    assert sent.sha256 == hashlib.sha256(there.read_bytes()).hexdigest()
    assert [p.name for p in there.parent.iterdir()] == ["key.json"]


def test_an_upload_that_was_cut_is_continued(server: Sshd, tmp_path: Path) -> None:
    content = os.urandom(6 * MEGABYTE)
    (tmp_path / "big").write_bytes(content)
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        proxy.cut_after_bytes = 4 * MEGABYTE
        send_file(machine, tmp_path / "big", "data/big")
        assert machine.connections == 2
        assert proxy.sent < 9 * MEGABYTE
    assert (server.home / "data" / "big").read_bytes() == content
    assert [p.name for p in (server.home / "data").iterdir()] == ["big"]


def test_a_project_that_was_cut_arrives_once_and_whole(server: Sshd, tmp_path: Path) -> None:
    folder = write(tmp_path / "p", a=os.urandom(3 * MEGABYTE), b__c=b"2")
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        proxy.cut_after_bytes = 2 * MEGABYTE
        send_project(machine, folder, "p")
        assert machine.connections == 2
    assert (server.home / "p" / "a").read_bytes() == (folder / "a").read_bytes()


def test_a_damaged_part_is_thrown_away_and_sent_again(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    content = os.urandom(5000)
    (tmp_path / "f").write_bytes(content)
    part = f".{hashlib.sha256(content).hexdigest()}.part"
    write(server.home / "d")
    (server.home / "d").mkdir()
    (server.home / "d" / part).write_bytes(b"x" * 1000)
    sent = send_file(machine, tmp_path / "f", "d/f")
    assert sent.num_bytes_sent == 9000
    assert (server.home / "d" / "f").read_bytes() == content


def test_a_full_disk_leaves_no_half_file_under_the_name(server: Sshd, tmp_path: Path) -> None:
    server.set_session(limits="ulimit -f 100; trap '' XFSZ")
    (tmp_path / "big").write_bytes(os.urandom(MEGABYTE))
    with (
        server.machine(tmp_path / "job") as machine,
        pytest.raises(CommandError, match="the disk of the machine is full"),
    ):
        send_file(machine, tmp_path / "big", "big")
    assert not (server.home / "big").exists()


def test_data_travels_as_a_file_or_as_a_folder(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    folder = write(tmp_path / "data", train_dot_jsonl=b"1", deep__er=b"2")
    send_data(machine, folder, "sets/aqua")
    send_data(machine, folder / "train.jsonl", "sets/one")
    assert (server.home / "sets" / "aqua" / "deep" / "er").read_bytes() == b"2"
    assert (server.home / "sets" / "one" / "train.jsonl").read_bytes() == b"1"
    with pytest.raises(MissingFileError):
        send_data(machine, tmp_path / "nowhere", "sets/two")


def run_of(server: Sshd) -> Path:
    return write(
        server.home / "runs" / "tiny",
        base__metrics_dot_jsonl=b"{}\n",
        base__step_000008__model_dot_safetensors=os.urandom(2 * MEGABYTE),
        base__step_000008__optimizer_dot_safetensors=b"moments",
        base__same=b"twice",
        base__again=b"twice",
        empty=b"",
        _dot_env=b"SECRET=1",
    )


def pulled(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {MANIFEST}


WANTED = {
    "base/metrics.jsonl",
    "base/step_000008/model.safetensors",
    "base/same",
    "base/again",
    "empty",
}


def test_a_run_comes_back_with_its_hashes(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    run = run_of(server)
    back = tmp_path / "back"
    got = pull(machine, "runs/tiny", back)
    assert pulled(back) == WANTED
    assert all((back / name).read_bytes() == (run / name).read_bytes() for name in WANTED)
    check = subprocess.run(["sha256sum", "-c", MANIFEST], cwd=back, capture_output=True, text=True)
    assert check.returncode == 0
    assert check.stdout.count(": OK") == len(WANTED)
    assert got.num_bytes_received == sum(file.num_bytes for file in got.files)


def test_what_is_here_is_not_fetched_again_but_what_changed_is(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    run_of(server)
    back = tmp_path / "back"
    pull(machine, "runs/tiny", back)
    assert pull(machine, "runs/tiny", back).num_bytes_received == 0
    (back / "base" / "same").write_bytes(b"tw1ce")
    assert pull(machine, "runs/tiny", back).num_bytes_received == 5
    assert (back / "base" / "same").read_bytes() == b"twice"


def test_the_optimizer_comes_when_it_is_asked_for(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    run_of(server)
    pull(machine, "runs/tiny", tmp_path / "back", with_optimizer=True)
    assert pulled(tmp_path / "back") == WANTED | {"base/step_000008/optimizer.safetensors"}


def test_left_out_patterns_stay_there(server: Sshd, machine: RemoteMachine, tmp_path: Path) -> None:
    run_of(server)
    files = list_files(machine, "runs/tiny", ["base/step_*", "*.jsonl"])
    assert {file.path for file in files} == {".env", "base/same", "base/again", "empty"} - {".env"}


def test_a_download_that_was_cut_is_continued(server: Sshd, tmp_path: Path) -> None:
    run = run_of(server)
    back = tmp_path / "back"
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        proxy.cut_after_received = MEGABYTE
        got = pull(machine, "runs/tiny", back)
        assert machine.connections == 2
        assert proxy.received < 3.3 * MEGABYTE
    assert got.num_bytes_received == sum(file.num_bytes for file in got.files)
    assert all((back / name).read_bytes() == (run / name).read_bytes() for name in WANTED)
    assert not (back / PARTS).exists()


def test_a_connection_that_stays_away_leaves_no_file_under_a_final_name(
    server: Sshd, tmp_path: Path
) -> None:
    run = run_of(server)
    back = tmp_path / "back"
    proxy = Proxy(server.port)
    with proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        proxy.cut_after_received = MEGABYTE
        proxy.refuse()
        with pytest.raises(AquachatError):
            pull(machine, "runs/tiny", back, deadline_s=4)
    assert "base/step_000008/model.safetensors" not in pulled(back)
    with server.machine(tmp_path / "job2") as machine:
        pull(machine, "runs/tiny", back)
    name = "base/step_000008/model.safetensors"
    assert (back / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.parametrize("path", ["../x", "/etc/cron.d/x", "a/../../x", "a\\..\\x", "c:x", ""])
def test_a_machine_cannot_name_a_file_outside(path: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        check_received_path(path)


def test_a_hostile_list_is_refused_before_anything_is_written(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    run_of(server)
    liar = server.folder / "liar"
    liar.mkdir()
    (liar / "find").write_text(f"#!/bin/sh\nprintf '4 {'0' * 64} ../../evil\\0'\n")
    (liar / "find").chmod(0o755)
    server.set_session(path=f"{liar}:/usr/bin:/bin")
    with pytest.raises(DataError, match="cannot be put here"):
        pull(machine, "runs/tiny", tmp_path / "a" / "b")
    assert not (tmp_path / "evil").exists()


def test_a_damaged_download_never_gets_its_name(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    write(server.home / "r", good=b"good", bad=b"bad?")
    liar = server.folder / "liar"
    liar.mkdir()
    (liar / "tail").write_text('#!/bin/sh\nexec /usr/bin/tail "$@" | tr "?" "!"\n')
    (liar / "tail").chmod(0o755)
    server.set_session(path=f"{liar}:/usr/bin:/bin")
    with pytest.raises(DataError, match="`bad` changed while"):
        pull(machine, "r", tmp_path / "back")
    assert (tmp_path / "back" / "good").read_bytes() == b"good"
    assert not (tmp_path / "back" / "bad").exists()


def test_a_missing_folder_is_said(machine: RemoteMachine, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"No such file|can't cd"):
        pull(machine, "nowhere", tmp_path / "back")
