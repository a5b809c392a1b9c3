from __future__ import annotations

from pathlib import Path

import pytest

from aquachat.errors import DataError, MissingFileError
from aquachat.eval.predictions import Prediction, read_predictions, write_predictions
from aquachat.eval.results import recompute

ROW = Prediction(
    id="aqua/test/1",
    order=3,
    sample=1,
    question="What?\n1 A\n\u2028 2 B",
    gold="B",
    choices=("A", "B"),
    answer=None,
    correct=False,
    reward=0.0,
    reply="half\u0085 a 😀",
    parts=({"type": "text", "text": "half"},),
    finish="length",
    num_prompt_tokens=9,
    num_tokens=4,
    probabilities={"A": 0.25, "B": 0.75},
    attributes={"tier": "hard", "num_steps": 3},
)


def test_rows_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [
        ROW,
        Prediction(
            id="x",
            question="",
            gold="7",
            answer="7",
            correct=True,
            reward=1.1,
            reply="",
            finish="stop",
        ),
    ]
    write_predictions(path, [ROW.__class__.from_json(row.to_json()) for row in rows])
    assert read_predictions(path) == rows
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [ROW])
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_predictions(path, [ROW, None])  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "x"}', '"text"'])
def test_a_line_that_is_no_prediction_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [ROW])
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(DataError, match="line 2 of"):
        read_predictions(path)


def test_an_empty_file_holds_no_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [])
    assert read_predictions(path) == []


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no predictions in"):
        read_predictions(tmp_path / "none.jsonl")


def test_no_predictions_give_no_result() -> None:
    with pytest.raises(DataError, match="AQUA/test has no prediction"):
        recompute([], task="AQUA", split="test", protocol="generative")
