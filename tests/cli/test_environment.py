from __future__ import annotations

from pathlib import Path

import pytest

from aquachat.cli.environment import load_env_files, parse_env


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1", {"A": "1"}),
        ("  export A = 1  ", {"A": "1"}),
        ("A=1 # a comment", {"A": "1"}),
        ("A=a#b", {"A": "a#b"}),
        ('A="x y # z"', {"A": "x y # z"}),
        ("A='x y'", {"A": "x y"}),
        ("A=$HOME/`id`", {"A": "$HOME/`id`"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("# A=1\n\nno assignment\n1A=2\nA-B=3", {}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ('A="', {"A": '"'}),
    ],
)
def test_lines_of_assignments_are_read(text: str, found: dict[str, str]) -> None:
    assert parse_env(text) == found


def test_what_is_set_already_stays(tmp_path: Path) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    for folder in (here, home):
        folder.mkdir()
    (here / ".env").write_text("HF_TOKEN=of-here\nSHELL_KEY=of-here\n")
    (home / ".env").write_text("HF_TOKEN=of-home\nWANDB_API_KEY=of-home\n")
    environ = {"SHELL_KEY": "of-the-shell"}
    read = load_env_files(environ, here, home, tmp_path / "absent")
    assert read == [here / ".env", home / ".env"]
    assert environ == {
        "SHELL_KEY": "of-the-shell",
        "HF_TOKEN": "of-here",
        "WANDB_API_KEY": "of-home",
    }


def test_a_file_that_is_no_text_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    environ: dict[str, str] = {}
    assert load_env_files(environ, tmp_path) == []
    assert environ == {}
