"""Completion in bash, zsh and fish: Typer's scripts, and what they are answered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.programs import Cli

SHELLS = ("bash", "zsh", "fish")


def _script(cli: Cli, shell: str) -> str:
    return cli(code=0, _AQUACHAT_COMPLETE=f"source_{shell}").stdout


def _asked(cli: Cli, shell: str, typed: str) -> list[str]:
    """What the script of `shell` is answered when `typed` stands on the line."""
    variables = {"_AQUACHAT_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        words = typed.split(" ")
        variables |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    else:
        variables |= {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return cli(code=0, **variables).stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_what_the_shell_can_read(tmp_path: Path, shell: str) -> None:
    script = _script(Cli(tmp_path), shell)
    assert "aquachat" in script
    assert f"complete_{shell}" in script
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    file = tmp_path / "script"
    file.write_text(script)
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("aquachat ru", ["run", "runs"]),
        ("aquachat train m", ["mid"]),
        ("aquachat eval --option-o", ["--option-orders"]),
    ],
)
def test_what_is_offered_begins_with_what_was_typed(
    tmp_path: Path, shell: str, typed: str, offered: list[str]
) -> None:
    text = "\n".join(_asked(Cli(tmp_path), shell, typed))
    last = typed.rpartition(" ")[2]
    for name in offered:
        assert name in text
    if shell == "bash":
        assert all(line.startswith(last) for line in text.splitlines())


def test_bash_itself_completes_a_command(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = tmp_path / "aquachat"
    code = "from aquachat.cli.app import make_app; make_app()(prog_name='aquachat')"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(_script(Cli(tmp_path), "bash"))
    line = (
        f"source {tmp_path}/script; COMP_WORDS=(aquachat tok); COMP_CWORD=1;"
        f' _aquachat_completion {program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("tokenize\n", "")
