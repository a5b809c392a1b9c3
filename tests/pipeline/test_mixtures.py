"""Mixtures by name: what a name stands for, what a stage will take, what the presets need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aquachat.config.recipes import ChatRecipe, MidRecipe, SftRecipe
from aquachat.config.resolve import preset_layers, preset_names, resolve
from aquachat.data.mixture import Mixture
from aquachat.errors import AquachatError, ConfigError, MissingFileError
from aquachat.pipeline.mixture_plan import NOT_PREPARED, many_epochs_warnings, plan_mixture
from aquachat.pipeline.mixtures import (
    PARTS,
    DataFolders,
    PartRequest,
    make_parts,
    part_source,
    train_split,
)
from aquachat.text.conversation import PartKind
from aquachat.train.schedule import chat_steps

AQUA_ROW = {
    "question": "How far does a car go in 3 hours at 60 km/h?",
    "options": ["A)180 km", "B)20 km", "C)63 km", "D)57 km", "E)360 km"],
    "rationale": "60 * 3 = 180 km\nAnswer: A",
    "correct": "A",
}
MMLU_ROW = {"question": "2 + 2?", "subject": "maths", "choices": ["3", "4", "5", "6"], "answer": 1}
CHAT_ROW = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
}


def write_rows(folder: Path, split: str, row: dict[str, Any], count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text(f"{json.dumps(row)}\n" * count)


@pytest.fixture
def folders(tmp_path: Path) -> DataFolders:
    return DataFolders(tmp_path, tmp_path / "aqua")


def request(name: str, folders: DataFolders, recipe: ChatRecipe | None = None) -> PartRequest:
    return PartRequest(name, recipe or MidRecipe(), "mid", 42, folders)


@pytest.mark.parametrize("name", [*PARTS, "gsm8k", "arc-easy", "arc-challenge", "mmlu"])
def test_a_part_that_is_not_prepared_says_how_to_prepare_it(
    folders: DataFolders, name: str
) -> None:
    source = part_source(name)
    if source.dataset is None:
        return  # generated
    with pytest.raises(MissingFileError) as caught:
        source.build(request(name, folders))
    assert str(folders.data_root) in caught.value.message
    assert caught.value.hint == f"run `aquachat prepare {source.dataset}`"


def test_a_name_that_is_no_source_names_the_closest_task(folders: DataFolders) -> None:
    with pytest.raises(ConfigError, match="there is no task `gsmk8`") as caught:
        make_parts(MidRecipe(mixture={"gsmk8": 1.0}), stage="mid", seed=0, folders=folders)
    assert "GSM8K" in str(caught.value.hint)
    with pytest.raises(ConfigError, match=r"`mid.mixture` names no data"):
        make_parts(MidRecipe(), stage="mid", seed=0, folders=folders)


def test_chat_sets_are_read_from_the_folder_of_their_name(folders: DataFolders) -> None:
    for name in ("chat", "smoltalk", "identity"):
        write_rows(folders.data_root / name, "train", CHAT_ROW, 3)
        (part,) = make_parts(MidRecipe(mixture={name: 1.0}), stage="mid", seed=0, folders=folders)
        assert (part.name, len(part.dataset)) == (name, 3)
        assert part.dataset.get(2, 5).messages[-1].text == "Hello."


def test_the_slice_of_aqua_is_the_recipes_and_has_calls_unless_told(folders: DataFolders) -> None:
    write_rows(folders.aqua_dir, "train", AQUA_ROW, 9)
    for recipe, rows, calls in (
        (SftRecipe(aqua_train_examples=4), 4, ["60*3"]),
        (SftRecipe(), 9, ["60*3"]),
        (SftRecipe(calculator=False), 9, []),
    ):
        data = part_source("aqua").build(request("aqua", folders, recipe))
        assert len(data) == rows
        parts = data.get(0, 1).messages[-1].parts
        assert [part.text for part in parts if part.kind is PartKind.PYTHON] == calls
    assert MidRecipe().aqua_train_examples == 50_000


def test_mmlu_is_trained_on_its_training_rows_where_there_are_any(folders: DataFolders) -> None:
    folder = folders.data_root / "mmlu"
    write_rows(folder, "validation", MMLU_ROW, 2)
    assert train_split(request("mmlu", folders), "mmlu") == "validation"
    assert len(part_source("mmlu").build(request("mmlu", folders))) == 2
    write_rows(folder, "train", MMLU_ROW, 7)
    assert len(part_source("mmlu").build(request("mmlu", folders))) == 7


def test_a_plan_says_shares_epochs_and_what_is_not_prepared(folders: DataFolders) -> None:
    write_rows(folders.aqua_dir, "train", AQUA_ROW, 40)
    recipe = SftRecipe(
        mixture={"aqua": 30.0, "chat": 10.0}, examples_per_epoch=400, examples_per_step=32
    )
    aqua, chat = plan_mixture(recipe, "sft", folders)
    assert (aqua.source, aqua.rows, aqua.share) == ("aqua", 40, 0.75)
    assert (aqua.examples, aqua.epochs) == (312, 7.8)  # of 13 steps with 32 examples
    assert (chat.rows, chat.share, chat.examples, chat.epochs) == (None, 0.25, 104, None)
    assert chat.cells()[1] == NOT_PREPARED
    unknown = plan_mixture(SftRecipe(mixture={"aqua": 1.0, "chat": 1.0}), "sft", folders)
    assert [part.examples for part in unknown] == [None, None]
    assert plan_mixture(SftRecipe(), "sft", folders) == []


def test_a_plan_reads_the_rows_of_the_manifest_rather_than_the_file(folders: DataFolders) -> None:
    write_rows(folders.data_root / "chat", "train", CHAT_ROW, 3)
    split = {"file": "train.jsonl", "rows": 7, "rows_read": 9, "sources": [], "flagged": []}
    manifest = {
        "format": "aquachat-data", "version": 1, "dataset": "chat", "source": "x", "licence": "y",
        "splits": {"train": split},
    }  # fmt: skip
    (folders.data_root / "chat" / "manifest.json").write_text(json.dumps(manifest))
    (chat,) = plan_mixture(SftRecipe(mixture={"chat": 1.0}), "sft", folders)
    assert chat.rows == 7
    (folders.data_root / "chat" / "manifest.json").write_text("{")
    (chat,) = plan_mixture(SftRecipe(mixture={"chat": 1.0}), "sft", folders)
    assert chat.rows == 3


def test_deepminds_own_file_is_counted_where_it_is_what_is_read(folders: DataFolders) -> None:
    write_rows(folders.aqua_dir, "train", AQUA_ROW, 5)
    (folders.aqua_dir / "train.jsonl").rename(folders.aqua_dir / "train.json")
    recipe = SftRecipe(mixture={"aqua": 1.0})
    (aqua,) = plan_mixture(recipe, "sft", folders)
    (part,) = make_parts(recipe, stage="sft", seed=0, folders=folders)
    assert aqua.rows == len(part.dataset) == 5


def test_a_source_that_would_be_learned_by_heart_is_warned_about(folders: DataFolders) -> None:
    write_rows(folders.data_root / "mmlu", "validation", MMLU_ROW, 2)
    write_rows(folders.aqua_dir, "train", AQUA_ROW, 40)
    recipe = MidRecipe(
        mixture={"mmlu": 1.0, "aqua": 9.0}, examples_per_step=10, examples_per_epoch=500
    )
    assert many_epochs_warnings(plan_mixture(recipe, "mid", folders), "mid") == [
        "mid goes 25 times over the 2 rows of mmlu; lower its weight in `mid.mixture`, or prepare "
        "more rows"
    ]


def test_a_pass_has_the_length_the_recipe_gives_it_or_uses_every_source_up() -> None:
    mixture = Mixture(["a", "b"], [100, 1000], [1, 1], 0)
    assert mixture.epoch_examples() == 2000
    assert chat_steps(MidRecipe(examples_per_step=10), mixture.epoch_examples()) == 200
    given = MidRecipe(examples_per_step=10, examples_per_epoch=300, num_epochs=2.0)
    assert chat_steps(given, mixture.epoch_examples()) == 60
    assert chat_steps(MidRecipe(num_iterations=7), 2000) == 7


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("preset", preset_names())
def test_every_source_of_a_preset_is_generated_or_prepared_by_it(
    preset: str, with_data: bool
) -> None:
    recipe = resolve(preset_layers(preset, with_data=with_data)).recipe
    for stage in (recipe.mid, recipe.sft):
        assert stage.mixture
        for name in stage.mixture:
            assert part_source(name).dataset in (None, *recipe.prepare.datasets)


@pytest.mark.parametrize("preset", ["d8", "d12", "d20", "d26"])
def test_the_weights_of_the_large_presets_are_rows_of_one_pass(preset: str) -> None:
    recipe = resolve(preset_layers(preset)).recipe
    for stage in (recipe.mid, recipe.sft):
        assert sum(stage.mixture.values()) == stage.examples_per_epoch
    assert recipe.mid.mixture["aqua"] == recipe.mid.aqua_train_examples == 50_000
    assert recipe.sft.mixture["aqua"] == recipe.sft.aqua_train_examples == 20_000
    assert recipe.sft.aqua_val_examples == 254


def test_a_weight_that_cannot_be_is_refused_by_the_plan(folders: DataFolders) -> None:
    with pytest.raises(AquachatError, match="weight inf"):
        plan_mixture(SftRecipe(mixture={"drills": float("inf")}), "sft", folders)
