"""Imports go one way, and the command line loads nothing heavy."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aquachat

PACKAGE = Path(aquachat.__file__).parent
LAYERS = (
    {"errors", "files", "paths", "log", "__init__", "_tokenizer"},
    {"config"},
    {"text"},
    {"tasks"},
    {"world", "data"},
    {"model"},
    {"infer"},
    {"eval"},
    {"track"},
    {"train"},
    {"rl"},
    {"pipeline"},
    {"hub", "serve", "cloud"},
    {"cli", "__main__"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
EXCEPTIONS = {
    ("data", "aquachat.model.batch"),  # the shape of a batch, which the model shares
    ("cli", "aquachat.track.values"),
}
HEAVY = ("torch", "datasets", "wandb", "huggingface_hub", "paramiko", "tiktoken")


def _imports(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return [name for name in found if name.split(".")[0] == "aquachat"]


def test_imports_go_from_upper_layers_to_lower_ones() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in _imports(file):
            target = name.split(".")[1] if "." in name else "__init__"
            if RANK[target] > RANK[part] and (part, name) not in EXCEPTIONS:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
            same_level = RANK[target] == RANK[part] and target != part
            if same_level and len(LAYERS[RANK[part]] & {"hub", "serve", "cloud"}) == 3:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_loop_knows_neither_eval_nor_tasks() -> None:
    names = _imports(PACKAGE / "train" / "loop.py")
    assert not [name for name in names if name.split(".")[1] in ("eval", "tasks")]


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import aquachat.cli.app, sys, json;"
        "aquachat.cli.app.make_app();"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("command", ["run tiny", "train base --preset d8", "prepare synthetic"])
def test_a_dry_run_does_not_wait_for_torch(command: str, tmp_path: Path) -> None:
    code = (
        "import sys, contextlib; from aquachat.cli.app import main;"
        f"sys.argv = ['aquachat', *{command.split()!r}, '--dry-run', '--quiet'];\n"
        "with contextlib.suppress(SystemExit): main()\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    environ = os.environ | {"AQUACHAT_HOME": str(tmp_path)}
    command_line = [sys.executable, "-c", code]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True, env=environ)
    assert done.stderr.strip() == ""
    assert "parameters" in done.stdout


def test_modules_are_short() -> None:
    long = {
        str(file.relative_to(PACKAGE)): lines
        for file in PACKAGE.rglob("*.py")
        if (lines := len(file.read_text("utf-8").splitlines())) > 450
    }
    assert not long
