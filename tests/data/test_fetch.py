from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from aquachat.data.download import Downloader, DownloadEvent, RetryPolicy
from aquachat.data.fetch import SourceFetcher
from aquachat.data.http_transport import HttpTransport
from aquachat.data.object_store import fetch_objects, open_filesystem
from aquachat.data.sources import find_bundle_files
from aquachat.data.text_documents import find_bundle_texts
from aquachat.errors import ConfigError, DataError, MissingFileError, RemoteError
from tests.data.bundles import make_tar, make_zip
from tests.data.http_server import Fault, Server

ROW = b'{"question": "1 + 1?", "options": ["A)1", "B)2"], "rationale": "2", "correct": "B"}\n'
BUNDLE = {
    "datasets/aqua/train.jsonl": ROW * 3,
    "datasets/aqua/validation.jsonl": ROW,
    "datasets/aqua/test.jsonl": ROW,
    "datasets/README.md": b"about",
    "__MACOSX/datasets/aqua/train.jsonl": b"\0\0",
}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


def fetcher_in(tmp_path: Path, **options: Any) -> SourceFetcher:
    downloader = Downloader(
        HttpTransport(timeout_s=5), policy=RetryPolicy(), pause=lambda seconds, cancelled: None
    )
    return SourceFetcher(tmp_path / "downloads", downloader, **options)


@pytest.fixture
def memory() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_the_predecessors_bundle_is_downloaded_unpacked_and_found_once(
    server: Server, tmp_path: Path
) -> None:
    url = server.put("/aqua_cache.zip", make_zip(tmp_path / "b.zip", BUNDLE).read_bytes())
    for time in range(2):
        fetcher = fetcher_in(tmp_path)
        local = fetcher.fetch(url + "?token=abc")
        files = find_bundle_files("aqua", local.path, local.origin)
        assert {split: len(paths) for split, paths in files.splits.items()} == {
            "train": 1,
            "validation": 1,
            "test": 1,
        }
        name = files.name_of(files.splits["train"][0])
        assert name == f"{url}?token=.../datasets/aqua/train.jsonl"
        assert [file.was_there for file in fetcher.fetched] == [time == 1]
    assert server.count("/aqua_cache.zip") == 1


@pytest.mark.parametrize("name", ["b.zip", "b.tar.gz"])
def test_a_local_bundle_is_unpacked_and_a_changed_one_again(tmp_path: Path, name: str) -> None:
    make = make_zip if name == "b.zip" else make_tar
    path = make(tmp_path / name, BUNDLE)
    first = fetcher_in(tmp_path).fetch(str(path))
    assert first.is_copy
    assert first.origin == str(path)
    assert fetcher_in(tmp_path).fetch(str(path)).path == first.path
    make(path, {"train.jsonl": ROW * 9})
    second = fetcher_in(tmp_path).fetch(str(path)).path
    assert second != first.path
    assert (second / "train.jsonl").read_bytes() == ROW * 9


def test_a_plain_path_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(ROW)
    local = fetcher_in(tmp_path).fetch(str(tmp_path / "train.jsonl"))
    assert (local.path, local.is_copy) == (tmp_path / "train.jsonl", False)
    with pytest.raises(MissingFileError, match="no file or folder"):
        fetcher_in(tmp_path).fetch(str(tmp_path / "nowhere"))
    assert not (tmp_path / "downloads").exists()


WRONG: list[tuple[str, bytes, type[Exception], str]] = [
    ("/a.zip", b"<!DOCTYPE html><html>Sign in</html>", RemoteError, "is a web page"),
    ("/a.jsonl", b"\n <html lang=en>", RemoteError, "is a web page"),
    ("/a.zip", b"", DataError, "is empty"),
    ("/a.zip", b"PK\x03\x04 and no more", DataError, "cut off, damaged or no archive"),
    ("/a.tar.gz", b"something", DataError, "cut off, damaged or no archive"),
    ("/export", b'{"question": 1}', DataError, "does not say what kind of file"),
]


@pytest.mark.parametrize(("path", "content", "kind", "message"), WRONG)
def test_what_cannot_be_right_is_an_error_and_not_kept(
    server: Server, tmp_path: Path, path: str, content: bytes, kind: type[Exception], message: str
) -> None:
    url = server.put(path, content)
    for _ in range(2):
        with pytest.raises(kind, match=message):
            fetcher_in(tmp_path).fetch(url)
    assert server.count(path) == 2
    left = [file for file in (tmp_path / "downloads").rglob("*") if file.is_file()]
    assert left == []


def test_a_truncated_zip_that_is_repaired_on_the_server_is_downloaded_anew(
    server: Server, tmp_path: Path
) -> None:
    whole = make_zip(tmp_path / "b.zip", BUNDLE).read_bytes()
    url = server.put("/b.zip", whole[:-40])
    with pytest.raises(DataError, match="cut off"):
        fetcher_in(tmp_path).fetch(url)
    server.put("/b.zip", whole)
    assert (fetcher_in(tmp_path).fetch(url).path / "datasets").is_dir()


def test_a_file_of_rows_at_an_address_needs_no_bundle(server: Server, tmp_path: Path) -> None:
    url = server.put("/rows.jsonl", ROW * 2, Fault(cut_after=10))
    local = fetcher_in(tmp_path).fetch(url)
    files = find_bundle_files("aqua", local.path, local.origin)
    assert list(files.splits) == ["train"]
    assert files.name_of(local.path) == url


def test_an_object_is_copied_once_and_again_when_it_changes(memory: Any, tmp_path: Path) -> None:
    address = "memory://bucket/aqua_cache.zip"
    memory.pipe("/bucket/aqua_cache.zip", make_zip(tmp_path / "b.zip", BUNDLE).read_bytes())
    events: list[DownloadEvent] = []
    fetcher = fetcher_in(tmp_path, on_event=events.append)
    local = fetcher.fetch(address)
    assert find_bundle_files("aqua", local.path, local.origin).splits.keys() == {
        "train",
        "validation",
        "test",
    }
    assert local.origin == address
    assert events[-1].num_bytes == fetcher.fetched[0].num_bytes
    again = fetcher_in(tmp_path)
    assert again.fetch(address).path == local.path
    assert again.fetched[0].was_there
    memory.pipe("/bucket/aqua_cache.zip", make_zip(tmp_path / "c.zip", {"a": b"1"}).read_bytes())
    assert fetcher_in(tmp_path).fetch(address).path != local.path


def test_a_folder_of_objects_is_copied_with_its_tree(memory: Any, tmp_path: Path) -> None:
    for name, content in BUNDLE.items():
        memory.pipe(f"/bucket/all/{name}", content)
    path, files = fetch_objects("memory://bucket/all", tmp_path)
    assert {file.path.relative_to(path).as_posix() for file in files} == BUNDLE.keys()
    for name, content in BUNDLE.items():
        assert (path / name).read_bytes() == content
    assert files[0].url.startswith("memory://bucket/all/")


def test_a_file_that_left_the_folder_of_objects_leaves_the_copy(
    memory: Any, tmp_path: Path
) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        memory.pipe(f"/bucket/aqua/{name}", ROW)
    path, _ = fetch_objects("memory://bucket/aqua", tmp_path)
    memory.rm("/bucket/aqua/test.jsonl")
    _, files = fetch_objects("memory://bucket/aqua", tmp_path)
    assert [file.was_there for file in files] == [True]
    assert sorted(file.name for file in path.iterdir()) == [
        "train.jsonl",
        "train.jsonl.download",
    ]


def test_a_copy_that_was_cut_off_is_resumed_only_for_the_same_version(
    memory: Any, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 100
    memory.pipe("/bucket/rows.jsonl", content)
    address = "memory://bucket/rows.jsonl"

    class Cut:
        """A file system whose files end with an error after some bytes."""

        def __init__(self, after: int) -> None:
            self.after, self.read_from = after, []  # type: ignore[var-annotated]

        def __call__(self, address: str) -> tuple[Any, str]:
            filesystem, path = open_filesystem(address)
            return CutFiles(filesystem, self), path

    class CutFiles:
        def __init__(self, filesystem: Any, cut: Cut) -> None:
            self.filesystem, self.cut = filesystem, cut

        def info(self, path: str) -> Any:
            return {**self.filesystem.info(path), "etag": "v1"}

        def open(self, path: str, mode: str) -> Any:
            return CutFile(self.filesystem.open(path, mode), self.cut)

    class CutFile:
        def __init__(self, file: Any, cut: Cut) -> None:
            self.file, self.cut = file, cut

        def __enter__(self) -> CutFile:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def seek(self, place: int) -> None:
            self.cut.read_from.append(place)
            self.file.seek(place)

        def read(self, size: int) -> bytes:
            if self.file.tell() >= self.cut.after:
                raise OSError("connection lost")
            return bytes(self.file.read(min(size, self.cut.after - self.file.tell())))

    with pytest.raises(RemoteError, match="connection lost"):
        fetch_objects(address, tmp_path, open_fs=Cut(5000))
    rest = Cut(10**9)
    path, _ = fetch_objects(address, tmp_path, open_fs=rest)
    assert rest.read_from == [5000]
    assert path.read_bytes() == content


def test_a_public_bucket_of_s3_needs_no_login(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/bucket/rows.jsonl", ROW)

    class NoCredentialsError(OSError):
        """As botocore names it."""

    class Locked:
        def info(self, path: str) -> Any:
            raise NoCredentialsError("Unable to locate credentials")

    asked: list[bool] = []

    def open_fs(address: str, *, anon: bool = False) -> tuple[Any, str]:
        asked.append(anon)
        filesystem, path = open_filesystem(address)
        return (filesystem if anon else Locked()), path

    path, _ = fetch_objects("memory://bucket/rows.jsonl", tmp_path, open_fs=open_fs)
    assert path.read_bytes() == ROW
    assert asked == [False, True]


def test_googles_md5_is_verified(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/bucket/rows.jsonl", ROW)

    def with_md5(md5: str) -> Any:
        def open_fs(address: str) -> tuple[Any, str]:
            filesystem, path = open_filesystem(address)
            info = {**filesystem.info(path), "md5Hash": md5}
            wrapped = type("Fs", (), {"info": lambda self, p: info, "open": filesystem.open})()
            return wrapped, path

        return open_fs

    with pytest.raises(RemoteError, match="came damaged"):
        fetch_objects("memory://bucket/rows.jsonl", tmp_path, open_fs=with_md5("AAAA"))
    assert not list(tmp_path.rglob("rows.jsonl"))
    right = base64.b64encode(hashlib.md5(ROW).digest()).decode()
    path, _ = fetch_objects("memory://bucket/rows.jsonl", tmp_path, open_fs=with_md5(right))
    assert path.read_bytes() == ROW


def test_what_is_missing_is_one_sentence(memory: Any, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"no file or folder `memory://bucket/no\.zip`"):
        fetcher_in(tmp_path).fetch("memory://bucket/no.zip")
    with pytest.raises(ConfigError, match="is no kind of address"):
        fetcher_in(tmp_path).fetch("gopher://bucket/no.zip")


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(address: str) -> Any:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ConfigError, match="not installed") as caught:
        fetcher_in(tmp_path).fetch(f"{scheme}://bucket/aqua_cache.zip")
    assert caught.value.hint == "run `pip install 'aquachat[cloud-storage]'`"


def test_rows_of_two_sets_in_one_bundle_are_told_apart(tmp_path: Path) -> None:
    bundle = {
        "ARC-V1/ARC-Easy/ARC-Easy-Train.jsonl": ROW,
        "ARC-V1/ARC-Easy/ARC-Easy-Test.jsonl": ROW,
        "ARC-V1/ARC-Challenge/ARC-Challenge-Train.jsonl": ROW,
        "flat/ARC-Easy-dev.jsonl": ROW,
        "flat/ARC-Challenge-dev.jsonl": ROW,
    }
    local = fetcher_in(tmp_path).fetch(str(make_zip(tmp_path / "b.zip", bundle)))
    easy = find_bundle_files("arc-easy", local.path, local.origin)
    assert {path.name for paths in easy.splits.values() for path in paths} == {
        "ARC-Easy-Train.jsonl",
        "ARC-Easy-Test.jsonl",
    }


def test_several_folders_that_fit_equally_are_named(tmp_path: Path) -> None:
    bundle = {"one/train.jsonl": ROW, "two/train.jsonl": ROW}
    local = fetcher_in(tmp_path).fetch(str(make_zip(tmp_path / "b.zip", bundle)))
    with pytest.raises(DataError, match="several folders"):
        find_bundle_files("aqua", local.path, local.origin)
    with pytest.raises(MissingFileError, match="no file in"):
        find_bundle_files("aqua", local.path / "three", "there")


def test_a_data_toml_inside_a_bundle_is_followed(tmp_path: Path) -> None:
    bundle = {
        "x/data.toml": b"[aqua]\ntrain = ['odd.jsonl']",
        "x/odd.jsonl": ROW,
        "y/test.json": ROW,
    }
    local = fetcher_in(tmp_path).fetch(str(make_zip(tmp_path / "b.zip", bundle)))
    files = find_bundle_files("aqua", local.path, local.origin)
    assert [path.name for path in files.splits["train"]] == ["odd.jsonl"]


def test_a_data_toml_of_a_bundle_reads_no_other_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(ROW)
    toml = f"[aqua]\ntrain = ['{tmp_path}/secret.jsonl']\n"
    bundle = {"data.toml": (toml + toml.replace("aqua", "text")).encode()}
    local = fetcher_in(tmp_path).fetch(str(make_zip(tmp_path / "b.zip", bundle)))
    with pytest.raises(DataError, match="outside the bundle"):
        find_bundle_files("aqua", local.path, local.origin)
    with pytest.raises(DataError, match="outside the bundle"):
        find_bundle_texts(local.path, local.origin)


def test_one_file_of_a_set_without_training_rows_is_for_evaluation(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "def f():", "test": "", "entry_point": "f"}).encode()
    bundle = {"human-eval/data/HumanEval.jsonl": row}
    local = fetcher_in(tmp_path).fetch(str(make_zip(tmp_path / "b.zip", bundle)))
    files = find_bundle_files("humaneval", local.path, local.origin)
    assert list(files.splits) == ["test"]
