"""How long does a person wait for the first answer of the command line?

    python benchmarks/startup.py
    python benchmarks/startup.py --peer PATH   # a checkout of nanochat

Whole processes, started in turn. The peer's program parses its options after its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from pages import table
from record import alternate, keep, ratio_row, setting

PEER_PROGRAM = "scripts.chat_eval"
COMMANDS = ("rl --help", "run tiny --dry-run")


def main() -> None:
    """Measure, print, and with `--keep` write `results/startup.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="a checkout of nanochat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the document")
    parser.add_argument("--keep", action="store_true", help="write results/startup.json")
    arguments = parser.parse_args()
    rows = [_alone(command, arguments.repeats) for command in ("--help", *COMMANDS)]
    if arguments.peer is not None:
        rows.append(_against(arguments.peer.resolve(), arguments.repeats))
    document = setting("python benchmarks/startup.py --peer PATH --keep") | {"rows": rows}
    if arguments.keep:
        keep("startup", document)
    print(json.dumps(document, indent=1) if arguments.json else "\n".join(startup_table(document)))


def startup_table(document: dict[str, Any]) -> list[str]:
    """The rows as a Markdown table."""
    header = ["command", "ours, s", "peer, s", "times faster: median [min, max]", "repeats"]
    return table(header, [_cells(row) for row in document["rows"]])


def _cells(row: dict[str, Any]) -> list[object]:
    peer, ratio = "-", "-"
    if row["peer"] is not None:
        peer = f"{row['peer']:.2f} ({row['peer_name']})"
        low, high = row["ratio_min"], row["ratio_max"]
        ratio = f"{row['ratio_median']:.1f} [{low:.1f}, {high:.1f}]"
    return [f"`{row['name']}`", f"{row['ours']:.2f}", peer, ratio, row["repeats"]]


def _alone(command: str, repeats: int) -> dict[str, Any]:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        _run([_script(), *command.split()])
        seconds.append(time.perf_counter() - started)
    nothing = dict.fromkeys(("peer", "peer_name", "ratio_median", "ratio_min", "ratio_max"))
    figures = {"name": f"aquachat {command}", "unit": "s", "ours": median(seconds)}
    return figures | nothing | {"repeats": repeats}


def _against(folder: Path, repeats: int) -> dict[str, Any]:
    """`aquachat --help` and the peer's, in turn."""
    environ = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", PEER_PROGRAM, "--help"]
    seconds = alternate(
        lambda: _run([_script(), "--help"]), lambda: _run(command, environ, folder), repeats
    )
    name = f"nanochat, python -m {PEER_PROGRAM} --help"
    row = ratio_row("aquachat --help", "s", 1.0, seconds, name)
    return row | {"ours": median(seconds[0]), "peer": median(seconds[1])}


def _script() -> str:
    return str(Path(sys.executable).with_name("aquachat"))


def _run(
    command: list[str], environ: dict[str, str] | None = None, folder: Path | None = None
) -> None:
    subprocess.run(command, check=True, capture_output=True, env=environ, cwd=folder)


if __name__ == "__main__":
    main()
