"""`aquachat eval` on the files of a run: recomputing, checkpoints side by side, what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import DataError, MissingFileError
from aquachat.pipeline.recomputing import recompute_run
from tests.pipeline.programs import Program


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A program with a run `a`, trained to SFT, and `b`, a copy of it."""
    program = Program(tmp_path_factory.mktemp("evaluation"))
    stages = ("--stages", "prepare,tokenize,base,sft")
    program.run("run", "tiny", "--config", str(program.config), "--run", "a", *stages)
    shutil.copytree(program.home / "runs" / "a", program.home / "runs" / "b")
    return program


@pytest.fixture(scope="module")
def evaluated(trained: Program) -> dict[str, Any]:
    """Three checkpoints of two runs, by both protocols."""
    document: dict[str, Any] = trained.run_json(
        *("eval", "--run", "a", "--task", "SYNTHETIC/new_numbers"),
        *("--protocol", "generative", "--protocol", "categorical"),
        *("--from", "base", "--from", "sft", "--from", "b/sft@8", "--from", "sft@8"),
        *("--option-orders", "5", "--max-examples", "6"),
    )
    return document


def test_checkpoints_of_two_runs_stand_side_by_side(evaluated: dict[str, Any]) -> None:
    names = [(r["checkpoint"], r["protocol"]) for r in evaluated["results"]]
    checkpoints = ["base@8", "sft@8", "b/sft@8"]
    assert sorted(names) == sorted(
        (name, protocol) for name in checkpoints for protocol in ("generative", "categorical")
    )
    pairs = {(c["a"], c["b"]) for c in evaluated["comparisons"]}
    assert pairs == {("base@8", "sft@8"), ("base@8", "b/sft@8"), ("sft@8", "b/sft@8")}
    same = [c for c in evaluated["comparisons"] if c["a"] == "sft@8"]
    assert all(c["difference"] == 0.0 and c["p_value"] == 1.0 for c in same)
    assert all(c["p_value_holm"] >= c["p_value"] for c in evaluated["comparisons"])


def test_results_hold_every_figure(evaluated: dict[str, Any]) -> None:
    for result in evaluated["results"]:
        assert set(result["baselines"]) == {"chance", "majority_letter", "options_only"}
        assert 0.0 <= result["baselines"]["options_only"] <= 1.0
        assert result["settings"]["option_orders"] == 5
        assert {"by_rationale_words", "by_tier", "letter_histogram"} <= set(result)
        assert ("calibration" in result) == (result["protocol"] == "categorical")
        assert (result["format_adherence"] is None) == (result["protocol"] == "categorical")


def test_the_whole_document_is_recomputed_bit_for_bit(
    trained: Program, evaluated: dict[str, Any]
) -> None:
    folder = trained.home / "runs" / "a" / "eval"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    document = trained.run_json("eval", "--run", "a", "--recompute")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert document["comparisons"] == evaluated["comparisons"]
    kept, again = (
        sorted(json.dumps(entry) for entry in source["results"]) for source in (evaluated, document)
    )
    assert again == kept
    assert len(again) == 6


def test_figures_follow_the_predictions(trained: Program, evaluated: dict[str, Any]) -> None:
    source = trained.home / "runs" / "a" / "eval"
    folder = trained.folder / "edited"
    shutil.copytree(source, folder)
    path = next(iter(sorted(folder.glob("sft@8*generative.predictions.jsonl"))))
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps({**row, "correct": True}) + "\n" for row in rows), "utf-8")
    document = recompute_run(folder, "a")
    changed = [r["checkpoint"] for r in document["results"] if r["accuracy"] == 1.0]
    assert changed == ["sft@8"]
    kept = json.loads(path.with_name(path.name.replace(".predictions.jsonl", ".json")).read_text())
    assert kept["accuracy"] == 1.0


def test_comparisons_reach_the_report(trained: Program, evaluated: dict[str, Any]) -> None:
    trained.run("report", "--run", "a")
    report = (trained.home / "runs" / "a" / "report.md").read_text("utf-8")
    assert "base@8 -> sft@8" in report
    assert "b/sft@8" in report
    assert "Calibration" in report
    assert "options only" in report


def test_training_logs_how_replies_look(trained: Program) -> None:
    last = trained.metrics("a", "sft")[-1]
    assert {"eval/format_adherence", "eval/tool_use", "eval/invalid_fraction"} <= set(last)
    assert 0.0 <= last["eval/format_adherence"] <= 1.0


def test_nothing_to_recompute_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no predictions in"):
        recompute_run(tmp_path, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "beside its predictions"),
        ("{", "cannot be read"),
        ("{}", "does not say"),
        ("[]", "no result"),
    ],
)
def test_predictions_without_their_result_are_refused(
    trained: Program, evaluated: dict[str, Any], tmp_path: Path, content: str | None, message: str
) -> None:
    source = next((trained.home / "runs" / "a" / "eval").glob("sft@8*generative.predictions.jsonl"))
    shutil.copy(source, tmp_path / source.name)
    if content is not None:
        result = source.name.replace(".predictions.jsonl", ".json")
        (tmp_path / result).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        recompute_run(tmp_path, "a")
