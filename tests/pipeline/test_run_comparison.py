"""Two runs side by side: what differs is shown, and only what was asked of both is paired."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from aquachat.errors import ConfigError
from aquachat.eval.predictions import Prediction, write_predictions
from aquachat.eval.results import NOT_ASKED_FOR, recompute
from aquachat.pipeline.evaluation import Scored, result_stem
from aquachat.pipeline.run_comparison import compare_runs, comparison_tables

GREEDY = {"temperature": 0, "option_orders": 1, "seed": 0}


def question(number: int, *, correct: bool, words: str = "What is 1 + ") -> Prediction:
    return Prediction(
        id=f"q/{number}",
        question=f"{words}{number}?",
        gold="A",
        choices=("A", "B"),
        answer="A" if correct else "B",
        correct=correct,
        reward=float(correct),
        reply="Answer: A",
        finish="stop",
        is_well_formed=True,
    )


def write_stage(run: Path, stage: str, recipe: dict[str, Any], **metrics: float) -> None:
    folder = run / stage
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe))
    line = {"step": 20, "stage": stage, "time_s": 3.5}
    line |= {name.replace("__", "/"): value for name, value in metrics.items()}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def write_result(
    run: Path, rows: list[Prediction], *, step: int = 20, settings: dict[str, Any] = GREEDY
) -> None:
    result = recompute(
        rows,
        task="AQUA",
        split="validation",
        protocol="generative",
        num_unasked=0,
        seconds=1.0,
        options_only_note=NOT_ASKED_FOR,
    )
    document = Scored("sft", f"sft@{step}", "AQUA", "validation", result, settings).to_json()
    folder = run / "eval"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result_stem(document)}.json").write_text(json.dumps(document))
    write_predictions(folder / f"{result_stem(document)}.predictions.jsonl", rows)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a", tmp_path / "b"
    for run, lr, loss in ((a, 0.02, 1.5), (b, 0.03, 1.25)):
        recipe = {"run": {"seed": 0}, "sft": {"matrix_lr": lr, "warmup_steps": 0}}
        write_stage(run, "sft", recipe, val__loss=loss, **{"data/tokens/x": 4.0})
    write_result(a, [question(n, correct=n < 10) for n in range(40)])
    write_result(b, [question(n, correct=n < 30) for n in range(40)])
    return a, b


def test_only_settings_that_differ_are_shown(runs: tuple[Path, Path]) -> None:
    found = compare_runs(*runs)
    assert [(p.name, p.a, p.b) for p in found.settings] == [("sft.matrix_lr", 0.02, 0.03)]


def test_a_stage_that_one_run_lacks_has_settings_on_one_side(runs: tuple[Path, Path]) -> None:
    write_stage(runs[1], "rl", {"rl": {"beta": 0.1}}, rl__acc=0.5)
    found = compare_runs(*runs)
    assert ("rl.beta", None, 0.1) in [(p.name, p.a, p.b) for p in found.settings]
    assert ("rl rl/acc", None, 0.5) in [(p.name, p.a, p.b) for p in found.metrics]


def test_metrics_stand_side_by_side(runs: tuple[Path, Path]) -> None:
    found = compare_runs(*runs)
    assert ("sft val/loss", 1.5, 1.25) in [(p.name, p.a, p.b) for p in found.metrics]
    table = next(t for t in comparison_tables(found) if t.title.startswith("Metrics"))
    assert ("sft val/loss", "1.5", "1.25") in table.rows
    assert not [row for row in table.rows if "data/" in row[0]]


def test_the_difference_is_paired_by_question(runs: tuple[Path, Path]) -> None:
    (entry,) = compare_runs(*runs).comparisons
    assert (entry["a"], entry["b"]) == ("a/sft@20", "b/sft@20")
    assert entry["difference"] == pytest.approx(0.5)
    assert entry["num_questions"] == 40
    low, high = entry["ci95"]
    assert 0 < low < 0.5 < high
    (back,) = compare_runs(*reversed(runs)).comparisons
    assert back["difference"] == pytest.approx(-0.5)


def test_questions_with_the_same_id_and_other_words_are_not_paired(
    runs: tuple[Path, Path],
) -> None:
    rows = [question(n, correct=True, words="What is 2 + ") for n in range(30)]
    write_result(runs[1], [*rows, *(question(n, correct=True) for n in range(30, 40))])
    (entry,) = compare_runs(*runs).comparisons
    assert entry["num_questions"] == 10
    write_result(runs[1], rows)
    found = compare_runs(*runs)
    assert not found.comparisons
    assert "were asked different questions of AQUA validation" in found.notes[0]


def test_another_right_answer_is_another_question(runs: tuple[Path, Path]) -> None:
    write_result(runs[1], [replace(question(n, correct=True), gold="B") for n in range(40)])
    assert not compare_runs(*runs).comparisons


def test_the_newest_step_of_a_stage_is_compared(runs: tuple[Path, Path]) -> None:
    write_result(runs[1], [question(n, correct=False) for n in range(40)], step=100)
    (entry,) = compare_runs(*runs).comparisons
    assert entry["b"] == "b/sft@100"
    assert entry["difference"] == pytest.approx(-0.25)


def test_results_of_one_run_alone_are_said(runs: tuple[Path, Path]) -> None:
    for file in (runs[1] / "eval").iterdir():
        file.unlink()
    found = compare_runs(*runs)
    assert found.notes == [
        "only `a/sft@20` was evaluated on AQUA validation (sft, generative)",
    ]


@pytest.mark.parametrize(
    ("settings", "is_said"),
    [({**GREEDY, "seed": 5}, False), ({**GREEDY, "option_orders": 5}, True)],
)
def test_another_way_of_asking_is_said(
    runs: tuple[Path, Path], settings: dict[str, Any], is_said: bool
) -> None:
    rows = [question(n, correct=True) for n in range(40)]
    write_result(runs[1], rows, settings=settings)
    assert any("different ways" in note for note in compare_runs(*runs).notes) is is_said


def test_a_run_is_not_compared_with_itself(runs: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="itself"):
        compare_runs(runs[0], runs[0])


def test_runs_without_anything_can_be_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert comparison_tables(found) == []
    assert json.loads(json.dumps(found.to_json()))["settings"] == []
