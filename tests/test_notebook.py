"""`notebooks/demo.ipynb` runs from its first cell to its last."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.programs import MICRO

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/demo.ipynb"
TAGS = ("install", "settings", "run", "curves", "samples", "accuracy")


def _cells() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return cells


def _needs(*modules: str) -> None:
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; `pip install '.[dev]'` brings it")


def test_the_notebook_is_valid() -> None:
    _needs("nbformat")
    import nbformat

    nbformat.validate(nbformat.read(str(NOTEBOOK), as_version=4))


def test_no_output_is_committed() -> None:
    for cell in _cells():
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_every_step_has_its_cell_and_its_words() -> None:
    cells = _cells()
    tags = [cell["metadata"]["tags"][0] for cell in cells if cell["cell_type"] == "code"]
    assert tuple(tags) == TAGS
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown"
            assert before["source"][0].startswith("## ")


@pytest.mark.long
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _needs("nbformat", "nbclient", "ipykernel")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("AQUACHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    notebook = nbformat.read(str(NOTEBOOK), as_version=4)
    cells = {cell.metadata.tags[0]: cell for cell in notebook.cells if cell["cell_type"] == "code"}
    cells["settings"].source = f"SETTINGS = {MICRO!r}"
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    texts = {
        tag: "".join(out.get("text", "") for out in cell.outputs) for tag, cell in cells.items()
    }
    assert texts["install"] == ""
    assert "report:" in texts["run"]
    assert texts["samples"].count("--- reply, reward ") == 3
    assert any("image/png" in out.get("data", {}) for out in cells["curves"].outputs)
    table = cells["accuracy"].outputs[0]["data"]["text/markdown"].splitlines()
    assert len(table) == 2 + 6  # three splits, two checkpoints
    assert "rl@8" in table[-4] + table[2]
