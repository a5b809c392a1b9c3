"""The first 20 losses of `tiny` in base training, mid-training and SFT are the recorded ones.

Model, data, optimizer and schedules decide them, so a change in what is computed shows here. In
float32 on one thread; processors differ in the last bits, hence the tolerance. After a change on
purpose, `AQUACHAT_UPDATE_GOLDEN=1` writes the file anew, and docs/lab-notes.md gets a row.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.programs import Cli

GOLDEN = Path(__file__).parent / "golden" / "tiny.json"
NUM_STEPS = 20
RELATIVE_TOLERANCE = 1e-4
SOURCES = "tokenize.sources={expository=300, problems=600, drills=300}"


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    cli = Cli(tmp_path_factory.mktemp("golden"))
    cli("tokenize", "--preset", "tiny", "--set", SOURCES, code=0)
    found = {}
    for stage in ("base", "mid", "sft"):
        cli(
            "train", stage, "--preset", "tiny", "--run", "golden", "--dtype", "float32",
            "--num-iterations", str(NUM_STEPS), "--set", f"{stage}.log_every=1",
            *(() if stage == "base" else ("--set", f"{stage}.eval_examples=1")),
            code=0,
        )  # fmt: skip
        file = cli.home / "runs" / "golden" / stage / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found[stage] = [line["train/loss"] for line in lines]
    if os.environ.get("AQUACHAT_UPDATE_GOLDEN"):
        rounded = {stage: [round(x, 6) for x in values] for stage, values in found.items()}
        GOLDEN.write_text(json.dumps(rounded, indent=1) + "\n")
    return found


@pytest.mark.parametrize("stage", ["base", "mid", "sft"])
def test_the_first_losses_of_tiny_are_the_recorded_ones(
    losses: dict[str, list[float]], stage: str
) -> None:
    recorded = json.loads(GOLDEN.read_text())[stage]
    assert len(recorded) == NUM_STEPS
    assert losses[stage] == pytest.approx(recorded, rel=RELATIVE_TOLERANCE)
