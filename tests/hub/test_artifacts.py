"""Runs and data sets in object stores: `file://`, memory, and S3 from a server on loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import ConfigError, DataError, MissingFileError, RemoteError
from aquachat.hub import artifacts
from aquachat.hub.artifacts import MANIFEST_FILE, Store, choose, local_collections
from aquachat.paths import Home

FILES = {
    "base/step_000008/model.safetensors": b"w" * 5000,
    "base/metrics.jsonl": b'{"step": 1}\n',
    "report.html": b"<html>",
    "tokenizer/bpe.txt": b"AA== 0\n",
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "home" / "runs" / "tiny", FILES)


class CountingMemory(MemoryFileSystem):
    """An object store in this process, which can break."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}
        self.pseudo_dirs = [""]
        self.sent: list[str] = []
        self.breaks_after: int | None = None

    def put_file(self, lpath: str, rpath: str, *arguments: Any, **options: Any) -> None:
        if self.breaks_after is not None and len(self.sent) >= self.breaks_after:
            raise OSError("the connection broke")
        self.sent.append(rpath)
        super().put_file(lpath, rpath, *arguments, **options)


def memory_store(filesystem: CountingMemory) -> Store:
    return Store("memory://bucket", open_fs=lambda address, **options: (filesystem, "/bucket"))


def s3_address(bucket: str) -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="the extra `cloud-storage` is not installed")
    import s3fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}/some/folder"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["file", "path", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "s3":
        bucket = tmp_path.name.replace("_", "-").lower()[-50:].strip("-")
        for address in s3_address(bucket):  # its buckets outlive a server
            yield Store(address)
    elif request.param == "memory":
        yield memory_store(CountingMemory())
    else:
        prefix = "file://" if request.param == "file" else ""
        yield Store(f"{prefix}{tmp_path / 'store'}")


def upload(store: Store, folder: Path, path: str = "runs/tiny") -> tuple[str, ...]:
    plan = store.plan_upload(folder, path)
    store.upload(folder, plan)
    return plan.todo


def test_what_goes_up_comes_down_and_nothing_is_copied_twice(
    store: Store, run: Path, tmp_path: Path
):
    assert set(upload(store, run)) == set(FILES)
    assert upload(store, run) == ()
    [found] = store.collections()
    assert (found.path, set(found.files)) == ("runs/tiny", set(FILES))
    back = tmp_path / "back"
    plan = store.plan_download(found, back)
    store.download(back, plan)
    assert tree(back) == FILES
    assert store.plan_download(found, back).todo == ()


def test_changed_and_new_files_are_sent_and_pruned_ones_stay(store: Store, run: Path):
    upload(store, run)
    (run / "base" / "metrics.jsonl").write_bytes(b'{"step": 2}\n')
    write(run, {"base/step_000016/model.safetensors": b"v" * 5000})
    (run / "base" / "step_000008" / "model.safetensors").unlink()
    assert upload(store, run) == ("base/metrics.jsonl", "base/step_000016/model.safetensors")
    found = store.read("runs/tiny")
    assert found is not None
    assert set(found.files) == {*FILES, "base/step_000016/model.safetensors"}


def test_runs_and_data_are_listed_the_newest_first(store: Store, run: Path, tmp_path: Path):
    upload(store, run)
    newer = write(tmp_path / "newer", {"rl/metrics.jsonl": b"{}\n"})
    os.utime(newer / "rl" / "metrics.jsonl", (2e9, 2e9))
    for name in FILES:
        os.utime(run / name, (1e9, 1e9))
    store.upload(run, store.plan_upload(write(run, {"x.txt": b"x"}), "runs/tiny"))
    upload(store, newer, "runs/newer")
    upload(store, write(tmp_path / "aqua", {"train.jsonl": b"{}\n"}), "data/aqua")
    names = [each.path for each in store.collections()]
    assert sorted(names) == ["data/aqua", "runs/newer", "runs/tiny"]
    chosen = choose(store.collections(), "x", None, with_data=True)
    assert [each.path for each in chosen][1:] == ["data/aqua"]
    assert choose(store.collections(), "x", "tiny", with_data=False)[0].path == "runs/tiny"
    with pytest.raises(MissingFileError, match="no run `other`"):
        choose(store.collections(), "x", "other", with_data=False)


def test_an_empty_store_holds_nothing(store: Store):
    assert store.collections() == []
    assert store.read("runs/tiny") is None
    with pytest.raises(MissingFileError, match="no run in `x`"):
        choose([], "x", None, with_data=True)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(breaks=st.lists(st.integers(0, 3), max_size=4))
def test_an_upload_that_breaks_anywhere_goes_on_and_is_whole_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, breaks: list[int]
):
    folder = write(tmp_path_factory.mktemp("run"), FILES)
    filesystem = CountingMemory()
    store = memory_store(filesystem)
    for count in breaks:
        filesystem.sent, filesystem.breaks_after = [], count
        plan = store.plan_upload(folder, "runs/tiny")
        if len(plan.todo) > count:
            with pytest.raises(RemoteError, match="could not write"):
                store.upload(folder, plan)
        else:
            store.upload(folder, plan)
    filesystem.breaks_after = None
    upload(store, folder)
    found = store.read("runs/tiny")
    assert found is not None
    back = tmp_path_factory.mktemp("back")
    store.download(back, store.plan_download(found, back))
    assert tree(back) == FILES


def test_what_was_sent_before_a_break_is_not_sent_again(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(artifacts, "SAVE_EVERY_BYTES", 1)
    filesystem = CountingMemory()
    store = memory_store(filesystem)
    filesystem.breaks_after = 2
    with pytest.raises(RemoteError, match="the connection broke"):
        upload(store, run)
    filesystem.sent, filesystem.breaks_after = [], None
    upload(store, run)
    assert len(filesystem.sent) == len(FILES) - 2


def test_a_damaged_file_in_the_store_is_not_taken(run: Path, tmp_path: Path):
    store = Store(f"file://{tmp_path / 'store'}")
    upload(store, run)
    damaged = tmp_path / "store" / "runs" / "tiny" / "report.html"
    damaged.write_bytes(b"<htmL>")
    found = store.read("runs/tiny")
    assert found is not None
    with pytest.raises(RemoteError, match=r"report.html` is not what was uploaded"):
        store.download(tmp_path / "back", store.plan_download(found, tmp_path / "back"))
    assert not (tmp_path / "back" / "report.html").exists()


def test_files_here_that_differ_are_only_replaced_when_asked(run: Path, tmp_path: Path):
    store = Store(str(tmp_path / "store"))
    upload(store, run)
    found = store.read("runs/tiny")
    assert found is not None
    (run / "report.html").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"report.html` is there and differs"):
        store.plan_download(found, run)
    store.download(run, store.plan_download(found, run, overwrite=True))
    assert tree(run) == FILES


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", ".env", "a/.ssh/x", "a\\x", "C:x", ""]
)
def test_a_manifest_cannot_place_files_elsewhere(tmp_path: Path, name: str):
    folder = tmp_path / "store" / "runs" / "tiny"
    folder.mkdir(parents=True)
    document = {"format": 1, "name": "runs/tiny", "modified_s": 1.0}
    document["files"] = {name: {"bytes": 1, "sha256": "0" * 64}}
    (folder / MANIFEST_FILE).write_text(json.dumps(document))
    with pytest.raises(DataError, match="cannot be used"):
        Store(str(tmp_path / "store")).collections()


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "name": "runs/tiny"}', "null"])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, content: str):
    folder = tmp_path / "store" / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / MANIFEST_FILE).write_text(content)
    with pytest.raises(DataError, match=r"artifacts.json` cannot be used"):
        Store(str(tmp_path / "store")).collections()


def test_hidden_files_links_and_half_written_checkpoints_stay_here(run: Path, tmp_path: Path):
    write(run, {".env": b"K=1", ".step_000016.partial-7/model.safetensors": b"half"})
    (run / "link.txt").symlink_to(tmp_path / "secret")
    (run / "linked").symlink_to(tmp_path)
    assert set(artifacts.scan(run, "runs/tiny").files) == set(FILES)


def test_data_sets_go_along_unless_they_are_left_out(run: Path, tmp_path: Path):
    home = Home(tmp_path / "home")
    write(home.root / "data", {"aqua/train.jsonl": b"{}\n", "aqua/manifest.json": b"{}"})
    (home.root / "data" / "empty").mkdir()
    assert list(local_collections(home, "tiny", with_data=True)) == ["runs/tiny", "data/aqua"]
    assert list(local_collections(home, "tiny", with_data=False)) == ["runs/tiny"]
    with pytest.raises(MissingFileError, match="nothing in"):
        artifacts.scan(home.root / "data" / "empty", "data/empty")


def test_an_address_of_no_known_kind_is_one_sentence():
    with pytest.raises(ConfigError, match="no kind of address"):
        Store("gopher://x/y")
