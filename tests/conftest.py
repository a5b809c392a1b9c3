from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sets that AQUACHAT_TEST_DATA names; named and missing is a failure."""
    named = os.environ.get("AQUACHAT_TEST_DATA", "")
    if not named:
        pytest.skip("AQUACHAT_TEST_DATA names no folder with the real data")
    folder = Path(named)
    if not (folder / "data.toml").is_file():
        pytest.fail(f"AQUACHAT_TEST_DATA names `{folder}`, which has no `data.toml`")
    return folder
