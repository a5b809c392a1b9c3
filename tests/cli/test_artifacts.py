"""artifacts from the command line, to a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.programs import Cli


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'store'}"


def test_a_run_is_copied_to_another_computer_and_goes_on_there(
    trained: Cli, store: str, tmp_path: Path
):
    arguments = ("artifacts", "upload", store, "--run", "whole")
    plan = json.loads(trained(*arguments, "--dry-run", "--json", code=0).stdout)
    assert plan["dry_run"]
    assert not (tmp_path / "store").exists()
    trained(*arguments, code=0)
    again = json.loads(trained(*arguments, "--json", code=0).stdout)
    assert again["bytes"] == 0
    bare = store + "-reports"
    trained("artifacts", "upload", bare, "--run", "whole", "--exclude-checkpoints", code=0)
    copied = list((tmp_path / "store-reports").rglob("*"))
    assert "report.html" in [path.name for path in copied]
    assert not [path for path in copied if path.name.startswith("step_")]
    listed = json.loads(trained("artifacts", "list", store, "--json", code=0).stdout)["artifacts"]
    assert "runs/whole" in [entry["name"] for entry in listed]
    (tmp_path / "elsewhere").mkdir()
    other = Cli(tmp_path / "elsewhere")
    other("artifacts", "download", store, "--latest", code=0)
    question = ("chat", "What is 3 times 4?", "--max-new-tokens", "8", "--run", "whole", "--json")
    assert other(*question, code=0).stdout == trained(*question, code=0).stdout
    assert (other.home / "runs" / "whole" / "report.html").is_file()
    assert json.loads(other("artifacts", "download", store, "--json", code=0).stdout)["bytes"] == 0


def test_what_cannot_be_copied_is_one_sentence(trained: Cli, store: str):
    cases = [
        (("upload", store, "--run", "nowhere"), 1, "there is no run `nowhere`"),
        (("download", store), 1, "there is no run in"),
        (("download", store, "--run", "a", "--latest"), 2, "name two runs"),
        (("list", "gopher://x"), 2, "no kind of address"),
    ]
    for arguments, code, sentence in cases:
        outcome = trained("artifacts", *arguments, code=code)
        assert sentence in outcome.stderr, outcome
        assert "Traceback" not in outcome.stderr
    assert json.loads(trained("artifacts", "list", store, "--json", code=0).stdout) == {
        "artifacts": []
    }
