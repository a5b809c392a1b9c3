from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import tomli_w

from aquachat.config.recipes import SECTIONS, Recipe
from aquachat.config.resolve import (
    file_layer,
    preset_layers,
    preset_names,
    resolve,
    to_toml_document,
)
from aquachat.errors import ConfigError, MissingFileError


def test_later_layers_win_and_origins_name_them() -> None:
    resolved = resolve(
        [
            ("preset x", {"sft": {"matrix_lr": 0.5, "warmup_steps": 3}}),
            ("flag", {"sft": {"matrix_lr": 1}}),
        ]
    )
    assert resolved.recipe.sft.matrix_lr == 1.0
    assert resolved.origins["sft.matrix_lr"] == "flag"
    assert resolved.origins["sft.warmup_steps"] == "preset x"
    assert resolved.origins["sft.max_tokens"] == "default"


def test_no_layer_changes_a_stage_it_does_not_name() -> None:
    assert resolve([("flag", {"rl": {"temperature": 0.7}})]).recipe.sft == Recipe().sft


@pytest.mark.parametrize(
    ("layer", "sentence", "hint"),
    [
        ({"sft": {"matrx_lr": 1.0}}, "unknown key `sft.matrx_lr`", "did you mean `matrix_lr`?"),
        ({"sfd": {}}, "unknown section `[sfd]`", "did you mean `sft`?"),
        ({"sft": {"matrix_lr": "fast"}}, "which is not a number", "--dry-run"),
        ({"sft": {"num_iterations": 1.5}}, "which is not a whole number", "--dry-run"),
        ({"sft": {"num_iterations": True}}, "which is not a whole number", "--dry-run"),
        ({"sft": {"mixture": [1]}}, "which is not a table", "--dry-run"),
        ({"eval": {"tasks": "AQUA"}}, "which is not a list", "--dry-run"),
        ({"run": {"device": "tpu"}}, "`run.device` in file.toml is `tpu`", "cuda"),
        ({"rl": {"temperature": -1}}, "which is negative", "0 or more"),
    ],
)
def test_a_bad_layer_is_one_sentence_with_a_way_out(
    layer: dict[str, dict[str, object]], sentence: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([("file.toml", layer)])
    assert sentence in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["tiny", "d8", "d12", "d20", "d26"])
def test_every_preset_resolves(name: str) -> None:
    assert name in preset_names()
    for with_data in (False, True):
        resolved = resolve(preset_layers(name, with_data=with_data))
        assert len(resolved.rows()) == sum(len(fields(s)) for s in SECTIONS.values())


def test_an_unknown_preset_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="no preset `tinny`") as caught:
        preset_layers("tinny")
    assert caught.value.hint == "did you mean `tiny`?"


def test_a_recipe_survives_its_toml_file(tmp_path: Path) -> None:
    recipe = resolve(preset_layers("tiny")).recipe
    file = tmp_path / "recipe.toml"
    file.write_text(tomli_w.dumps(to_toml_document(recipe)))
    assert resolve([file_layer(file)]).recipe == recipe


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a = [", "is not valid TOML"),
        (b"depth = 8", "stands outside a section"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        file_layer(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no configuration file .*nowhere\.toml"):
        file_layer(tmp_path / "nowhere.toml")


def test_every_field_has_help_and_flags_are_few() -> None:
    for section, stage in SECTIONS.items():
        assert all(entry.metadata["help"] for entry in fields(stage)), section
        assert sum(entry.metadata["flag"] for entry in fields(stage)) <= 18, section
