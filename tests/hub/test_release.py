from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import ConfigError, DataError
from aquachat.hub.release import (
    CHECKSUMS_FILE,
    STAGING_MANIFEST,
    ReleaseFile,
    make_release,
    read_checksums,
    stage,
)
from aquachat.hub.secret_scan import find_secret


def release_of(**files: str):
    """`a_b="x"` is the file `a/b`."""
    return make_release({"test": {n.replace("_", "/"): t.encode() for n, t in files.items()}}, {})


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != STAGING_MANIFEST
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


NAMES = st.sampled_from(["a", "b", "c/d", "c/e", "f/g/h"])
VERSIONS = st.lists(st.dictionaries(NAMES, st.text("xy", max_size=2)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(versions=VERSIONS)
def test_after_staging_the_folder_holds_the_last_release_and_the_files_of_others(
    tmp_path_factory: pytest.TempPathFactory, versions: list[dict[str, str]]
):
    folder = tmp_path_factory.mktemp("staging") / "hf_release"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    (folder / "c").mkdir()
    (folder / "c" / "mine.txt").write_text("mine")
    for version in versions:
        contents = {name: text.encode() for name, text in version.items()}
        release = make_release({"test": contents}, {})
        stage(release, folder, tmp_path_factory.getbasetemp() / "project")
        expected = {path: file.read().decode() for path, file in release.items()}
        assert tree(folder) == expected | {"mine.txt": "mine", "c/mine.txt": "mine"}


def test_the_same_release_writes_nothing_again(tmp_path: Path, root: Path):
    folder = tmp_path / "hf_release"
    assert stage(release_of(a="1", b_c="2"), folder, root).written
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name in "ac"}
    again = stage(release_of(a="1", b_c="2"), folder, root)
    assert (again.written, again.removed) == ((), ())
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_file_that_was_changed_by_hand_is_kept(tmp_path: Path, root: Path):
    folder = tmp_path / "hf_release"
    stage(release_of(a="1", b="2"), folder, root)
    (folder / "b").write_text("edited")
    staged = stage(release_of(a="1"), folder, root)
    assert staged.kept == ("b",)
    assert (folder / "b").read_text() == "edited"


def test_a_file_of_someone_else_is_not_overwritten(tmp_path: Path, root: Path):
    folder = tmp_path / "hf_release"
    folder.mkdir()
    (folder / "a").write_text("mine")
    with pytest.raises(ConfigError, match="was not put there by `sync-hf`"):
        stage(release_of(a="1", b="2"), folder, root)
    assert tree(folder) == {"a": "mine"}


def test_the_project_is_no_staging_folder(root: Path):
    (root / "notes.txt").write_text("mine")
    for folder in (root, root.parent, root / "..", root / "docs" / ".."):
        with pytest.raises(ConfigError, match="holds the project itself"):
            stage(release_of(a="1"), folder, root)
    assert tree(root) == {"notes.txt": "mine"}


@pytest.mark.parametrize(
    "manifest", ["{", "[]", '{"format": 2, "files": {}}', '{"format": 1, "files": {"../x": "0"}}',
                 '{"format": 1, "files": {"/etc/x": "0"}}', '{"format": 1, "files": 3}'],
)  # fmt: skip
def test_a_manifest_that_is_not_ours_stops_everything(tmp_path: Path, root: Path, manifest: str):
    folder = tmp_path / "hf_release"
    folder.mkdir()
    (tmp_path / "x").write_text("outside")
    (folder / STAGING_MANIFEST).write_text(manifest)
    with pytest.raises(ConfigError):
        stage(release_of(a="1"), folder, root)
    assert tree(tmp_path) == {"x": "outside"}


def test_nothing_is_written_or_removed_through_a_symbolic_link(tmp_path: Path, root: Path):
    folder, outside = tmp_path / "hf_release", tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_text("2")
    stage(release_of(a_b="2", c="3"), folder, root)
    (folder / "a" / "b").unlink()
    (folder / "a").rmdir()
    (folder / "a").symlink_to(outside)
    for release in (release_of(c="3"), release_of(a_b="new")):
        with pytest.raises(ConfigError, match="symbolic link"):
            stage(release, folder, root)
    assert (outside / "b").read_text() == "2"


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path, root: Path):
    folder = tmp_path / "hf_release"
    release = release_of(a="1", b_c="2")
    stage(release, folder, root)
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS_FILE], cwd=folder, check=True)
    sums = read_checksums((folder / CHECKSUMS_FILE).read_text())
    assert sums == {path: file.sha256 for path, file in release.items() if path != CHECKSUMS_FILE}


def test_hashes_are_gits_and_sha256s(tmp_path: Path):
    file = tmp_path / "x"
    file.write_bytes(b"hello\n")
    for content in (file, b"hello\n"):
        found = ReleaseFile("x", content)
        assert found.git_sha1 == "ce013625030ba8dba906f756967f9e9ca394464a"
        assert found.sha256.startswith("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d0")


def test_two_files_of_one_path_are_refused():
    with pytest.raises(ConfigError, match="twice: from one and from two"):
        make_release({"one": {"config.json": b"1"}, "two": {"Config.json": b"2"}}, {})


SECRETS = {
    "a Hugging Face token": "hf_" + "A1b2" * 9,
    "a GitHub token": "ghp_" + "A1b2" * 9,
    "an AWS key": "AKIA" + "A1B2" * 4,
    "an API key": "sk-proj-" + "A1b2" * 9,
    "a Google key": "AIza" + "A1b2x" * 7,
    "a private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_a_file_that_holds_a_secret_is_refused_and_the_secret_is_not_shown(kind: str):
    text = f"one\ntwo\nkey = {SECRETS[kind]}\n"
    with pytest.raises(DataError, match=f"line 3 of `docs/a.md` holds what looks like {kind}") as e:
        make_release({"test": {"docs/a.md": text.encode()}}, {})
    assert SECRETS[kind] not in f"{e.value.message}{e.value.hint}"


def test_the_value_of_a_secret_variable_is_found_in_any_text():
    environ = {"LAMBDA_API_KEY": "correct horse battery", "HOME": "/home/someone"}
    assert find_secret(b"a\ncorrect horse battery", environ) == (2, "the value of `LAMBDA_API_KEY`")
    assert find_secret(b"/home/someone uses HF_TOKEN and hf_hub, sk-learn", environ) is None
    assert find_secret(b"\0\1" + SECRETS["an AWS key"].encode(), environ) is None
