"""What the benchmarks share: the machine, the revision, alternating repeats, and the ratio."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def setting(command: str, commit: str = "HEAD") -> dict[str, Any]:
    """The keys that say where and of what revision a document's figures are."""
    return {
        "machine": f"{processor()}, {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": version("torch"),
        "revision": revision(commit),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "load_average": round(os.getloadavg()[0], 2),
    }


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int, clock: str = "wall"
) -> tuple[list[float], list[float]]:
    """Seconds of both, one after the other `repeats` times, each going first in turn.

    On a machine that other programs share, the CPU time of this process (`clock="cpu"`, one
    thread) says more than the wall clock.
    """
    now = CLOCKS[clock]
    seconds: tuple[list[float], list[float]] = ([], [])
    sides = (ours, peer)
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            started = now()
            sides[side]()
            seconds[side].append(now() - started)
            print(f"{'ours' if side == 0 else 'peer'} {seconds[side][-1]:.3f} s", file=sys.stderr)
    return seconds


def ratio_row(
    name: str,
    unit: str,
    amount: float,
    seconds: tuple[Sequence[float], Sequence[float]],
    peer_name: str,
) -> dict[str, Any]:
    """A row of the results: rates of both sides and, repeat by repeat, how many times faster.

    Args:
        name: what was done.
        unit: of the rate.
        amount: of the unit's work in one repeat.
        seconds: ours and the peer's, one a repeat.
        peer_name: what the peer is.
    """
    ours, peer = seconds
    ratios = [b / a for a, b in zip(ours, peer, strict=True)]
    return {
        "name": name,
        "unit": unit,
        "ours": amount / median(ours),
        "peer": amount / median(peer),
        "peer_name": peer_name,
        "ratio_median": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "repeats": len(ratios),
        "seconds": {"ours": list(ours), "peer": list(peer)},
    }


def keep(name: str, document: Mapping[str, Any]) -> None:
    """Write `results/NAME.json`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def revision(commit: str = "HEAD") -> str:
    """The full name of a commit, by default of the one that is checked out."""
    command = ["git", "-C", str(ROOT), "rev-parse", commit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """The name of the processor, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
