"""Figures that are kept: made at a revision of this history, and shown as they are."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.name)
def test_results_name_a_revision_of_the_history(file: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        pytest.skip("a shallow clone has no history")
    revision = json.loads(file.read_text("utf-8"))["revision"]
    assert _git("merge-base", "--is-ancestor", revision, "HEAD").returncode == 0, revision


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "program", "lines"),
    [("meter", "meter", "meter_table"), ("throughput", "evaluate", "throughput_table")],
)
def test_the_page_of_evaluation_shows_the_kept_figures(
    name: str, program: str, lines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pages, module = importlib.import_module("pages"), importlib.import_module(program)
    document = json.loads((module.RESULTS / f"{program}.json").read_text("utf-8"))
    text = pages.PAGE.read_text("utf-8")
    assert pages.filled(text, name, getattr(module, lines)(document)) == text


def test_known_engines_scored_what_they_must() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "meter.json").read_text("utf-8"))["rows"]
    for row in rows:
        if row["option_orders"] != 5:
            continue
        if row["engine"] == "oracle":
            assert row["accuracy"] == 1.0
        elif row["engine"].startswith("always"):
            assert row["accuracy"] == pytest.approx(0.2, abs=1e-12)
        elif row["engine"] == "guesses":
            assert row["ci95"][0] < 0.2 < row["ci95"][1]


def test_the_page_of_seeds_shows_the_kept_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("seeds", ROOT / "benchmarks" / "seeds.py")
    assert spec is not None
    assert spec.loader is not None
    seeds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeds)
    document = json.loads(seeds.RESULTS.read_text("utf-8"))
    assert seeds.PAGE.read_text("utf-8") == seeds.page(document)
