from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.programs import Cli, Outcome


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The program with an empty home."""
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Outcome]:
    cli = Cli(tmp_path_factory.mktemp("trained"))
    config = ("--config", "micro.toml")
    cli("run", "tiny", *config, "--run", "half", "--stages", "tokenize,base", code=0)
    return cli, cli("run", "tiny", *config, "--run", "whole", code=0)


@pytest.fixture
def trained(_trained: tuple[Cli, Outcome]) -> Cli:
    """The program with two runs: `half` has base only, `whole` is finished and the newest."""
    return _trained[0]


@pytest.fixture
def finished(_trained: tuple[Cli, Outcome]) -> Outcome:
    """What the call that made the run `whole` printed."""
    return _trained[1]
