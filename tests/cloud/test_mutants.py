"""Each mistake of `mutants.py`, made in the real source, turns a test red."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.mutants import MUTANTS, Mutant
from tests.cloud.mutation import ALL_MUTANTS, is_script, mutated
from tests.cloud.ssh_mutants import SSH_MUTANTS

ROOT = Path(__file__).parents[2]
TESTS_FAILED = 1
"""The exit code of pytest; an error of collection or an empty selection has another."""


def test_there_are_enough_mutants_with_names_of_their_own() -> None:
    assert len({mutant.name for mutant in ALL_MUTANTS}) == len(ALL_MUTANTS)
    assert len(MUTANTS) >= 30
    assert len(SSH_MUTANTS) >= 25


@pytest.mark.parametrize("mutant", ALL_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_a_program(mutant: Mutant) -> None:
    if is_script(mutant):
        subprocess.run(["sh", "-n"], input=mutated(mutant), text=True, check=True)
    else:
        compile(mutated(mutant), mutant.module, "exec")


@pytest.mark.long
@pytest.mark.parametrize("mutant", ALL_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_found(mutant: Mutant) -> None:
    file, _, words = mutant.test.partition(" ")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.cloud.mutation"]
    command += ["-p", "no:cacheprovider", "-n", "0", f"tests/cloud/test_{file}.py", "-k", words]
    environ = os.environ | {
        "AQUACHAT_MUTANT": mutant.name,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == TESTS_FAILED, done.stdout[-3000:] + done.stderr[-3000:]
