"""CORE, ChatCORE and bits per byte on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import DataError
from aquachat.eval.predictions import read_predictions
from aquachat.pipeline.recomputing import recompute_run
from aquachat.track.logger import read_metrics
from tests.cli.programs import Cli
from tests.eval.core_bundle import write_bundle

ARC = {
    "question": "What gives light?",
    "choices": {"text": ["the sun", "a stone", "sand", "ice"], "label": ["A", "B", "C", "D"]},
    "answerKey": "A",
}
AQUA = {
    "question": "What is 2 + 3?",
    "options": ["A)4", "B)5", "C)6", "D)7", "E)8"],
    "rationale": "2 + 3 = 5",
    "correct": "B",
}


@pytest.fixture
def with_core(trained: Cli) -> Iterator[Cli]:
    """The finished runs, and a small bundle of CORE."""
    folder = write_bundle(trained.home / "data" / "core")
    yield trained
    folder.rename(trained.folder / f"core-{len(list(trained.folder.iterdir()))}")


def evaluated(cli: Cli, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cli("eval", *arguments, "--json", code=0).stdout)
    return document


def evals(cli: Cli, run: str) -> Path:
    return cli.home / "runs" / run / "eval"


def test_core_is_measured_of_the_base_model_and_named_partial(with_core: Cli) -> None:
    document = evaluated(with_core, "--run", "half", "--task", "CORE")
    assert document.keys() == {"run", "results", "comparisons", "scores"}
    assert [
        (r["checkpoint"], r["task"], r["split"], r["protocol"]) for r in document["results"]
    ] == [("base@8", "CORE", label, "core") for label in ("capitals", "pronouns", "counting")]
    (score,) = document["scores"]
    assert (score["stage"], score["checkpoint"], score["name"]) == ("base", "base@8", "CORE")
    assert (score["metric"], score["num_measured"], score["num_tasks"]) == (
        "core/metric_partial", 3, 4,
    )  # fmt: skip
    assert score["absent"] == ["absent_task"]
    centred = [task["centred"] for task in score["tasks"].values()]
    assert score["value"] == pytest.approx(sum(centred) / 3)
    kept = json.loads((evals(with_core, "half") / "base@8-CORE.score.json").read_text())
    assert kept == {"run": "half", **score}
    rows = read_predictions(
        evals(with_core, "half") / "base@8-CORE-capitals-core.predictions.jsonl"
    )
    assert sum(row.correct for row in rows) / len(rows) == document["results"][0]["accuracy"]


def test_scores_are_recomputed_bit_for_bit(with_core: Cli) -> None:
    document = evaluated(with_core, "--run", "half", "--task", "CORE")
    folder = evals(with_core, "half")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = evaluated(with_core, "--run", "half", "--recompute")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert document["scores"][0] in again["scores"]


def test_a_score_follows_the_predictions(with_core: Cli, tmp_path: Path) -> None:
    evaluated(with_core, "--run", "half", "--task", "CORE")
    folder = tmp_path / "eval"
    shutil.copytree(evals(with_core, "half"), folder)
    path = folder / "base@8-CORE-capitals-core.predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps({**row, "correct": True}) + "\n" for row in rows), "utf-8")
    kept = json.loads((folder / "base@8-CORE.score.json").read_text("utf-8"))
    (folder / "base@8-CORE-pronouns-core.predictions.jsonl").unlink()
    found = next(s for s in recompute_run(folder, "half")["scores"] if s["name"] == "CORE")
    assert found["tasks"]["capitals"]["centred"] == 1.0
    assert found["tasks"]["pronouns"] == kept["tasks"]["pronouns"]
    centred = [task["centred"] for task in found["tasks"].values()]
    assert found["value"] == pytest.approx(sum(centred) / 3)
    written = json.loads((folder / "base@8-CORE.score.json").read_text("utf-8"))
    assert written == {"run": "half", **found}


def test_a_score_that_does_not_say_what_it_was_made_of_is_refused(
    with_core: Cli, tmp_path: Path
) -> None:
    evaluated(with_core, "--run", "half", "--task", "CORE")
    folder = tmp_path / "eval"
    shutil.copytree(evals(with_core, "half"), folder)
    (folder / "base@8-CORE.score.json").write_text('{"checkpoint": "base@8"}', "utf-8")
    with pytest.raises(DataError, match="does not say what it was made of"):
        recompute_run(folder, "half")


def test_a_person_reads_what_is_absent(with_core: Cli) -> None:
    shown = with_core("eval", "--run", "half", "--task", "core", "--max-examples", "4").stdout
    assert shown.startswith("Partial CORE of base@8, 3 of 4 tasks: ")
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("absent_task")] == [
        ["absent_task", "absent"]
    ]
    with_core("report", "--run", "half", code=0)
    report = (with_core.home / "runs" / "half" / "report.md").read_text()
    assert "Partial CORE of base@8, 3 of 4 tasks" in report
    assert "Not measured: absent_task." in report


def test_one_task_of_core_makes_no_score(with_core: Cli) -> None:
    document = evaluated(with_core, "--run", "half", "--task", "CORE/pronouns")
    assert document.keys() == {"run", "results", "comparisons"}
    assert [entry["split"] for entry in document["results"]] == ["pronouns"]


def test_core_compares_checkpoints_question_by_question(with_core: Cli) -> None:
    document = evaluated(
        with_core, "--run", "whole", "--task", "CORE/capitals", "--from", "base", "--from", "sft"
    )
    (row,) = document["comparisons"]
    assert (row["a"], row["b"], row["split"]) == ("base@8", "sft@8", "capitals")
    assert row["num_questions"] == 12


def test_bits_per_byte_are_those_of_training(trained: Cli) -> None:
    document = evaluated(trained, "--run", "half", "--task", "BPB", "--task", "BPB/train")
    held_out, seen = document["results"]
    last = read_metrics(trained.home / "runs" / "half" / "base" / "metrics.jsonl")[-1]
    assert held_out["metrics"] == {"val/bpb": pytest.approx(last["val/bpb"], rel=1e-6)}
    assert held_out["nats_per_token"] == pytest.approx(last["val/loss"], rel=1e-6)
    assert held_out["num_bytes"] > 0
    assert seen["metrics"].keys() == {"train/bpb"}
    assert "scores" not in document
    shown = trained("eval", "--run", "half", "--task", "BPB").stdout
    assert f"{last['val/bpb']:.4f}" in shown


def test_bits_per_byte_of_a_later_stage_are_on_the_same_text(trained: Cli) -> None:
    document = evaluated(
        trained, "--run", "whole", "--task", "BPB", "--from", "base", "--from", "sft"
    )
    base, sft = document["results"]
    assert (base["num_bytes"], base["num_tokens"]) == (sft["num_bytes"], sft["num_tokens"])
    assert base["bits_per_byte"] != sft["bits_per_byte"]


def test_bits_per_byte_of_another_vocabulary_are_on_the_same_text(cli: Cli) -> None:
    for name, size in (("one", "560"), ("two", "600")):
        cli(
            "run", "tiny", "--config", "micro.toml", "--run", name, "--stages", "tokenize,base",
            "--set", f"tokenize.vocab_size={size}", "--set", "base.eval_tokens=0", code=0,
        )  # fmt: skip
    document = evaluated(
        cli, "--run", "one", "--task", "BPB", "--from", "base", "--from", "two/base"
    )
    own, other = document["results"]
    assert own["num_bytes"] == other["num_bytes"] > 0
    assert own["num_tokens"] > other["num_tokens"]


@pytest.mark.parametrize(
    ("task", "sentence", "hint"),
    [
        ("CORE", "CORE is not prepared: there is no", "run `aquachat prepare core`"),
        ("BPB/test", "bits per byte have no split `test`", "did you mean `--task BPB/train`?"),
    ],
)
def test_what_cannot_be_measured_is_said(trained: Cli, task: str, sentence: str, hint: str) -> None:
    outcome = trained("eval", "--run", "whole", "--task", task)
    assert outcome.code in (1, 2)
    assert outcome.stdout == ""
    assert f"error: {sentence}" in outcome.stderr
    assert f"hint: {hint}" in outcome.stderr


def test_an_unknown_task_of_core_names_the_closest(with_core: Cli) -> None:
    outcome = with_core("eval", "--run", "half", "--task", "CORE/capital", code=2)
    assert "error: CORE has no task `capital`" in outcome.stderr
    assert "hint: did you mean `--task CORE/capitals`?" in outcome.stderr


def test_an_absent_task_of_core_is_no_result(with_core: Cli) -> None:
    outcome = with_core("eval", "--run", "half", "--task", "CORE/absent_task", code=1)
    assert "has no rows of `absent_task`" in outcome.stderr


@pytest.fixture
def with_chat_tasks(trained: Cli) -> Iterator[Cli]:
    """The finished runs, with a few rows of ARC-Easy and AQuA."""
    written = []
    for name, split, row in (("arc-easy", "test", ARC), ("aqua", "validation", AQUA)):
        folder = trained.home / "data" / name
        folder.mkdir(parents=True)
        (folder / f"{split}.jsonl").write_text((json.dumps(row) + "\n") * 3)
        written.append(folder)
    yield trained
    for folder in written:
        folder.rename(trained.folder / f"{folder.name}-{len(list(trained.folder.iterdir()))}")


def test_chatcore_asks_what_is_prepared_and_names_the_rest(with_chat_tasks: Cli) -> None:
    document = evaluated(
        with_chat_tasks, "--run", "whole", "--task", "CHATCORE", "--from", "sft",
        "--max-examples", "2", "--max-new-tokens", "4",
    )  # fmt: skip
    asked = {r["task"]: r for r in document["results"]}
    assert asked["ARC-EASY"]["protocol"] == asked["AQUA"]["protocol"] == "categorical"
    (score,) = document["scores"]
    assert (score["name"], score["metric"]) == ("CHATCORE", "chatcore/metric_partial")
    assert {"ARC-CHALLENGE", "MMLU", "GSM8K"} <= set(score["absent"])
    assert score["tasks"].keys() == asked.keys()
    assert score["tasks"]["AQUA"]["baseline"] == 0.2
    assert score["tasks"]["AQUA"]["accuracy"] == asked["AQUA"]["accuracy"]


def test_chatcore_comes_of_its_tasks_asked_one_by_one(with_chat_tasks: Cli) -> None:
    both = ("--run", "whole", "--task", "AQUA", "--task", "ARC-EASY", "--from", "sft")
    document = evaluated(with_chat_tasks, *both, "--protocol", "categorical")
    assert [score["name"] for score in document["scores"]] == ["CHATCORE"]
    alone = evaluated(with_chat_tasks, *both[:4], "--from", "sft")
    assert "scores" not in alone


TRAIN = ("run", "tiny", "--config", "micro.toml", "--run", "made", "--stages", "tokenize,base")


def test_base_training_logs_core_beside_the_validation_loss(cli: Cli) -> None:
    write_bundle(cli.home / "data" / "core")
    cli(*TRAIN, "--set", "base.core_examples=3", "--set", "base.core_every=4", code=0)
    lines = read_metrics(cli.home / "runs" / "made" / "base" / "metrics.jsonl")
    having = [line for line in lines if "core/metric_partial" in line]
    assert [line["step"] for line in having] == [4, 8]
    labels = {"core/capitals", "core/pronouns", "core/counting"}
    assert all(labels <= line.keys() for line in having)
    last = having[-1]
    assert last["core/metric_partial"] == pytest.approx(sum(last[name] for name in labels) / 3)
    assert {"val/bpb", "val/loss"} <= last.keys()


def test_base_training_without_the_bundle_warns_and_goes_on(cli: Cli) -> None:
    outcome = cli(*TRAIN, "--set", "base.core_examples=3", code=0)
    assert "warning: CORE is not prepared, so base training does not measure it" in outcome.stderr
    lines = read_metrics(cli.home / "runs" / "made" / "base" / "metrics.jsonl")
    assert not any(name.startswith("core/") for line in lines for name in line)
