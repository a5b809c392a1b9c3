from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.data.prepare import prepare_dataset
from aquachat.data.sources import SplitFiles, read_data_toml
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rows import validate_choice_row


def test_the_real_aqua_files_are_prepared_without_losing_an_evaluation_row(
    real_data: Path, tmp_path: Path
) -> None:
    splits = read_data_toml(real_data)["aqua"]
    source = SplitFiles("real", {"train": splits["train"], "validation": splits["validation"]})
    report = prepare_dataset("aqua", source=source, output_dir=tmp_path)
    train, validation = report.splits["train"], report.splits["validation"]
    held_out = report.splits["heldout"]
    assert train.rows_read == 9926
    assert train.rows + held_out.rows + sum(train.rejected.values()) == 9926
    assert 9700 <= train.rows + held_out.rows < 9926
    assert held_out.rows == (train.rows + held_out.rows) // 5
    assert "in_evaluation_split" not in train.rejected
    assert train.rejected["near_evaluation_question"] == 2
    assert train.rejected["shares_evaluation_words"] == 3
    assert (validation.rows, validation.rows_read) == (254, 254)
    assert len(validation.flagged) < 5
    rows = (tmp_path / "train.jsonl").read_text().splitlines()
    assert len(rows) == train.rows
    for row in rows[::100]:
        assert isinstance(validate_choice_row(json.loads(row)), ChoiceItem)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gsm8k", {"train": 7469, "test": 1319}),
        ("arc-easy", {"train": 2232, "test": 2376}),
        ("arc-challenge", {"train": 1110, "test": 1172}),
        ("mmlu", {"validation": 285, "test": 14042}),
        ("humaneval", {"test": 164}),
        ("chat", {"train": 12184}),
        ("text", {"train": 10087, "validation": 1441}),
    ],
)
def test_the_other_real_sets_are_prepared_whole(
    real_data: Path, tmp_path: Path, name: str, expected: dict[str, int]
) -> None:
    report = prepare_dataset(name, source=real_data, output_dir=tmp_path)
    assert {split: counted.rows for split, counted in report.splits.items()} == expected
