"""AQuA's held-out slice: part of its training pool that no training reads.

AQuA's own evaluation splits have 254 rows each, too few to see a difference of a few points: at 25%
accuracy the 95% interval of one is 5 points to each side, of 5,000 rows it is 1.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aquachat.data.catalogue import HELDOUT, PreparedRow, RowReader
from aquachat.data.hygiene.groups import choose_held_out
from aquachat.data.hygiene.words import normalised_question
from aquachat.data.manifest import SplitReport
from aquachat.data.split_writer import RowTally
from aquachat.files import sha256_of


def split_off_held_out(
    staging: Path, train: SplitReport, read_row: RowReader, *, max_rows: int, max_train: int | None
) -> dict[str, SplitReport]:
    """Move rows of `staging/train.jsonl` to `heldout.jsonl`, whole groups of questions together.

    Args:
        staging: holds the training pool, filtered, as `train` describes it.
        train: the report of the pool.
        read_row: of the set's form.
        max_rows: rows to hold out; see `aquachat.data.hygiene.groups.choose_held_out`.
        max_train: keep the first so many of the others; None for all. The slice is the same
            whatever it is.

    Returns:
        The reports of `train` and, unless the pool is too small for one row, of `heldout`.

    Raises:
        OSError: the disk refused a write.
    """
    path = staging / f"{train.file}"
    pool = path.read_bytes().splitlines(keepends=True)
    reads = [read_row(json.loads(line)) for line in pool]
    questions = [normalised_question(read.question or "") for read in reads]
    texts = [normalised_question(read.text) for read in reads]
    chosen = choose_held_out(questions, texts, max_rows=max_rows)
    kept = [row for row in range(len(pool)) if row not in chosen.rows][:max_train]
    if not chosen.rows:
        return {"train": _written(path, train, pool, reads, kept)}
    moved = {"moved": {HELDOUT: len(chosen.rows)}}
    report = replace(train, counts={**train.counts, **moved})
    pool_counts = {
        "rows": len(pool),
        "held_out_groups": chosen.num_groups,
        "largest_group": chosen.largest_group,
    }
    held_out = SplitReport(
        file=f"{HELDOUT}.jsonl",
        rows=0,
        rows_read=len(pool),
        sources=train.sources,
        counts={"pool": pool_counts},
    )
    return {
        "train": _written(path, report, pool, reads, kept),
        HELDOUT: _written(staging / f"{HELDOUT}.jsonl", held_out, pool, reads, sorted(chosen.rows)),
    }


def _written(
    path: Path,
    report: SplitReport,
    pool: list[bytes],
    reads: list[PreparedRow],
    rows: Iterable[int],
) -> SplitReport:
    """Write rows of the pool, and the report of a split with those rows."""
    tally = RowTally()
    num_rows = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(pool[row])
            tally.add(reads[row])
            num_rows += 1
    changes: dict[str, Any] = {
        "rows": num_rows,
        "sha256": sha256_of(path),
        "num_bytes": path.stat().st_size,
    }
    return replace(report, counts={**report.counts, **tally.counts()}, **changes)
