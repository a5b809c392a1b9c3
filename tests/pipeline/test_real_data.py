"""`aquachat run tiny --data DIR` on the real sets, with a model too small to learn from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.programs import MICRO, Program


def test_real_sets_go_through_the_whole_pipeline(real_data: Path, tmp_path: Path) -> None:
    program = Program(tmp_path)
    sources = "sources = { text = 10, expository = 50, problems = 200, drills = 50 }"
    program.config.write_text(
        MICRO.replace("sources = { expository = 60, problems = 200, drills = 60 }", sources)
        .replace("vocab_size = 560", "vocab_size = 800")
        .replace("[eval]", "[eval]\nmax_examples = 6")
    )
    document = program.run_json(
        "run", "tiny", "--data", str(real_data), "--config", str(program.config), "--run", "real"
    )
    aqua = [result for result in document["eval"] if result["task"] == "AQUA"]
    assert {(r["stage"], r["split"], r["protocol"]) for r in aqua} == {
        (stage, "validation", protocol)
        for stage in ("sft", "rl")
        for protocol in ("generative", "categorical")
    }
    assert {r["num_scored"] for r in aqua} == {6}
    assert all(r["baselines"]["chance"] == pytest.approx(0.2) for r in aqua)
    assert "eval/aqua_accuracy" in program.metrics("real", "sft")[-1]
    rows = program.home / "data" / "aqua"
    assert len((rows / "validation.jsonl").read_text("utf-8").splitlines()) == 254
    assert len((rows / "train.jsonl").read_text("utf-8").splitlines()) == 50
