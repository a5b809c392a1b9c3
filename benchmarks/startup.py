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
from collections.abc import Callable
from pathlib import Path

import measure

PEER_PROGRAM = "scripts.chat_eval"


def main() -> None:
    """Measure, print, and with `--keep` write `results/startup.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="a checkout of nanochat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write results/startup.json")
    arguments = parser.parse_args()
    script = Path(sys.executable).with_name("aquachat")
    peer = None
    if arguments.peer is not None:
        folder = arguments.peer.resolve()
        environ = os.environ | {"PYTHONPATH": str(folder)}
        peer = _timed([sys.executable, "-m", PEER_PROGRAM, "--help"], environ, folder)
    rows = [
        measure.compare(
            f"`aquachat {command}`".replace(" `", "`"),
            "s",
            _timed([str(script), *command.split()], dict(os.environ), Path.cwd()),
            peer if command == "--help" else None,
            peer_name=f"nanochat, `python -m {PEER_PROGRAM} --help`",
            repeats=arguments.repeats,
            higher_is_better=False,
        )
        for command in ("--help", "rl --help", "run tiny --dry-run")
    ]
    content = measure.document("python benchmarks/startup.py --peer PATH --keep", rows)
    if arguments.keep:
        measure.keep("startup", content)
    print(json.dumps(content, indent=1) if arguments.json else "\n".join(measure.table_of(content)))


def _timed(command: list[str], environ: dict[str, str], folder: Path) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environ, cwd=folder)
        return time.perf_counter() - started

    return run


if __name__ == "__main__":
    main()
