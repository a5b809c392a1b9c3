from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from aquachat.cli.app import make_app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man/aquachat.1"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/generate_man.py"))


def _commands(group: Any, prefix: str) -> list[str]:
    names = []
    for name, command in group.commands.items():
        own = f"{prefix} {name}"
        names += _commands(command, own) if hasattr(command, "commands") else [own]
    return names


def test_the_man_page_is_up_to_date(generator: dict[str, Any]) -> None:
    assert PAGE.read_text(encoding="utf-8") == generator["render"](), (
        "run `python docs/generate_man.py`"
    )


def test_it_has_every_command_that_help_has() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\\-", "-")
    for name in _commands(typer.main.get_command(make_app()), "aquachat"):
        assert re.search(rf'^\.SS "{name}[" ]', page, re.M), name
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "FILES"):
        assert f"\n.SH {title}\n" in page


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("--run", "\\-\\-run"),
        (".env", "\\&.env"),
        ("'quoted'", "\\&'quoted'"),
        ("a\\b", "a\\eb"),
        ('say "it"', "say \\(dqit\\(dq"),
    ],
)
def test_what_roff_would_read_is_escaped(
    generator: dict[str, Any], text: str, escaped: str
) -> None:
    assert generator["roff"](text) == escaped


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("mandoc", ["-T", "lint", "-W", "warning"]),
        ("groff", ["-man", "-ww", "-z", "-Tutf8"]),
    ],
)
def test_programs_that_show_man_pages_find_nothing_wrong(
    program: str, arguments: list[str]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    done = subprocess.run([program, *arguments, str(PAGE)], capture_output=True, text=True)
    found = (done.stdout + done.stderr).splitlines()
    # No date: it would make the page differ from day to day.
    assert not [line for line in found if "missing date" not in line]
