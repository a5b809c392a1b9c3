"""`aquachat run` for real: it learns to run, resumes after kill -9, and says what it did."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aquachat.pipeline.names import TRAINING
from tests.pipeline.programs import Program


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, dict[str, Any]]:
    """A program with one finished run, `straight`, and the run's document."""
    program = Program(tmp_path_factory.mktemp("pipeline"))
    arguments = ("run", "tiny", "--config", str(program.config), "--run", "straight")
    return program, program.run_json(*arguments)


def test_the_document_names_every_stage_and_result(
    finished: tuple[Program, dict[str, Any]],
) -> None:
    program, document = finished
    assert document["run"] == "straight"
    assert [entry["stage"] for entry in document["stages"]] == [
        "prepare", "tokenize", "base", "mid", "sft", "rl", "eval",
    ]  # fmt: skip
    assert all(entry["seconds"] > 0 for entry in document["stages"])
    assert document["peak_rss_bytes"] < 3e9
    assert {result["stage"] for result in document["eval"]} == {"sft", "rl"}
    for result in document["eval"]:
        low, high = result["ci95"]
        assert 0 <= low <= result["accuracy"] <= high <= 1
        assert result["baselines"]["chance"] == pytest.approx(0.2)
        assert result["num_scored"] == 8
    assert len(document["samples"]) == 3
    report = Path(document["report"])
    assert report == program.home / "runs" / "straight" / "report.md"
    assert "SYNTHETIC" in report.read_text()
    assert report.with_suffix(".html").exists()


def test_the_files_of_a_run_are_where_the_design_says(
    finished: tuple[Program, dict[str, Any]],
) -> None:
    program, _ = finished
    run = program.home / "runs" / "straight"
    for stage in TRAINING:
        assert (run / stage / "recipe.toml").is_file()
        assert (run / stage / "step_000008" / "model.safetensors").is_file()
        steps = [line["step"] for line in program.metrics("straight", stage)]
        assert steps == list(range(1, 9))
    assert (run / "rl" / "samples.jsonl").is_file()
    result = run / "eval" / "sft@8-SYNTHETIC-new_numbers-generative.json"
    assert json.loads(result.read_text())["checkpoint"] == "sft@8"
    assert result.with_suffix(".predictions.jsonl").is_file()
    assert (program.home / "tokenizers" / "straight" / "bpe.txt").is_file()
    assert (program.home / "corpora" / "straight" / "index.json").is_file()
    for stage in ("mid", "sft"):
        mixture = json.loads((run / stage / "mixture.json").read_text())
        assert sum(source["taken"] for source in mixture["sources"]) == 8 * 4
        assert all(source["targets"] > 0 for source in mixture["sources"])
    assert "Mixture of mid" in (run / "report.md").read_text()
    keys = program.metrics("straight", "rl")[-1]
    assert {"rl/acc", "rl/mean_reward", "rl/frac_groups_used", "rl/letter_fraction/A"} <= set(keys)
    assert "eval/synthetic_accuracy" in program.metrics("straight", "sft")[-1]
    assert "val/bpb" in program.metrics("straight", "base")[-1]


def test_kill_9_in_every_stage_resumes_bit_for_bit(
    finished: tuple[Program, dict[str, Any]],
) -> None:
    program, _ = finished
    arguments = ["run", "tiny", "--config", str(program.config), "--run", "killed", "--resume"]
    for stage in TRAINING:
        process = program.start(*arguments)
        code = program.end_after(process, "killed", stage, 3, signal.SIGKILL)
        assert code == -signal.SIGKILL, stage
        assert not (program.stage_dir("killed", stage) / "step_000008").exists(), stage
    program.run(*arguments, "--stages", "base,mid,sft,rl")
    _assert_equal_runs(program, "straight", "killed")


@pytest.mark.long
def test_kills_at_random_moments_resume_bit_for_bit(
    finished: tuple[Program, dict[str, Any]],
) -> None:
    program, _ = finished
    arguments = ["run", "tiny", "--config", str(program.config), "--run", "random", "--resume"]
    moments = random.Random(11)
    for _ in range(20):
        process = program.start(*arguments)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=moments.uniform(3.0, 12.0))
        process.kill()
        process.communicate()
    program.run(*arguments, "--stages", "prepare,tokenize,base,mid,sft,rl")
    _assert_equal_runs(program, "straight", "random")


def _assert_equal_runs(program: Program, one: str, other: str) -> None:
    """The same metrics at the same steps, and the same bytes of weights and moments."""
    for stage in TRAINING:
        first, second = (program.metrics(run, stage) for run in (one, other))
        for name in ("step", "train/loss", "train/grad_norm", "rl/mean_reward"):
            assert [m.get(name) for m in second] == [m.get(name) for m in first], (stage, name)
        for file in ("model.safetensors", "optimizer.safetensors"):
            contents = [
                (program.stage_dir(run, stage) / "step_000008" / file).read_bytes()
                for run in (one, other)
            ]
            assert contents[0] == contents[1], (stage, file)
        books = [program.stage_dir(run, stage) / "mixture.json" for run in (one, other)]
        assert [file.exists() for file in books] == [stage in ("mid", "sft")] * 2
        if books[0].exists():
            assert books[0].read_text() == books[1].read_text(), stage


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on(
    finished: tuple[Program, dict[str, Any]], signum: signal.Signals, code: int
) -> None:
    program, _ = finished
    run = f"stopped-{code}"
    process = program.start(
        "train", "base", "--config", str(program.config), "--run", run,
        "--set", "tokenize.name=straight", "--num-iterations", "2000", "--preset", "tiny",
    )  # fmt: skip
    assert program.end_after(process, run, "base", 3, signum) == code
    saved = program.stage_dir(run, "base")
    last = max(int(path.name.removeprefix("step_")) for path in saved.glob("step_*"))
    resumed = program.run_json(
        "train", "base", "--run", run, "--resume", "--num-iterations", str(last + 2)
    )
    assert resumed["metrics"]["train/loss"] > 0
    assert [line["step"] for line in program.metrics(run, "base")] == list(range(1, last + 3))


def test_single_commands_go_on_with_the_run(finished: tuple[Program, dict[str, Any]]) -> None:
    program, _ = finished
    evaluated = program.run_json(
        "eval", "--run", "straight", "--task", "SYNTHETIC/more_steps", "--from", "sft",
        "--max-examples", "4", "--protocol", "categorical",
    )  # fmt: skip
    [result] = evaluated["results"]
    assert (result["protocol"], result["num_scored"]) == ("categorical", 4)
    assert sum(result["letter_histogram"].values()) == 20
    spoken = program.run_json(
        "chat", "What is 2 plus 3?", "--run", "straight", "--max-new-tokens", "5"
    )
    assert set(spoken) == {"text", "tokens", "finish"}
    assert 1 <= len(spoken["tokens"]) <= 5
    assert "straight" in program.run("runs").stdout
    assert "report.md" in program.run("report", "--run", "straight").stdout


def test_two_processes_give_the_losses_of_one(finished: tuple[Program, dict[str, Any]]) -> None:
    program, _ = finished
    common = (
        "--preset", "tiny", "--config", str(program.config), "--set", "tokenize.name=straight",
        "--dtype", "float32",
    )  # fmt: skip
    program.run("train", "base", "--run", "one", *common)
    program.run("train", "base", "--run", "two", "--num-processes", "2", *common)
    one, two = (
        [line["train/loss"] for line in program.metrics(run, "base")] for run in ("one", "two")
    )
    assert two == pytest.approx(one, rel=1e-4)
