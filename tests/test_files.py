from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from aquachat import files
from aquachat.errors import DataError, MissingFileError


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    files.write_text(target, "one")
    files.write_text(target, "two é 😀 \x00")
    assert listing(target.parent) == {"a.txt": "two é 😀 \x00".encode()}


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "x")
    (tmp_path / "usual").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failure_midway_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")

    def write_half() -> None:
        with files.atomic_writer(target) as file:
            file.write(b"half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert listing(tmp_path) == {"a.txt": b"old"}


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, {"old": 1})
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DataError, match=r"cannot write `.*a\.json`: the disk is full"):
        files.write_json(target, {"new": 2})
    monkeypatch.undo()
    assert listing(tmp_path) == {"a.json": b'{\n  "old": 1\n}\n'}


def test_our_own_errors_pass_through_a_write(tmp_path: Path) -> None:
    def refuse() -> None:
        with files.atomic_writer(tmp_path / "a"):
            raise MissingFileError("there is no source")

    with pytest.raises(MissingFileError, match="there is no source"):
        refuse()


def test_lone_surrogates_become_replacement_characters(tmp_path: Path) -> None:
    assert files.encode_text("a\ud800b\ud83d\ude00") == "a\ufffdb😀".encode()
    line = files.json_line({"text": "\udfff"})
    assert json.loads(line) == {"text": "\ufffd"}


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")


def install(folder: Path, contents: dict[str, str], stale: tuple[str, ...] = ()) -> None:
    with files.staging_directory(folder, "prepare") as staging:
        for name, text in contents.items():
            (staging / name).write_text(text)
        files.install_files(staging, folder, stale)


def test_a_set_of_files_is_installed_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "aqua"
    install(folder, {"a": "1", "b": "1", "gone": "1"})
    (folder / "theirs").write_text("keep")
    install(folder, {"a": "2", "b": "2"}, stale=("gone", "never-there"))
    assert listing(folder) == {"a": b"2", "b": b"2", "theirs": b"keep"}


@pytest.mark.parametrize("failing_call", range(6))
def test_a_set_of_files_that_cannot_be_installed_leaves_the_old_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    folder = tmp_path / "aqua"
    install(folder, {"a": "1", "b": "1", "c": "1"})
    real, calls = Path.replace, iter(range(100))

    def replace(self: Path, target: Path) -> Path:
        if next(calls) == failing_call:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(DataError, match="Input/output error"):
        install(folder, {"a": "2", "b": "2", "d": "2"}, stale=("c",))
    monkeypatch.undo()
    assert listing(folder) == {"a": b"1", "b": b"1", "c": b"1"}


def test_a_failed_first_installation_leaves_no_empty_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with files.staging_directory(tmp_path / "aqua", "prepare"):
            raise DataError("bad file")

    with pytest.raises(DataError, match="bad file"):
        fail()
    assert listing(tmp_path) == {}
    (tmp_path / "aqua").mkdir()
    with pytest.raises(DataError, match="bad file"):
        fail()
    assert (tmp_path / "aqua").is_dir()


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    for text in ("1", "2"):
        with files.staging_directory(tmp_path, "corpus") as staging:
            (staging / text).write_text(text)
            files.install_directory(staging, target)
    assert listing(target) == {"2": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_folder_that_cannot_be_installed_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "corpus"
    target.mkdir()
    (target / "old").write_text("old")
    real, calls = Path.replace, iter(range(100))

    def replace(self: Path, new: Path) -> Path:
        if next(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, new)

    monkeypatch.setattr(Path, "replace", replace)

    def swap() -> None:
        with files.staging_directory(tmp_path, "corpus") as staging:
            (staging / "new").write_text("new")
            files.install_directory(staging, target)

    with pytest.raises(DataError, match="Input/output"):
        swap()
    assert listing(target) == {"old": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_patterns_give_each_file_once_in_order(tmp_path: Path) -> None:
    for name in ("s_2", "s_0", "s_1", "x[1].txt"):
        (tmp_path / name).touch()
    found = files.expand_patterns(tmp_path, ["s_1", "s_[0-2]", "x[1].txt"], origin="here")
    assert [path.name for path in found] == ["s_1", "s_0", "s_2", "x[1].txt"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("nope.json", r"there is no `nope\.json`"), ("nope_*", r"no file matches `nope_\*`")],
)
def test_a_pattern_without_a_file_says_where_it_stands(
    tmp_path: Path, pattern: str, message: str
) -> None:
    with pytest.raises(MissingFileError, match=message + r".*data\.toml, \[text\] train"):
        files.expand_patterns(tmp_path, [pattern], origin="data.toml, [text] train")
