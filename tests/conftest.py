from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Let Ctrl-C work where a shell started the tests in the background, which ignores it.

    Programs that tests start inherit it, and a test that waits for its effect would never end.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
