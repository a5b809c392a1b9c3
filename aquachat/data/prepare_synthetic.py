"""The embedded problems as files: what they are, for people and for other programs.

Training draws the same items on the fly (`aquachat.tasks.synthetic`), so these files are a fixed
sample to look at, to share and to train other systems on; equal seed and counts give equal bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from aquachat.data.catalogue import SYNTHETIC
from aquachat.data.manifest import MANIFEST_NAME, PrepareReport, SourceFile, SplitReport
from aquachat.data.split_writer import PROGRESS_ROWS, Progress
from aquachat.files import (
    install_files,
    json_line,
    sha256_of,
    staging_directory,
    write_json,
    writing,
)
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rows import choice_row
from aquachat.tasks.synthetic.generate import Split as SyntheticSplit
from aquachat.tasks.synthetic.generate import generate_items
from aquachat.tasks.synthetic_task import EVALUATION_SEED

DEFAULT_COUNTS: Final[Mapping[str, int]] = {
    "train": 20_000,
    "new_numbers": 1000,
    "new_phrasings": 1000,
    "more_steps": 1000,
}
LICENCE: Final = "MIT"
COUNTED_ATTRIBUTES: Final = ("tier", "num_steps", "family")


def prepare_synthetic(
    output_dir: Path,
    seed: int = 0,
    counts: Mapping[str, int] = DEFAULT_COUNTS,
    *,
    progress: Progress | None = None,
) -> PrepareReport:
    """Write `<split>.jsonl` in AQuA's form with each item's `id` and `attributes`.

    The report counts letters, tiers, numbers of steps and families by split.

    Args:
        output_dir: created where it is missing.
        seed: of the training items; held-out ones are those that `aquachat eval` asks.
        counts: items by split: `train`, `new_numbers`, `new_phrasings`, `more_steps`.
        progress: called as items are written.

    Raises:
        ConfigError: a split that is not known.
        DataError: the disk refused a write.
    """
    with writing(output_dir), staging_directory(output_dir, "prepare") as staging:
        splits: dict[str, SplitReport] = {
            split: _write_split(
                staging, split, seed if split == "train" else EVALUATION_SEED, count, progress
            )
            for split, count in counts.items()
        }
        origin = f"aquachat.tasks.synthetic, seed {seed}"
        report = PrepareReport(SYNTHETIC, output_dir, origin, LICENCE, splits)
        write_json(staging / MANIFEST_NAME, report.to_json())
        install_files(staging, output_dir)
    return report


def _write_split(
    staging: Path, split: str, seed: int, count: int, progress: Progress | None
) -> SplitReport:
    path = staging / f"{split}.jsonl"
    tallies = {name: Counter[str]() for name in ("letter", *COUNTED_ATTRIBUTES)}
    with path.open("wb") as file:
        for number, item in enumerate(
            generate_items(cast(SyntheticSplit, split), seed, count), start=1
        ):
            file.write(json_line(_row(item)))
            tallies["letter"][item.answer_letter] += 1
            for name in COUNTED_ATTRIBUTES:
                tallies[name][str(item.attributes[name])] += 1
            if progress is not None and number % PROGRESS_ROWS == 0:
                progress(split, number)
    return SplitReport(
        file=path.name,
        rows=count,
        rows_read=count,
        sha256=sha256_of(path),
        num_bytes=path.stat().st_size,
        sources=(SourceFile(f"synthetic/{split}/{seed}"),),
        counts={name: dict(sorted(tally.items())) for name, tally in tallies.items()},
    )


def _row(item: ChoiceItem) -> dict[str, Any]:
    return {"id": item.id, **choice_row(item), "attributes": dict(item.attributes)}
