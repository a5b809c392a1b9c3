from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.programs import Cli

SECRET = "wandb-value-never-to-be-seen"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.mark.parametrize("tool", ["sky", "dstack", "hf-jobs", "slurm", "kubernetes"])
def test_the_file_is_the_answer_and_holds_no_value_of_the_environment(tool: str, cli: Cli) -> None:
    arguments = ("launch", "template", tool, "--inject-env", "WANDB_API_KEY")
    outcome = cli(*arguments, code=0, WANDB_API_KEY=SECRET)
    document = json.loads(cli(*arguments, "--json", code=0, WANDB_API_KEY=SECRET).stdout)
    assert document["text"] == outcome.stdout
    assert document["file"] is None
    assert "WANDB_API_KEY" in outcome.stdout
    assert SECRET not in outcome.stdout + outcome.stderr + json.dumps(document)


def test_a_file_is_written_and_not_overwritten_unasked(cli: Cli) -> None:
    file = cli.folder / "job.yaml"
    cli("launch", "template", "sky", "--output", str(file), code=0)
    first = file.read_text()
    assert yaml.safe_load(first)["name"] == "aquachat-d8"
    again = ("launch", "template", "sky", "--preset", "d20", "--output", str(file))
    outcome = cli(*again, code=2)
    assert "--yes" in outcome.stderr
    assert file.read_text() == first
    cli(*again, "--yes", code=0)
    assert yaml.safe_load(file.read_text())["name"] == "aquachat-d20"
    assert "is a folder" in cli(*again[:-1], str(cli.folder), code=2).stderr


def test_a_command_follows_the_dashes(cli: Cli) -> None:
    words = ("python", "-m", "mine", "--preset", "$(touch pwned)", "--gpu")
    outcome = cli("launch", "template", "dstack", "--gpu", "a100", "--", *words, code=0)
    assert yaml.safe_load(outcome.stdout)["commands"][-1] == (
        "python -m mine --preset '$(touch pwned)' --gpu"
    )


def test_a_secret_inside_a_command_is_refused_and_nothing_is_written(cli: Cli) -> None:
    file = cli.folder / "job"
    outcome = cli(
        *("launch", "template", "slurm", "--output", str(file), "--", "wandb", "login", SECRET),
        code=2,
        WANDB_API_KEY=SECRET,
    )
    assert "the value of WANDB_API_KEY would be written" in outcome.stderr
    assert SECRET not in outcome.stdout + outcome.stderr
    assert not file.exists()


def test_an_unknown_tool_is_answered_with_the_known_ones(cli: Cli) -> None:
    outcome = cli("launch", "template", "nomad", code=2)
    assert "sky, dstack, hf-jobs, slurm, kubernetes" in outcome.stderr


def test_flags_reach_the_file(cli: Cli) -> None:
    outcome = cli(
        *("launch", "template", "sky", "--gpu", "h100", "--gpu", "a100", "--gpu-count", "4"),
        *("--max-hours", "2", "--max-price", "12.5", "--region", "us-east-1", "--name", "mine"),
        *("--package", "git+https://example.com/a.git", "--results", "s3://mine"),
        code=0,
    )
    task = yaml.safe_load(outcome.stdout)
    resources = task["resources"]
    assert [choice["accelerators"] for choice in resources["any_of"]] == ["H100:4", "A100:4"]
    assert resources["max_hourly_cost"] == 12.5
    assert "7200" in task["run"]
    assert "git+https://example.com/a.git" in task["setup"]
    assert task["file_mounts"]["/results"] == {"source": "s3://mine", "mode": "MOUNT"}
    assert task["name"] == "mine"
