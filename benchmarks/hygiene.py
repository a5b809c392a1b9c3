"""How long does `aquachat prepare --check aqua` take on the real pool, and how much memory?

Prepares AQuA from a folder with a `data.toml` into a home of its own, then runs the check as a user
does, a new process each time. Each row also says the limit that it has to keep; `ratio` is that
limit over ours, so a ratio above 1 means that it is kept.

    python benchmarks/hygiene.py --data PATH --repeats 5 --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from record import keep, setting

COMMAND = ("prepare", "--check", "aqua")
MAX_SECONDS = 60.0
MAX_BYTES = 1e9
NUM_CORES = 2


def main() -> None:
    """Measure, print, and keep the figures where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a `data.toml`")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the document, not a table")
    parser.add_argument("--keep", action="store_true", help="write results/hygiene.json")
    arguments = parser.parse_args()
    document = measure(arguments.data, arguments.repeats)
    if arguments.keep:
        keep("hygiene", document)
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    for row in document["rows"]:
        print(f"{row['name']}: {row['ours']:.4g} {row['unit']}, limit {row['peer']:.4g}")


def measure(data: Path, repeats: int) -> dict[str, Any]:
    """The document: wall-clock time, processor time and peak memory, medians with their range."""
    with tempfile.TemporaryDirectory() as home:
        run(("prepare", "aqua", "--data", str(data)), home)
        manifest = json.loads((Path(home) / "data" / "aqua" / "manifest.json").read_text("utf-8"))
        runs = [run(COMMAND, home) for _ in range(repeats)]
    return {
        **setting(f"aquachat {' '.join(COMMAND)}"),
        "cores_used": NUM_CORES,
        "numpy": version("numpy"),
        "pool_rows": manifest["splits"]["train"]["rows_read"],
        "load_before": [one["load"] for one in runs],
        "rows": [
            _row("check of the training pool", "s", MAX_SECONDS, [one["seconds"] for one in runs]),
            _row("processor time of it", "s", MAX_SECONDS, [one["cpu_seconds"] for one in runs]),
            _row("peak memory of it", "bytes", MAX_BYTES, [one["peak_bytes"] for one in runs]),
        ],
    }


def run(arguments: Sequence[str], home: str) -> Mapping[str, float]:
    """One call in a new process on at most two cores: its seconds and its peak memory."""
    environ = {**os.environ, "AQUACHAT_HOME": home, "NO_COLOR": "1"}
    load = os.getloadavg()[0]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "aquachat", *arguments, "--quiet"],
        env=environ,
        stdout=subprocess.DEVNULL,
        preexec_fn=_use_two_cores,
    )
    # wait4 has the peak of this child alone, RUSAGE_CHILDREN the largest of all so far.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"`aquachat {' '.join(arguments)}` ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
        "load": round(load, 2),
    }


def _use_two_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])


def _row(name: str, unit: str, limit: float, values: Sequence[float]) -> dict[str, Any]:
    ratios = [limit / value for value in values]
    return {
        "name": name,
        "unit": unit,
        "ours": statistics.median(values),
        "ours_min": min(values),
        "ours_max": max(values),
        "peer": limit,
        "peer_name": "limit",
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "repeats": len(values),
    }


if __name__ == "__main__":
    main()
