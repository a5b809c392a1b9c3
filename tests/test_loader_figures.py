"""The page of the corpus shows the figures that are kept."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_page_of_the_corpus_shows_the_kept_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    results = BENCHMARKS / "results" / "loader.json"
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("loader_benchmark", BENCHMARKS / "loader.py")
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "loader_benchmark", loader)
    spec.loader.exec_module(loader)
    page = loader.PAGE.read_text("utf-8")
    document = json.loads(results.read_text("utf-8"))
    assert loader.page_with(loader.tables(document), page) == page
