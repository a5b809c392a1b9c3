"""Tokenizing takes less than 1 GB whatever the input: the long form with 500 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no `resource`")
ROOT = Path(__file__).parents[2]
GIGABYTE = 1 << 30


def tokenized(kind: str, megabytes: int, folder: Path) -> dict[str, Any]:
    """What the program says, with both processes that encode counted in full."""
    command = [sys.executable, "-m", "tests.data.memory_program", kind, str(megabytes), str(folder)]
    subprocess.run([*command, "make"], cwd=ROOT, check=True)
    done = subprocess.run([*command, "2"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_text_of_one_line_is_one_document_in_little_memory(tmp_path: Path) -> None:
    result = tokenized("line.txt", 12, tmp_path)
    assert result["documents"] == 1
    assert result["text_bytes"] == (tmp_path / "line.txt").stat().st_size
    assert result["peak_bytes"] < 0.6 * GIGABYTE


@pytest.mark.long
@pytest.mark.parametrize("kind", ["line.txt", "spaces.txt", "rows.jsonl", "rows.parquet"])
def test_500_megabytes_take_less_than_a_gigabyte(tmp_path: Path, kind: str) -> None:
    result = tokenized(kind, 500, tmp_path)
    print(kind, result)
    assert (result["documents"] == 1) == kind.endswith(".txt")
    assert result["text_bytes"] > 0.95 * 500 * (1 << 20)
    assert result["peak_bytes"] < GIGABYTE
