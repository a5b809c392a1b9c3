"""Curves of runs as they grow, and nothing else of the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.serve.runs_api import list_run_stages, read_rows_after
from aquachat.track.logger import RunLogger
from tests.serve.servers import Running, made_engine, running


def test_runs_are_listed_the_newest_first(tmp_path: Path) -> None:
    assert list_run_stages(tmp_path / "nothing") == []
    for run in ("old", "new", ".hidden", "no metrics"):
        (tmp_path / run / "sft").mkdir(parents=True)
    for age, run in ((1000, "old"), (2000, "new"), (3000, ".hidden")):
        file = tmp_path / run / "sft" / "metrics.jsonl"
        file.write_text('{"step": 1}\n')
        import os

        os.utime(file, (age, age))
    assert [run["run"] for run in list_run_stages(tmp_path)] == ["new", "old"]


def test_lines_come_once_and_whole_while_a_run_writes_them(tmp_path: Path) -> None:
    stage = tmp_path / "sft"
    stage.mkdir()
    file = stage / "metrics.jsonl"
    after, version, steps = 0, "", []
    with RunLogger(stage, "sft") as logger:
        for step in range(1, 6):
            logger.log(step, {"train/loss": 1.0 / step})
            found = read_rows_after(file, after, version)
            after, version = found["next"], found["version"]
            steps += [row["step"] for row in found["rows"]]
            assert not found["restarted"]
    with file.open("a") as torn:
        torn.write('{"step": 6, "train/lo')
    assert read_rows_after(file, after, version)["rows"] == []
    assert steps == [1, 2, 3, 4, 5]


def test_a_resumed_run_starts_its_curve_again(tmp_path: Path) -> None:
    stage = tmp_path / "sft"
    stage.mkdir()
    with RunLogger(stage, "sft") as logger:
        for step in range(1, 6):
            logger.log(step, {"train/loss": 1.0})
    before = read_rows_after(stage / "metrics.jsonl", 0, "")
    with RunLogger(stage, "sft", resume_step=2) as logger:
        for step in range(3, 20):
            logger.log(step, {"train/loss": 2.0})
    found = read_rows_after(stage / "metrics.jsonl", before["next"], before["version"])
    assert found["restarted"]
    assert [row["step"] for row in found["rows"]] == list(range(1, 20))


def test_a_long_file_comes_in_several_answers(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "text": "x" * 1000}) for step in range(2500)]
    file.write_text("\n".join(lines) + "\n")
    steps, after, version, answers = [], 0, "", 0
    while True:
        found = read_rows_after(file, after, version)
        steps += [row["step"] for row in found["rows"]]
        after, version, answers = found["next"], found["version"], answers + 1
        if found["is_complete"]:
            break
    assert steps == list(range(2500))
    assert answers > 2


def test_lines_that_are_no_rows_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('nonsense\n[1]\n{"step": "x"}\n{"step": 1, "a": NaN, "b": [1], "c": 2}\n\xff\n')
    assert read_rows_after(file, 0, "")["rows"] == [{"step": 1, "a": "NaN", "c": 2}]


@pytest.mark.parametrize(
    "path",
    [
        "../outside/sft",
        "%2e%2e/sft",
        "..%2Foutside/sft",
        "%2Fetc/sft",
        "here/..",
        "here/eval",
        "here/sft%2F..%2F..%2Foutside%2Fsft",
        "here%00/sft",
        ".hidden/sft",
        "nothing/sft",
    ],
)
def test_nothing_outside_the_runs_is_read(tmp_path: Path, path: str) -> None:
    for folder in ("runs/here/sft", "outside/sft", "runs/.hidden/sft", "runs/here/eval"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.jsonl").write_text('{"step": 1, "x": 1}\n')
    with running(made_engine(), tmp_path) as server:
        assert server.http.get("/api/runs/here/sft/metrics").json()["rows"]
        reply = server.http.get(f"/api/runs/{path}/metrics")
        assert reply.status_code == 404
        assert "rows" not in reply.json()


def test_the_query_is_checked(server: Running) -> None:
    reply = server.http.get("/api/runs/a/sft/metrics", params={"after": "-1"})
    assert reply.status_code == 400
    assert server.http.get("/api/runs/a/sft/metrics", params={"afer": "1"}).status_code == 400
