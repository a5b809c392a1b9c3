"""Commands that succeed: one JSON document, dry runs, help and its examples."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator

import pytest
import typer

from aquachat.cli.app import make_app
from aquachat.cli.processes import without_num_processes
from aquachat.config.recipes import SECTIONS, keys_of
from aquachat.config.resolve import preset_names
from tests.cli.programs import Cli, Outcome

PRESETS = ("tiny", "d8", "d12", "d20", "d26")
VOCABULARIES = {"tiny": 1024, "d8": 32_768, "d12": 65_536, "d20": 65_536, "d26": 65_536}
PARAMETERS = {
    "tiny": 851_968,
    "d8": 58_720_256,
    "d12": 185_597_952,
    "d20": 560_988_160,
    "d26": 1_081_999_360,
}


def _commands(app: typer.Typer, *before: str) -> Iterator[tuple[list[str], str]]:
    """Each command's words and its docstring."""
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        yield [*before, name], inspect.getdoc(command.callback) or ""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        assert group.name is not None
        alone = group.typer_instance.registered_callback
        if alone is not None:
            yield [*before, group.name], inspect.getdoc(alone.callback) or ""
        yield from _commands(group.typer_instance, *before, group.name)


COMMANDS = {" ".join(words): text for words, text in _commands(make_app())}
EXAMPLES = [
    line.strip()
    for text in COMMANDS.values()
    for line in text.partition("Examples:")[2].splitlines()
    if line.strip()
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_examples(cli: Cli, name: str) -> None:
    outcome = cli(*name.split(), "--help", code=0)
    assert outcome.stderr == ""
    summary, _, examples = COMMANDS[name].partition("Examples:")
    assert len(summary.split()) >= 5
    assert examples.count(f"aquachat {name}") >= 2
    assert "Examples:" in outcome.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_in_help_is_accepted(trained: Cli, example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "aquachat"
    if arguments[0] == "doctor":  # a small disk or memory is no fault of the example
        assert trained(*arguments).code in (0, 3)
        return
    if arguments[0] in ("chat", "report", "runs", "serve"):
        if arguments == ["chat"] or arguments[0] == "serve":
            return  # reads the terminal; goes on until it is stopped, see test_serve.py
        trained(*({"mine": "whole", "other": "half"}.get(word, word) for word in arguments), code=0)
        return
    if arguments[0] in ("export", "import", "sync-hf", "artifacts"):
        _share(trained, arguments)
        return
    if arguments[:2] == ["launch", "template"]:  # asks nobody, so it needs no key
        trained(*arguments, code=0)
        return
    if arguments[:2] == ["launch", "host"]:  # with --dry-run nobody is asked either
        at = arguments.index("--") if "--" in arguments else len(arguments)
        trained(*arguments[:at], "--dry-run", *arguments[at:], code=0)
        return
    if arguments[0] == "launch" and arguments[1] in ("logs", "attach", "ssh", "pull", "watch"):
        assert re.search("no job", trained(*arguments, code=1).stderr)
        return
    if arguments[0] == "launch":  # without a key nothing is asked; see test_launch.py
        assert "_API_KEY" in trained(*arguments, code=2).stderr
        return
    known = {"mine": "whole", "../shared/data": "nowhere"}
    # With more processes torchrun would start them; what they are given is tested elsewhere.
    words = [known.get(word, word) for word in without_num_processes(arguments)]
    outcome = trained(*words, "--dry-run")
    if "--depth" in arguments and arguments[1] == "sft":
        assert "there is no run of depth 8" in outcome.stderr
    else:
        assert outcome.code == 0, outcome


def _share(trained: Cli, arguments: list[str]) -> None:
    """An example of the Share panel, without a network and with what there is here."""
    store = str(trained.folder / "store")
    words = [store if "://" in word else word.replace("mine", "whole") for word in arguments]
    if arguments[0] == "export":
        trained(*words, "--no-verify", code=0)
    elif arguments[0] == "import":  # of models that are elsewhere, or under a name that is taken
        outcome = trained(*words)
        assert "there is no `" in outcome.stderr or "already exists" in outcome.stderr
    elif arguments[:2] == ["artifacts", "download"]:
        assert "there is no run" in trained(*words, code=1).stderr
    elif arguments[:2] == ["artifacts", "list"]:
        trained(*words, code=0)
    else:
        (trained.folder / "README.md").write_text("# Mine\n")
        trained(*words, *([] if "--dry-run" in words else ["--dry-run"]), code=0)


def test_the_presets_are_those_of_the_help(cli: Cli) -> None:
    assert tuple(preset_names()) == PRESETS
    listed = f"{', '.join(PRESETS[:-1])} or {PRESETS[-1]}"
    for command in (["run"], ["train", "base"]):
        words = " ".join(cli(*command, "--help", code=0).stdout.replace("│", " ").split())
        assert listed in words


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dry_run_shows_every_setting_and_does_nothing(cli: Cli, preset: str) -> None:
    document = json.loads(cli("run", preset, "--dry-run", "--json", code=0).stdout)
    names = {f"{section}.{key}" for section in SECTIONS for key in keys_of(section)}
    assert document["recipe"].keys() == document["origins"].keys() == names
    assert document["origins"]["model.depth"] == f"preset {preset}"
    assert document["parameters"] == PARAMETERS[preset]
    assert document["vocabulary"] == VOCABULARIES[preset]
    assert document["origins"]["run.seed"] == "default"
    shown = cli("run", preset, "--dry-run", code=0).stdout
    assert f"parameters: {PARAMETERS[preset]:,}\n" in shown
    assert all(name in shown for name in names)
    assert not cli.home.exists()


def test_flags_win_over_set_over_the_file_over_the_preset(cli: Cli) -> None:
    (cli.folder / "mine.toml").write_text(
        "[sft]\nmatrix_lr = 0.03\nlr_scale = 0.5\n[rl]\nnum_iterations = 7\n"
    )
    outcome = cli(
        "train", "base", "--preset", "tiny", "--config", "mine.toml", "--set", "sft.lr_scale=0.7",
        "--set", "base.matrix_lr=0.04", "--matrix-lr", "0.05", "--dry-run", "--json", code=0,
    )  # fmt: skip
    document = json.loads(outcome.stdout)
    wanted = {
        "base.matrix_lr": ("0.05", "flag"),
        "sft.lr_scale": ("0.7", "--set"),
        "sft.matrix_lr": ("0.03", "mine.toml"),
        "rl.num_iterations": ("7", "mine.toml"),
        "base.num_iterations": ("160", "preset tiny"),
        "base.weight_decay": ("0.0", "default"),
    }
    for name, (value, origin) in wanted.items():
        assert (str(document["recipe"][name]), document["origins"][name]) == (value, origin)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (
            ["prepare", "synthetic", "--max-train", "20"],
            {"datasets", "files", "downloads"},
        ),
        (["report", "--run", "whole"], {"run", "markdown", "html"}),
        (["runs"], {"runs"}),
        (
            ["eval", "--run", "whole", "--task", "SYNTHETIC/new_numbers", "--max-examples", "2"],
            {"run", "results", "comparisons"},
        ),
        (["chat", "What is 2?", "--max-new-tokens", "3"], {"text", "tokens", "finish"}),
        (
            ["run", "tiny", "--run", "whole", "--resume", "--config", "micro.toml",
             "--stages", "sft,report"],
            {"run", "preset", "seconds", "peak_rss_bytes", "stages", "eval", "comparisons",
             "samples", "report"},
        ),
        (
            ["train", "sft", "--run", "whole", "--resume"],
            {"run", "stage", "seconds", "tokens", "metrics", "checkpoint"},
        ),
    ],
)  # fmt: skip
def test_json_is_one_document(trained: Cli, arguments: list[str], keys: set[str]) -> None:
    outcome = trained(*arguments, "--json", code=0)
    assert json.loads(outcome.stdout).keys() == keys
    assert "error:" not in outcome.stderr


def test_quiet_leaves_the_answer_alone(trained: Cli) -> None:
    outcome = trained("report", "--run", "whole", "--quiet", code=0)
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines()[0].endswith("report.md")


def test_every_command_ends_with_the_next_one(trained: Cli) -> None:
    for arguments in (["report", "--run", "whole"], ["runs"], ["prepare", "synthetic"]):
        last = trained(*arguments, code=0).stderr.splitlines()[-1]
        assert last.startswith("next: `aquachat ")


def test_a_run_without_a_name_is_the_newest(trained: Cli) -> None:
    document = json.loads(trained("report", "--json", code=0).stdout)
    assert document["run"] == "whole"


def test_the_summary_of_a_run_ends_with_samples_report_and_chat(
    trained: Cli, finished: Outcome
) -> None:
    assert [line.split()[0] for line in finished.stdout.splitlines()[2:9]] == [
        "prepare", "tokenize", "base", "mid", "sft", "rl", "eval",
    ]  # fmt: skip
    assert finished.stdout.count("Reason step by step, then end with Answer: and the letter.") == 3
    assert f"report: {trained.home / 'runs' / 'whole' / 'report.md'}" in finished.stdout
    assert finished.stderr.splitlines()[-1] == "next: `aquachat chat --run whole`"
