"""The figures of docs/core.md are those that are kept."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_page_of_core_shows_the_kept_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    core_eval, pages = (importlib.import_module(name) for name in ("core_eval", "pages"))
    document = json.loads((ROOT / "benchmarks/results/core_eval.json").read_text("utf-8"))
    page = (ROOT / "docs" / "core.md").read_text("utf-8")
    assert page == pages.filled(page, "core_eval", core_eval.figures(document))
