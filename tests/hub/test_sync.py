"""Releases on a hub on loopback, through the real `huggingface_hub`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from aquachat.errors import ConfigError, RemoteError, TryLaterError
from aquachat.hub.hub_errors import HubError
from aquachat.hub.release import Release, make_release, stage
from aquachat.hub.sync import (
    Target,
    check_tag,
    make_plan,
    open_client,
    push,
    read_remote,
)
from tests.hub.fake_hub import READ_TOKEN, TOKEN, FakeHub

REPO = "someone/aqua"
TARGET = Target(REPO)
WEIGHTS = bytes(range(256)) * 200


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub().serving() as serving:
        yield serving


@pytest.fixture(autouse=True)
def _no_transfer_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def release_of(**files: bytes) -> Release:
    """`README_md=b"x"` is the file `README.md`."""
    named = {name.replace("_", ".").replace("..", "/"): content for name, content in files.items()}
    return make_release({"test": named}, {})


FIRST = {"README_md": b"# Hi\n", "docs__a_md": b"a\n", "model_safetensors": WEIGHTS}


class Machine:
    """One computer that releases to a hub."""

    def __init__(self, hub: FakeHub, folder: Path, token: str = TOKEN) -> None:
        self.hub, self.folder = hub, folder
        self.client = open_client(hub.url, token)
        self.waits: list[float] = []

    def release(self, release: Release, *, tag: str | None = None, target: Target = TARGET) -> str:
        remote = read_remote(self.client, target)
        check_tag(tag, remote, make_plan(release, remote))
        stage(release, self.folder / "hf_release", self.folder / "project")
        return push(
            self.client,
            target,
            release,
            remote,
            staged=self.folder / "hf_release",
            message="Release",
            tag=tag,
            sleep=self.waits.append,
        )


@pytest.fixture
def machine(hub: FakeHub, tmp_path: Path) -> Machine:
    return Machine(hub, tmp_path)


def test_a_first_release_makes_a_private_repository_with_one_commit(hub: FakeHub, machine: Machine):
    release = release_of(**FIRST)
    oid = machine.release(release, tag="v1")
    repository = hub.repository(REPO)
    assert repository.private
    assert [commit.message for commit in repository.commits] == ["initial commit", "Release"]
    assert repository.head.oid == oid == repository.tags["v1"]
    held = {path: content for path, content in repository.head.files.items() if path in release}
    assert held == {path: file.read() for path, file in release.items()}
    assert repository.head.lfs == {"model.safetensors"}


def test_a_second_run_uploads_nothing(hub: FakeHub, machine: Machine):
    first = machine.release(release_of(**FIRST), tag="v1")
    hub.requests.clear()
    assert machine.release(release_of(**FIRST), tag="v1") == first
    assert not {"create", "commit", "preupload", "lfs", "blob"} & set(hub.requests)
    assert len(hub.repository(REPO).commits) == 2


def test_what_is_public_is_asked_for(hub: FakeHub, machine: Machine):
    machine.release(release_of(**FIRST), target=Target(REPO, private=False))
    assert not hub.repository(REPO).private


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_other_kinds_of_repositories(hub: FakeHub, machine: Machine, kind: str):
    release = release_of(README_md=b"x", data_jsonl=b"{}\n" * 10_000)
    machine.release(release, target=Target(REPO, kind))
    assert hub.repository(REPO, f"{kind}s").head.files["README.md"] == b"x"
    hub.requests.clear()
    machine.release(release, target=Target(REPO, kind))
    assert "commit" not in hub.requests


def test_the_plan_says_what_is_added_changed_deleted_and_kept(hub: FakeHub, machine: Machine):
    machine.release(release_of(**FIRST, old_md=b"old"))
    repository = hub.repository(REPO)
    theirs = {**repository.head.files, "picture.png": b"png"}
    repository.add("by hand", theirs, set(repository.head.lfs))
    changed = FIRST | {"README_md": b"# Ho\n", "new_md": b"new"}
    release = release_of(**changed)
    plan = make_plan(release, read_remote(machine.client, TARGET))
    assert plan.add == ("new.md",)
    assert plan.change == ("README.md", "SHA256SUMS")
    assert plan.delete == ("old.md",)
    assert plan.unchanged == ("docs/a.md", "model.safetensors")
    assert plan.kept == (".gitattributes", "picture.png")
    machine.release(release)
    files = repository.head.files
    assert set(files) == {*release, ".gitattributes", "picture.png"}


def test_a_changed_large_file_is_noticed_by_its_hash(hub: FakeHub, machine: Machine):
    machine.release(release_of(**FIRST))
    release = release_of(**{**FIRST, "model_safetensors": WEIGHTS[::-1]})
    assert "model.safetensors" in make_plan(release, read_remote(machine.client, TARGET)).change
    machine.release(release)
    assert hub.repository(REPO).head.files["model.safetensors"] == WEIGHTS[::-1]


def test_a_lost_answer_is_not_committed_twice(hub: FakeHub, machine: Machine):
    hub.make(REPO)
    for number, status in enumerate((None, 500, 502, 504)):
        release = release_of(README_md=f"{number}".encode())
        hub.fail("commit", status, is_after=True)
        oid = machine.release(release)
        repository = hub.repository(REPO)
        assert repository.head.oid == oid
        assert len(repository.commits) == number + 2
        assert hub.requests.count("commit") == number + 1


@pytest.mark.parametrize("status", [None, 429, 500, 503])
def test_a_commit_that_did_not_arrive_is_sent_again_once_it_is_known_to_be_missing(
    hub: FakeHub, machine: Machine, status: int | None
):
    hub.fail("commit", status, times=2, headers={"Retry-After": "7"} if status == 429 else {})
    machine.release(release_of(**FIRST))
    assert len(hub.repository(REPO).commits) == 2
    assert hub.requests.count("commit") == 3
    assert machine.waits == ([7.0, 7.0] if status == 429 else [2.0, 4.0])


def test_a_hub_that_stays_broken_is_given_up(hub: FakeHub, machine: Machine):
    hub.fail("commit", 500, times=50)
    with pytest.raises(RemoteError, match="answered 500"):
        machine.release(release_of(**FIRST))
    assert len(hub.repository(REPO).commits) == 1
    hub.faults.clear()
    hub.fail("commit", 429, times=50)
    with pytest.raises(TryLaterError, match="no more requests now"):
        machine.release(release_of(**FIRST))
    hub.faults.clear()
    machine.release(release_of(**FIRST))
    assert len(hub.repository(REPO).commits) == 2


@pytest.mark.parametrize("route", ["lfs", "blob", "preupload"])
def test_an_upload_that_breaks_is_taken_up_without_a_commit_of_half(
    hub: FakeHub, machine: Machine, route: str
):
    hub.fail(route, 500, times=1)
    machine.release(release_of(**FIRST))
    assert len(hub.repository(REPO).commits) == 2
    assert hub.repository(REPO).head.files["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize("status", [409, 412])
def test_someone_who_commits_in_between_is_not_overwritten(
    hub: FakeHub, machine: Machine, status: int
):
    machine.release(release_of(**FIRST))
    remote = read_remote(machine.client, TARGET)
    repository = hub.repository(REPO)
    theirs = {**repository.head.files, "README.md": b"theirs"}
    repository.add("theirs", theirs, set(repository.head.lfs))
    if status == 409:
        hub.fail("commit", 409)
    release = release_of(**{**FIRST, "README_md": b"# Ho\n"})
    stage(release, machine.folder / "hf_release", machine.folder / "project")
    with pytest.raises(RemoteError, match="changed by someone else meanwhile"):
        push(
            machine.client,
            TARGET,
            release,
            remote,
            staged=machine.folder / "hf_release",
            message="Release",
            tag=None,
            sleep=machine.waits.append,
        )
    assert repository.head.message == "theirs"
    assert machine.waits == []


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "hf auth login"), (402, "paid"), (403, "write access")]
)
def test_a_refused_commit_is_not_sent_again(hub: FakeHub, machine: Machine, status: int, hint: str):
    hub.make(REPO)
    hub.fail("commit", status)
    with pytest.raises(HubError, match=f"answered {status}") as caught:
        machine.release(release_of(**FIRST))
    assert hint in str(caught.value.hint)
    assert hub.requests.count("commit") == 1
    assert len(hub.repository(REPO).commits) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_plan_that_cannot_be_made_uploads_nothing(hub: FakeHub, machine: Machine, status: int):
    hub.make(REPO)
    for route in ("info", "tree", "refs"):
        hub.faults.clear()
        hub.fail(route, status, times=50)
        with pytest.raises(HubError, match=f"answered {status}"):
            machine.release(release_of(**FIRST))
    assert "commit" not in hub.requests


def test_a_token_that_may_not_write_and_one_that_is_wrong(hub: FakeHub, tmp_path: Path):
    with pytest.raises(HubError, match=r"answered 403: .*rights to write"):
        Machine(hub, tmp_path, READ_TOKEN).release(release_of(**FIRST))
    with pytest.raises(HubError, match="answered 401") as caught:
        Machine(hub, tmp_path, "hf_wrong").release(release_of(**FIRST))
    assert "hf_wrong" not in f"{caught.value.message}{caught.value.hint}"
    assert hub.repositories == {}


def test_a_repository_made_meanwhile_by_someone_else_is_taken_as_it_is(
    hub: FakeHub, machine: Machine
):
    remote = read_remote(machine.client, TARGET)
    assert remote.head is None
    hub.make(REPO, private=False)
    release = release_of(**FIRST)
    stage(release, machine.folder / "hf_release", machine.folder / "project")
    push(
        machine.client,
        TARGET,
        release,
        remote,
        staged=machine.folder / "hf_release",
        message="Release",
        tag=None,
        sleep=machine.waits.append,
    )
    assert len(hub.repository(REPO).commits) == 2


def test_a_lost_answer_about_the_new_repository_is_made_good_by_the_next_run(
    hub: FakeHub, machine: Machine
):
    hub.fail("create", None, is_after=True)
    with pytest.raises(HubError, match="could not be reached"):
        machine.release(release_of(**FIRST))
    machine.release(release_of(**FIRST))
    assert hub.repository(REPO).private
    assert len(hub.repository(REPO).commits) == 2


def test_a_lost_answer_about_the_tag_is_made_good_by_the_next_run(hub: FakeHub, machine: Machine):
    hub.fail("tag", None, is_after=True)
    with pytest.raises(HubError, match="could not be reached"):
        machine.release(release_of(**FIRST), tag="v1")
    oid = machine.release(release_of(**FIRST), tag="v1")
    assert hub.repository(REPO).tags == {"v1": oid}
    assert len(hub.repository(REPO).commits) == 2


def test_a_tag_is_never_moved(hub: FakeHub, machine: Machine):
    first = machine.release(release_of(**FIRST), tag="v1")
    with pytest.raises(ConfigError, match="tag `v1` already names another version"):
        machine.release(release_of(README_md=b"other"), tag="v1")
    assert hub.repository(REPO).tags == {"v1": first}
    assert len(hub.repository(REPO).commits) == 2


def test_a_hub_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(HubError, match="could not be reached") as caught:
        read_remote(open_client("http://127.0.0.1:9", TOKEN), TARGET)
    assert "HF_ENDPOINT" in str(caught.value.hint)


def test_the_checksums_on_the_hub_decide_what_is_deleted(hub: FakeHub, machine: Machine):
    machine.release(release_of(**FIRST))
    repository = hub.repository(REPO)
    files = {**repository.head.files, "SHA256SUMS": b"\xff not one of ours\n"}
    repository.add("broken", files, set(repository.head.lfs))
    plan = make_plan(release_of(README_md=b"x"), read_remote(machine.client, TARGET))
    assert plan.delete == ()
    assert set(plan.kept) == {".gitattributes", "docs/a.md", "model.safetensors"}


def test_requests_end_some_time(hub: FakeHub):
    from huggingface_hub import get_session

    with mock.patch.dict(os.environ):
        open_client(hub.url, TOKEN)
    assert get_session().timeout.read == 120.0


def test_a_release_needs_no_torch():
    code = (
        "import aquachat.hub.gathering, aquachat.hub.sync, aquachat.hub.links, sys;"
        "assert not [m for m in ('torch', 'datasets', 'transformers') if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plans_are_json(machine: Machine):
    plan = make_plan(release_of(**FIRST), read_remote(machine.client, TARGET))
    assert json.loads(json.dumps(plan.to_json()))["add"] == [
        "README.md",
        "SHA256SUMS",
        "docs/a.md",
        "model.safetensors",
    ]
