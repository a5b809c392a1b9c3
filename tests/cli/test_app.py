"""What the program says: exit code, stdout and stderr of each call, together, in `snapshots/`.

After a wording was changed on purpose: `AQUACHAT_UPDATE_SNAPSHOTS=1 pytest tests/cli/test_app.py`,
and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from aquachat.cli.app import make_app
from tests.cli.programs import Cli, Outcome

SNAPSHOTS = Path(__file__).parent / "snapshots"
ROW = {"question": "What is 2 + 3?", "options": ["A)4", "B)5", "C)6"], "rationale": "2 + 3 = 5"}
FILES = {
    "typo_key.toml": "[sft]\nmatrix_lrr = 0.01\n",
    "typo_section.toml": "[sftt]\nmatrix_lr = 0.01\n",
    "wrong_type.toml": '[sft]\nmatrix_lr = "fast"\n',
    "no_section.toml": "seed = 1\n",
    "not_toml.toml": "[sft\n",
    "truncated.jsonl": json.dumps(ROW | {"correct": "B"}) + '\n{"question": "What is 3 + 4?", "opt',
    "no_rows.jsonl": '{"question": "What is 3 + 4?", "opt',
    "binary.jsonl": "\x00\x01\x02",
}

IN_EMPTY_HOME = {
    "version": ["--version"],
    "unknown_preset": ["run", "tinny"],
    "unknown_stage": ["run", "tiny", "--stages", "sft,evla"],
    "unknown_key": ["run", "tiny", "--config", "typo_key.toml"],
    "unknown_section": ["run", "tiny", "--config", "typo_section.toml"],
    "value_of_another_type": ["run", "tiny", "--config", "wrong_type.toml"],
    "key_outside_a_section": ["run", "tiny", "--config", "no_section.toml"],
    "file_that_is_not_toml": ["run", "tiny", "--config", "not_toml.toml"],
    "missing_config_file": ["run", "tiny", "--config", "nowhere.toml"],
    "assignment_without_a_value": ["run", "tiny", "--set", "sft.matrix_lr"],
    "assignment_of_an_unknown_key": ["run", "tiny", "--set", "sft.matrix_lrr=0.01"],
    "negative_depth": ["train", "base", "--depth", "-3"],
    "negative_steps": ["train", "base", "--num-iterations", "-1"],
    "unknown_dtype": ["run", "tiny", "--dtype", "float99"],
    "unknown_wandb_mode": ["run", "tiny", "--wandb", "sometimes"],
    "bad_run_name": ["run", "tiny", "--run", "a b"],
    "base_before_tokenize": ["train", "base", "--preset", "tiny"],
    "sft_without_a_run": ["train", "sft"],
    "rl_without_a_run": ["rl"],
    "eval_without_a_run": ["eval", "--task", "AQUA"],
    "chat_without_a_run": ["chat", "hello"],
    "report_without_a_run": ["report"],
    "unknown_dataset": ["prepare", "aquaa"],
    "missing_source": ["prepare", "aqua", "--source", "nowhere.jsonl"],
    "truncated_rows": ["prepare", "aqua", "--source", "truncated.jsonl"],
    "file_without_a_usable_row": ["prepare", "aqua", "--source", "no_rows.jsonl"],
    "file_that_is_no_text": ["prepare", "aqua", "--source", "binary.jsonl"],
    "output_dir_for_two_datasets": ["prepare", "aqua", "gsm8k", "--output-dir", "here"],
}
IN_TRAINED_HOME = {
    "mid_before_base": ["train", "mid", "--run", "nosuch"],
    "sft_of_an_absent_run": ["train", "sft", "--run", "nosuch"],
    "rl_before_sft": ["rl", "--run", "half"],
    "stage_that_has_results": ["train", "mid", "--run", "whole"],
    "run_that_has_results": ["run", "tiny", "--run", "whole", "--stages", "base"],
    "depth_without_a_run": ["train", "sft", "--depth", "8"],
    "eval_of_an_unknown_task": ["eval", "--run", "whole", "--task", "AQUUA"],
    "eval_of_an_unprepared_task": ["eval", "--run", "whole", "--task", "GSM8K"],
    "eval_of_an_unknown_split": ["eval", "--run", "whole", "--task", "SYNTHETIC/new_number"],
    "eval_by_an_unknown_protocol": ["eval", "--run", "whole", "--protocol", "generativ"],
    "eval_of_an_absent_step": ["eval", "--run", "whole", "--from", "sft@99"],
    "from_no_stage_and_no_path": ["train", "sft", "--run", "half", "--from", "sfft"],
    "empty_question": ["chat", "", "--run", "whole"],
}


def _check(cli: Cli, name: str, arguments: list[str]) -> Outcome:
    for file, text in FILES.items():
        (cli.folder / file).write_text(text)
    outcome = cli(*arguments)
    shown = cli.shown(outcome)
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("AQUACHAT_UPDATE_SNAPSHOTS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")
    return outcome


@pytest.mark.parametrize("name", IN_EMPTY_HOME)
def test_a_new_user_is_told_what_is_wrong(cli: Cli, name: str) -> None:
    outcome = _check(cli, name, IN_EMPTY_HOME[name])
    _check_voice(outcome)


@pytest.mark.parametrize("name", IN_TRAINED_HOME)
def test_what_a_run_lacks_or_has_is_said(trained: Cli, name: str) -> None:
    outcome = _check(trained, name, IN_TRAINED_HOME[name])
    _check_voice(outcome)


def _check_voice(outcome: Outcome) -> None:
    """A known failure is one sentence and one hint on stderr, and nothing on stdout."""
    if outcome.code == 0:
        return
    assert outcome.code in (1, 2)
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    [error] = [line for line in lines if line.startswith("error: ")]
    assert not error.endswith(".")
    assert len([line for line in lines if line.startswith("hint: ")]) == 1
    assert "Traceback" not in outcome.stderr


def test_every_snapshot_belongs_to_a_test() -> None:
    files = {path.stem for path in SNAPSHOTS.glob("*.txt")}
    assert files == IN_EMPTY_HOME.keys() | IN_TRAINED_HOME.keys()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["frobnicate"], "frobnicate"),
        (["train", "frobnicate"], "frobnicate"),
        (["run", "tiny", "--dyr-run"], "--dyr-run"),
        (["run", "tiny", "--depth", "deep"], "--depth"),
        (["run", "tiny", "--num-processes", "0"], "--num-processes"),
        (["chat", "hello", "--temperature", "-1"], "--temperature"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_word(
    cli: Cli, arguments: list[str], word: str
) -> None:
    outcome = cli(*arguments, code=2)
    assert outcome.stdout == ""
    assert word in outcome.stderr
    assert "--help" in outcome.stderr


def test_help_names_every_command_and_where_to_start(cli: Cli) -> None:
    outcome = cli("--help", code=0)
    assert outcome.stderr == ""
    assert "aquachat run tiny" in outcome.stdout
    names = [command.name for command in make_app().registered_commands]
    for word in [*names, "train", "Pipeline", "Use", "Inspect", "--version"]:
        assert word is not None
        assert word in outcome.stdout
    assert cli("-h").stdout == outcome.stdout
    assert cli().stdout.strip() == outcome.stdout.strip()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_ends_with_3(cli: Cli) -> None:
    outcome = cli("run", "tiny", "--device", "cuda", code=3)
    assert outcome.stdout == ""
    assert "error: torch" in outcome.stderr
    assert "hint: use `--device cpu`" in outcome.stderr


def test_a_known_failure_shows_its_traceback_when_asked(cli: Cli) -> None:
    outcome = cli("run", "tinny", AQUACHAT_DEBUG="1", code=2)
    assert outcome.stderr.startswith("Traceback")
    assert "error: there is no preset `tinny`" in outcome.stderr


@pytest.mark.parametrize("arguments", [*IN_EMPTY_HOME.values()][1:], ids=" ".join)
def test_an_error_leaves_stdout_empty_with_json_too(cli: Cli, arguments: list[str]) -> None:
    for file, text in FILES.items():
        (cli.folder / file).write_text(text)
    outcome = cli(*arguments, "--json")
    if outcome.code:
        assert outcome.stdout == ""
    else:
        json.loads(outcome.stdout)
