from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.data.manifest import read_manifest
from aquachat.data.prepare import prepare_synthetic
from aquachat.errors import ConfigError
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rows import validate_choice_row
from aquachat.tasks.synthetic.generate import Split, generate_items
from aquachat.tasks.synthetic_task import synthetic_task

COUNTS: dict[Split, int] = {"train": 40, "new_numbers": 10, "new_phrasings": 10, "more_steps": 10}


def test_the_files_hold_the_items_that_training_draws_and_eval_asks(tmp_path: Path) -> None:
    report = prepare_synthetic(tmp_path, seed=3, counts=COUNTS)
    for split, count in COUNTS.items():
        lines = (tmp_path / f"{split}.jsonl").read_text().splitlines()
        if split == "train":
            items = list(generate_items(split, 3, count))
        else:
            items = list(synthetic_task(split, count=count).items)
        assert len(lines) == report.splits[split].rows == count
        for line, item in zip(lines, items, strict=True):
            row = json.loads(line)
            read = validate_choice_row(row, item.id)
            assert isinstance(read, ChoiceItem), (row, read)
            assert read.question == item.question
            assert read.options == item.options
            assert read.answer_letter == item.answer_letter
            assert row["attributes"] == dict(item.attributes)
            assert row["id"] == item.id


def test_the_report_says_what_the_set_is(tmp_path: Path) -> None:
    report = prepare_synthetic(tmp_path, counts=COUNTS)
    assert read_manifest(report.directory) == report
    for split in report.splits.values():
        assert set(split.counts) == {"letter", "tier", "num_steps", "family"}
        assert all(sum(tally.values()) == split.rows for tally in split.counts.values())
    assert "more_steps" in report.splits["more_steps"].counts["tier"]


def test_an_unknown_split_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no synthetic split `new_number`"):
        prepare_synthetic(tmp_path / "out", counts={"train": 3, "new_number": 3})
    assert not (tmp_path / "out").exists()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepare_synthetic(tmp_path / name, seed=1, counts={"train": 20})
    a, b = (tmp_path / name for name in ("a", "b"))
    assert {p.name: p.read_bytes() for p in a.iterdir()} == {
        p.name: p.read_bytes() for p in b.iterdir()
    }
