from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from datetime import datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aquachat.cli.command import check_choice, new_run_name, recorded_recipe, with_names
from aquachat.cli.options import Settings, parse_assignments, recipe_command
from aquachat.config.recipes import SECTIONS, Recipe
from aquachat.errors import ConfigError
from aquachat.paths import Home


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sft.lr_scale=0.1", 0.1),
        ("sft.lr_scale = 0.1", 0.1),
        ("sft.lr_scale=1", 1),
        ("sft.lr_scale=true", True),
        ("sft.lr_scale='0.1'", "0.1"),
        ("sft.lr_scale=cpu", "cpu"),
        ("sft.lr_scale=a=b", "a=b"),
        ('sft.lr_scale=["AQUA", "GSM8K"]', ["AQUA", "GSM8K"]),
        ("sft.lr_scale={aqua = 0.5, drills = 0.5}", {"aqua": 0.5, "drills": 0.5}),
    ],
)
def test_an_assignment_is_a_toml_value_or_a_word(text: str, value: object) -> None:
    assert parse_assignments([text]) == {"sft": {"lr_scale": value}}


def test_the_last_assignment_of_a_key_wins() -> None:
    found = parse_assignments(["rl.top_k=1", "rl.epsilon=0.1", "run.seed=3", "rl.top_k=2"])
    assert found == {"rl": {"top_k": 2, "epsilon": 0.1}, "run": {"seed": 3}}
    assert parse_assignments(None) == {}


@pytest.mark.parametrize("text", ["sft", "sft.lr_scale", "lr_scale=1", "sft.=1", "=", ""])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an assignment") as caught:
        parse_assignments([text])
    assert "--set" in (caught.value.hint or "")


@pytest.mark.parametrize("section", SECTIONS)
def test_the_flags_of_a_section_are_its_fields_marked_so(section: str) -> None:
    flags = {field.name: field for field in fields(SECTIONS[section]) if field.metadata["flag"]}
    app = typer.Typer()

    @app.command()
    @recipe_command(section, common=())
    def command(settings: Settings) -> None:
        """Show what was typed."""
        typer.echo(json.dumps(settings.overrides))

    runner = CliRunner()
    assert json.loads(runner.invoke(app, []).stdout) == {}
    for name, field in flags.items():
        assert field.default is not MISSING
        value = field.metadata["choices"][-1] if field.metadata["choices"] else field.default
        typed = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):  # a flag without a value turns it on
            result, value = runner.invoke(app, [typed]), True
        else:
            result = runner.invoke(app, [typed, str(value)])
        assert json.loads(result.stdout) == {section: {name: value}}
    for field in fields(SECTIONS[section]):
        if field.name not in flags:
            assert runner.invoke(app, [f"--{field.name.replace('_', '-')}", "1"]).exit_code == 2


def test_every_field_of_a_recipe_says_what_it_is() -> None:
    for section, stage in SECTIONS.items():
        for field in fields(stage):
            assert len(field.metadata["help"]) > 3, f"{section}.{field.name}"


def test_names_are_filled_in_where_there_are_none() -> None:
    filled = with_names(Recipe(), "mine")
    assert (filled.tokenize.name, filled.base.corpus) == ("mine", "mine")
    recipe = replace(Recipe(), base=replace(Recipe().base, corpus="other"))
    assert with_names(recipe, "mine").base.corpus == "other"


def test_a_new_run_is_named_by_preset_and_time() -> None:
    now = datetime(2026, 1, 31, 12, 0, 5)
    assert new_run_name("tiny", now) == "tiny-20260131-120005"
    assert new_run_name(None, now) == "run-20260131-120005"


def test_the_recipe_of_the_stage_comes_before_that_of_the_latest(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert recorded_recipe(home, "mine") is None
    for stage in ("base", "mid"):
        folder = home.stage("mine", stage)
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text("")
    assert recorded_recipe(home, "mine") == home.stage("mine", "mid") / "recipe.toml"
    for stage, found in (("base", "base"), ("rl", "mid")):
        path = recorded_recipe(home, "mine", stage=stage)
        assert path == home.stage("mine", found) / "recipe.toml"


def test_a_choice_is_one_of_those_allowed() -> None:
    assert check_choice("stage", "sft", ("sft", "rl")) == "sft"
    with pytest.raises(ConfigError, match="no stage `sftt`") as caught:
        check_choice("stage", "sftt", ("sft", "rl"))
    assert caught.value.hint == "use sft, rl"
