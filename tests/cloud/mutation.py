"""A pytest plugin: one module or script of `aquachat.cloud` has one change in its source.

Used by `test_mutants.py`, in processes of its own: `AQUACHAT_MUTANT` names the change.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.cloud.mutants import MUTANTS, Mutant
from tests.cloud.ssh_mutants import SSH_MUTANTS

ALL_MUTANTS = (*MUTANTS, *SSH_MUTANTS)
PACKAGE = Path(__file__).parents[2] / "aquachat" / "cloud"


def is_script(mutant: Mutant) -> bool:
    """Whether it is a shell script that runs on a machine."""
    return mutant.module.endswith(".sh")


def file_of(mutant: Mutant) -> Path:
    """Where its source is."""
    name = f"scripts/{mutant.module}" if is_script(mutant) else f"{mutant.module}.py"
    return PACKAGE / name


def mutated(mutant: Mutant) -> str:
    """The source with the change, whose place must be unique."""
    source = file_of(mutant).read_text("utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {source.count(mutant.old)} places instead of one")
    return source.replace(mutant.old, mutant.new)


class _Loader(importlib.machinery.SourceFileLoader):
    mutant: Mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(mutated(self.mutant), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != f"aquachat.cloud.{self._mutant.module}":
            return None
        file = PACKAGE / f"{self._mutant.module}.py"
        loader = _Loader(fullname, str(file))
        loader.mutant = self._mutant
        return importlib.machinery.ModuleSpec(fullname, loader, origin=str(file))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before `conftest.py` imports what is to be changed."""
    name = os.environ.get("AQUACHAT_MUTANT")
    if name is None:
        return
    mutant = next(m for m in ALL_MUTANTS if m.name == name)
    if is_script(mutant):
        _replace_script(mutant)
    else:
        sys.meta_path.insert(0, _Finder(mutant))


def _replace_script(mutant: Mutant) -> None:
    from aquachat.cloud import shell_scripts

    script = shell_scripts.script
    shell_scripts.script = lambda name: (
        mutated(mutant) if f"{name}.sh" == mutant.module else script(name)
    )
