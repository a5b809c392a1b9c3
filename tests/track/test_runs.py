from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import MissingFileError
from aquachat.track.runs import list_runs, newest_run, read_run


def make_stage(
    runs: Path, run: str, stage: str, *, at_s: int, depth: int = 8, rows: list[Any] | None = None
) -> Path:
    folder = runs / run / stage
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(f"[model]\ndepth = {depth}\n")
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows or []))
    for path in (metrics, folder):
        os.utime(path, (at_s, at_s))
    return folder


def test_the_run_a_stage_wrote_to_last_comes_first(tmp_path: Path) -> None:
    make_stage(tmp_path, "old", "base", at_s=100)
    make_stage(tmp_path, "new", "base", at_s=300, depth=12)
    make_stage(tmp_path, "middle", "base", at_s=50)
    make_stage(tmp_path, "middle", "sft", at_s=200)
    # a report of an old run does not make it the newest
    (tmp_path / "old" / "report.md").write_text("x")
    (tmp_path / ".partial").mkdir()
    (tmp_path / "a-file").write_text("x")
    assert [run.name for run in list_runs(tmp_path)] == ["new", "middle", "old"]
    assert newest_run(tmp_path).name == "new"
    assert newest_run(tmp_path, depth=8).name == "middle"
    assert newest_run(tmp_path, stage="sft").name == "middle"
    assert [stage.name for stage in newest_run(tmp_path, depth=8).stages] == ["base", "sft"]


def test_a_stage_is_summed_up_from_its_files(tmp_path: Path) -> None:
    rows = [
        {"step": 10, "time_s": 1.5, "train/loss": 3.0, "eval/aqua_accuracy": 0.2},
        {"step": 20, "time_s": 3.0, "train/loss": "NaN", "attn/heatmap": "heat.png"},
    ]
    folder = make_stage(tmp_path, "a", "sft", at_s=1, rows=rows)
    for step, files in {10: ["manifest.json"], 20: ["manifest.json"], 30: []}.items():
        checkpoint = folder / f"step_{step:06d}"
        checkpoint.mkdir()
        for file in files:
            (checkpoint / file).write_text("{}")
    state = {"state": {"progress": {"step": 20, "tokens": 40960, "seconds": 3.0}}}
    (folder / "step_000020" / "state.json").write_text(json.dumps(state))
    (stage,) = read_run(tmp_path / "a").stages
    assert (stage.last_step, stage.checkpoints, stage.seconds) == (20, (10, 20), 3.0)
    assert (stage.tokens, stage.depth) == (40960, 8)
    assert stage.key_metric == ("eval/aqua_accuracy", 0.2)
    assert math.isnan(stage.metrics["train/loss"])
    assert "attn/heatmap" not in stage.metrics


def test_half_written_runs_are_listed_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "base").mkdir(parents=True)
    torn = make_stage(tmp_path, "torn", "rl", at_s=1, rows=[{"step": 1, "rl/acc": 0.5}])
    (torn / "recipe.toml").write_text("[model\ndep")
    with (torn / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "rl/ac\xff')
    by_name = {run.name: run for run in list_runs(tmp_path)}
    assert by_name["empty"].stages == ()
    assert by_name["bare"].stages[0].last_step is None
    assert by_name["bare"].stages[0].key_metric is None
    assert by_name["torn"].stages[0].last_step == 1
    assert by_name["torn"].stages[0].key_metric == ("rl/acc", 0.5)
    assert by_name["torn"].depth is None


def test_no_run_says_what_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "absent") == []
    with pytest.raises(MissingFileError, match="no run of depth 20 with stage sft") as caught:
        newest_run(tmp_path, depth=20, stage="sft")
    assert "aquachat run" in (caught.value.hint or "")
