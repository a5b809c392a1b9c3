"""Many streams at once, with slow and vanishing clients among them; the figures are a benchmark."""

from __future__ import annotations

import asyncio
import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.serve.servers import made_engine, running

ROOT = Path(__file__).parents[2]


def load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, streams: int, seconds: float, others: int
) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    program = importlib.import_module("serve_load")
    waiting = streams + 3 * others
    engine = made_engine(max_seq_len=800)
    with running(engine, folder, max_rows=32, max_waiting=waiting) as server:
        found: dict[str, Any] = asyncio.run(
            program.load(server.url, os.getpid(), streams, seconds, others, others)
        )
        counts = server.service.worker.counts
        assert counts.open_samples == counts.refused == 0
        assert not server.service.worker._tickets
        assert not server.service.worker._scores
    assert found["statuses"].keys() <= {"200", "slow client"}
    assert found["replies_per_client"]["min"] >= 1
    assert found["metrics"]["aquachat_cancelled_total"] >= 1
    return found


def test_all_streams_end_well_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, monkeypatch, streams=60, seconds=2.0, others=4)


@pytest.mark.long
def test_two_hundred_streams_for_a_minute_leave_no_memory_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(tmp_path, monkeypatch, streams=200, seconds=60.0, others=8)
    assert found["rss_bytes_after"] < 1.05 * found["rss_bytes_warm"]
    replies = found["replies_per_client"]
    assert replies["p5"] > replies["p95"] / 3
