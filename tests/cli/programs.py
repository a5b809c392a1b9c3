"""The real program in this process: a home of its own, and what it printed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from typer.testing import CliRunner

from aquachat import log
from aquachat.cli.app import make_app
from tests.pipeline.programs import MICRO

KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a person and a shell see of one call."""

    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Cli:
    """Calls `aquachat` as a shell would, without the second that importing torch anew takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.config = folder / "micro.toml"
        self.config.write_text(MICRO)

    def __call__(self, *arguments: str, code: int | None = None, **variables: str) -> Outcome:
        environ = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environ |= {
            "AQUACHAT_HOME": str(self.home),
            "NO_COLOR": "1",
            "TERM": "dumb",
            "COLUMNS": "100",
        }
        before, num_threads = Path.cwd(), torch.get_num_threads()
        try:
            os.chdir(self.folder)
            torch.set_num_threads(1)  # OMP_NUM_THREADS is read when torch is imported, long ago
            with mock.patch.dict(os.environ, environ | variables, clear=True):
                result = CliRunner().invoke(make_app(), list(arguments), prog_name="aquachat")
        finally:
            os.chdir(before)
            torch.set_num_threads(num_threads)
            log.reset()
        outcome = Outcome(arguments, result.exit_code, result.stdout, result.stderr)
        assert code in (None, outcome.code), outcome
        return outcome

    def shown(self, outcome: Outcome) -> str:
        """The outcome as a snapshot: what differs from call to call has a name instead."""
        words = " ".join(_quoted(word) for word in outcome.arguments)
        text = (
            f"$ aquachat {words}\n[exit {outcome.code}]\n"
            f"--- stdout\n{outcome.stdout}--- stderr\n{outcome.stderr}"
        )
        text = text.replace(str(self.home), "$AQUACHAT_HOME").replace(str(self.folder), "$PWD")
        text = re.sub(r"\b(run|tiny|d\d+)-\d{8}-\d{6}\b", r"\1-NOW", text)
        text = re.sub(r", \d+ s\b", ", N s", text)
        return re.sub(r"torch \d\S*", "torch VERSION", text)


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word or not word else word
