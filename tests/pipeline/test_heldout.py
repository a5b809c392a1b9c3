"""The held-out slice is for evaluation: it is a task, and no training reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.config.recipes import SftRecipe
from aquachat.data.prepare import prepare_dataset
from aquachat.errors import ConfigError, MissingFileError
from aquachat.pipeline.mixtures import DataFolders, PartRequest, part_source
from tests.data.hygiene.questions import generated_questions


@pytest.fixture
def folders(tmp_path: Path) -> DataFolders:
    raw = tmp_path / "train.jsonl"
    row = {"options": ["A)4", "B)5", "C)6"], "rationale": "It is so.", "correct": "B"}
    questions = generated_questions(50)
    raw.write_text("".join(json.dumps({"question": q, **row}) + "\n" for q in questions))
    prepare_dataset("aqua", source=raw, output_dir=tmp_path / "data" / "aqua")
    return DataFolders(tmp_path / "data", tmp_path / "data" / "aqua")


def asked(folders: DataFolders, name: str, split: str | None = None) -> set[str]:
    task = folders.task(name, split)
    items = [task[index].item for index in range(len(task))]
    return {item.question for item in items if item is not None}


def test_training_reads_every_row_but_those_held_out(folders: DataFolders) -> None:
    held_out = asked(folders, "AQUA-HELDOUT")
    assert len(held_out) == 10
    assert folders.task("aqua-heldout")[0].id == "aqua/heldout/1"
    assert not held_out & asked(folders, "AQUA", "train")
    recipe = SftRecipe(mixture={"aqua": 1.0})
    dataset = part_source("aqua").build(PartRequest("aqua", recipe, "sft", 0, folders))
    prompts = [dataset.get(index, epoch=0).messages[0].text for index in range(len(dataset))]
    assert len(prompts) == 40
    assert not any(prompt.startswith(question) for prompt in prompts for question in held_out)


def test_the_slice_has_no_training_split(folders: DataFolders) -> None:
    for split in ("train", "validation"):
        with pytest.raises(ConfigError):
            folders.task("AQUA-HELDOUT", split)
    with pytest.raises(ConfigError):
        folders.task("AQUA", "heldout")


def test_a_folder_without_the_slice_still_works(folders: DataFolders, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.jsonl").write_bytes((folders.aqua_dir / "train.jsonl").read_bytes())
    named = DataFolders(folders.data_root, other)
    assert len(named.task("AQUA", "train")) == 40
    with pytest.raises(MissingFileError, match="other"):
        named.task("AQUA-HELDOUT")
