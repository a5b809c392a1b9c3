"""A report in W&B, read back from an offline run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.track.surface import write_landscape
from aquachat.track.wandb_report import publish_report
from aquachat.track.wandb_sink import WandbOptions
from tests.track.test_surface import LANDSCAPE
from tests.track.test_wandb_sink import _isolated_wandb, offline_runs, records_of

__all__ = ["_isolated_wandb"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "sft").mkdir(parents=True)
    line = {"step": 5, "stage": "sft", "time_s": 2.0, "val/loss": 0.5}
    (folder / "sft" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    write_landscape(folder, LANDSCAPE)
    return folder


def test_an_offline_report_holds_the_tables_and_the_surfaces(run: Path) -> None:
    assert publish_report(run, WandbOptions("offline", "p"), environ={})
    ((record, rows),) = offline_runs(run / "report")
    assert (record.run_group, record.job_type) == ("mine", "report")
    assert {key for row in rows for key in row if key.startswith("landscape/")} == {
        "landscape/random",
        "landscape/trajectory",
    }
    (log,) = (run / "report" / "wandb").glob("offline-run-*/*.wandb")
    logged = {
        "|".join(item.nested_key): json.loads(item.value_json)
        for record in records_of(log)
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
        if item.nested_key
    }
    assert logged["landscape/random|_type"] == "html-file"
    assert logged["landscape/trajectory|_type"] == "html-file"
    assert logged["report/Stages|_type"] == "table-file"
    assert logged["report/Loss landscape|nrows"] == 4
    files = list((run / "report" / "wandb").rglob("*.html"))
    assert any("data-scene" in file.read_text() for file in files)
    tables = [json.loads(file.read_text()) for file in (run / "report").rglob("*.table.json")]
    stages = next(table for table in tables if table["columns"][0] == "stage")
    assert stages["data"][0][0] == "sft"


def test_a_second_report_continues_the_same_run(run: Path) -> None:
    for _ in range(2):
        assert publish_report(run, WandbOptions("offline"), environ={})
    found = offline_runs(run / "report")
    assert len(found) == 2
    assert len({record.run_id for record, _ in found}) == 1


def test_nothing_is_written_where_wandb_is_off(run: Path) -> None:
    assert not publish_report(run, WandbOptions("off"), environ={})
    assert not (run / "report").exists()
