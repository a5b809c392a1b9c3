"""What every benchmark program shares: alternating repeats, ratios, and how figures are kept.

A document is `{"machine", "python", "torch", "revision", "date", "command", "rows"}`; a row is
`{"name", "unit", "ours", "peer", "peer_name", "ratio_median", "ratio_min", "ratio_max",
"repeats"}`, and a ratio above 1 means that ours is better.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours beside the peer's; medians, and the ratios of the pairs."""

    name: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    ratio_median: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    repeats: int = 1


def compare(
    name: str,
    unit: str,
    ours: Callable[[], float],
    peer: Callable[[], float] | None,
    *,
    peer_name: str | None,
    repeats: int,
    higher_is_better: bool,
) -> Row:
    """Measure ours and the peer in turn, `repeats` times; each call returns one figure in `unit`.

    Which of the two goes first changes from pair to pair, so that a drift of the machine does not
    favour one.
    """
    own: list[float] = []
    other: list[float] = []
    for repeat in range(repeats):
        calls = [(ours, own)] if peer is None else [(ours, own), (peer, other)]
        for call, figures in calls if repeat % 2 == 0 else calls[::-1]:
            figures.append(call())
    if not other:
        return Row(name, unit, median(own), repeats=repeats)
    ratios = [
        mine / theirs if higher_is_better else theirs / mine
        for mine, theirs in zip(own, other, strict=True)
    ]
    return Row(
        name,
        unit,
        median(own),
        median(other),
        peer_name,
        median(ratios),
        min(ratios),
        max(ratios),
        repeats,
    )


def document(command: str, rows: Sequence[Row], **extra: Any) -> dict[str, Any]:
    """The rows, with what they were measured on."""
    return {
        **setting(command),
        **extra,
        "rows": [asdict(row) for row in rows],
    }


def setting(command: str, revision: str = "HEAD") -> dict[str, Any]:
    """Machine, versions, revision, day and command of a measurement."""
    return {
        "machine": f"{processor()}, {platform.machine()}, {os.cpu_count() or 1} cores",
        "python": platform.python_version(),
        "torch": version("torch"),
        "revision": commit_of(revision),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
    }


def keep(name: str, content: Mapping[str, Any]) -> Path:
    """Write `results/NAME.json`."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return path


def commit_of(revision: str) -> str:
    """The full name of a revision of this checkout."""
    command = ["git", "-C", str(ROOT), "rev-parse", revision]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """The model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def table_of(content: Mapping[str, Any]) -> list[str]:
    """The rows of a document as a Markdown table."""
    header = ["what", "unit", "ours", "peer", "ratio: median (min to max)", "repeats"]
    return markdown_table(header, [_cells(row) for row in content["rows"]])


def _cells(row: Mapping[str, Any]) -> list[object]:
    peer, ratio = "-", "-"
    if row["peer"] is not None:
        peer = f"{number(row['peer'])} ({row['peer_name']})"
        low, high = row["ratio_min"], row["ratio_max"]
        ratio = f"{row['ratio_median']:.2f} ({low:.2f} to {high:.2f})"
    return [row["name"], row["unit"], number(row["ours"]), peer, ratio, row["repeats"]]


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
