from __future__ import annotations

import runpy
from pathlib import Path

from aquachat.cli.app import make_app

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_commands_is_up_to_date() -> None:
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    generated = runpy.run_path(str(DOCS / "generate_cli.py"))["render"]()
    assert written == generated, "run `python docs/generate_cli.py`"


def test_the_page_has_every_command_and_no_empty_flag() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for command in make_app().registered_commands:
        assert f"### `aquachat {command.name}`" in page
    for stage in ("base", "mid", "sft"):
        assert f"### `aquachat train {stage}`" in page
    assert "| `` |" not in page
    assert "| ` " not in page
