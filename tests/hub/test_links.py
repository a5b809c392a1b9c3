from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import DataError
from aquachat.hub.links import find_targets, linked_files


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("a.md", "docs/b.md", "docs/my file.md", "docs/deep/c.png", "ü.md", ".env"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "secret").write_text("s")
    return root


@pytest.mark.parametrize(
    ("markdown", "targets"),
    [
        ("[a](a.md)", ["a.md"]),
        ('[a](a.md "a title")', ["a.md"]),
        ("[a](a.md 'a title')", ["a.md"]),
        ("[a](<docs/my file.md>)", ["docs/my%20file.md"]),
        ("[a](docs/my%20file.md)", ["docs/my%20file.md"]),
        ("[a](a_(1).md)", ["a_(1).md"]),
        ("![i](i.png)", ["i.png"]),
        ("[![i](i.png)](a.md)", ["a.md", "i.png"]),
        ("[a][ref]\n\n[ref]: docs/b.md 'title'", ["docs/b.md"]),
        ("[ref]: <docs/b.md>", ["docs/b.md"]),
        ("[ref]\n\n[ref]: b.md", ["b.md"]),
        ("| x |\n|---|\n| [a](a.md) |", ["a.md"]),
        ("> - [a](a.md)", ["a.md"]),
        ('<a href="a.md">a</a> and <img src=i.png>', ["a.md", "i.png"]),
        ("<p>\n<img\n  src='i.png'\n></p>", ["i.png"]),
        ('<source srcset="a.png 1x, b.png 2x">', ["a.png", "b.png"]),
        ('<video poster="p.png" src="v.mp4"></video>', ["p.png", "v.mp4"]),
        ("<object data=d.pdf></object>", ["d.pdf"]),
        ("`[a](a.md)` and\n\n```\n[a](b.md)\n```\n\n    [a](c.md)", []),
        ("<!-- [a](a.md) <img src='b.png'> -->", []),
        ("\\[a](a.md)", []),
        ("[a](<>) [b]()", [""]),
        ("# [a](a.md#part)\n", ["a.md#part"]),
    ],
)
def test_every_form_of_a_link_is_found(markdown: str, targets: list[str]):
    assert find_targets(markdown) == targets


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="[]()<>!\"' \n#`|-.:/\\a%2e&;", max_size=60))
def test_any_text_has_targets(text: str):
    assert all(isinstance(target, str) for target in find_targets(text))


def test_linked_files_are_found_and_missing_ones_are_named(project: Path):
    text = "[a](a.md#x) [b](./docs/b.md?raw=true) [f](docs/my%20file.md) [u](ü.md) [g](no/gone.md)"
    found = linked_files(text, project)
    assert list(found.files) == ["a.md", "docs/b.md", "docs/my file.md", "ü.md"]
    assert found.missing == ("no/gone.md",)


@pytest.mark.parametrize(
    "target",
    ["https://x.org/a.md", "mailto:a@b.c", "#part", "//x.org/a", "?x", "./", "tel:1", "http://[x"],
)
def test_addresses_and_places_in_the_page_are_no_files(project: Path, target: str):
    found = linked_files(f"[x](<{target}>)", project)
    assert (found.files, found.missing) == ({}, ())


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "docs/../../secret",
        "%2e%2e/secret",
        "docs/%2E%2E/../..%2Fsecret",
        "/etc/passwd",
        "%2Fetc/passwd",
        "file:///etc/passwd",
        "C:/Windows/win.ini",
        "..\\secret",
        ".env",
        "./.env",
        "docs/.hidden/x",
        ".git/config",
    ],
)
@pytest.mark.parametrize("form", ["[x](<{}>)", '<img src="{}">', "[x]: <{}>"])
def test_what_leaves_the_project_or_is_hidden_is_refused(project: Path, target: str, form: str):
    with pytest.raises(DataError, match=r"README.md` links to `.*`, which "):
        linked_files(form.format(target.replace("\\", "\\\\")), project)


def test_symbolic_links_are_refused_wherever_they_are(project: Path, tmp_path: Path):
    (project / "link.md").symlink_to(tmp_path / "secret")
    (project / "folder").symlink_to(tmp_path)
    for target in ("link.md", "folder/secret", "folder"):
        with pytest.raises(DataError, match="symbolic link"):
            linked_files(f"[x]({target})", project)


def test_a_folder_stands_for_its_files_but_not_for_hidden_or_linked_ones(
    project: Path, tmp_path: Path
):
    (project / "docs" / ".secret").write_text("x")
    (project / "docs" / "link.md").symlink_to(tmp_path / "secret")
    (project / "docs" / "sub").symlink_to(tmp_path)
    found = linked_files("[docs](docs/)", project)
    assert list(found.files) == ["docs/b.md", "docs/deep/c.png", "docs/my file.md"]


def test_in_a_git_repository_a_folder_stands_for_what_is_tracked(project: Path):
    for command in (["init", "-q"], ["add", "docs/b.md"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    assert list(linked_files("[docs](docs)", project).files) == ["docs/b.md"]
    assert list(linked_files("[c](docs/deep/c.png)", project).files) == ["docs/deep/c.png"]


def test_the_folder_that_is_filled_is_not_released_itself(project: Path):
    release_dir = project / "docs" / "deep"
    found = linked_files("[d](docs) [c](docs/deep/c.png)", project, without=[release_dir])
    assert list(found.files) == ["docs/b.md", "docs/my file.md"]
