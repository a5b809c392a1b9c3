"""`aquachat prepare`: which data sets, from where, and a table of what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from aquachat.config.recipes import Recipe
from aquachat.data.manifest import PrepareReport
from aquachat.data.prepare import HygienePolicy, prepare_dataset
from aquachat.data.prepare_synthetic import prepare_synthetic
from aquachat.data.text_documents import prepare_text
from aquachat.errors import ConfigError
from aquachat.paths import Home
from aquachat.pipeline.hygiene import hygiene_notes

HUB: Literal["hub"] = "hub"
SYNTHETIC_TRAIN_ROWS = 5000
"""Training problems written to be looked at; training generates its own, without end."""

COLUMNS = ("dataset", "split", "rows", "left out", "flagged", "licence")


def prepare_datasets(
    names: Sequence[str],
    recipe: Recipe,
    home: Home,
    *,
    source: str | None,
    data: Path | None,
    note: Callable[[str], None],
    on_done: Callable[[], None],
) -> list[PrepareReport]:
    """Prepare each data set; those that are ready stay ready if a later one fails.

    Args:
        names: data sets.
        recipe: its `prepare` section and seed.
        home: where data sets go, unless the recipe names an output folder.
        source: a path, or `hub`; None for `data`, else the hub.
        data: a folder with a `data.toml`.
        note: told what is being done.
        on_done: called after each data set.

    Raises:
        ConfigError: an unknown data set, or one output folder for several.
        MissingFileError: a source is not there.
        DataError: a source cannot be used; what was prepared before is as it was.
        RemoteError: the hub could not be reached.
    """
    section = recipe.prepare
    if section.output_dir and len(names) > 1:
        raise ConfigError(
            f"{len(names)} data sets cannot share `--output-dir {section.output_dir}`",
            hint="prepare them one at a time",
        )
    if "text" in names and source is None and data is None:
        raise ConfigError(
            "text for base training is read from files, and none were named",
            hint="add `--data DIR`, a folder whose `data.toml` lists [text] files",
        )
    reports = []
    for name in names:
        note(f"prepare: {name}")
        folder = Path(section.output_dir).expanduser() if section.output_dir else home.data(name)
        if name == "synthetic":
            counts = {
                "train": section.max_train or SYNTHETIC_TRAIN_ROWS,
                "new_numbers": section.synthetic_eval_rows,
                "new_phrasings": section.synthetic_eval_rows,
                "more_steps": section.synthetic_eval_rows,
            }
            reports.append(prepare_synthetic(folder, recipe.run.seed, counts))
        elif name == "text":
            reports.append(prepare_text(_source_of(source, data), folder))
        else:
            reports.append(
                prepare_dataset(
                    name,
                    source=_source_of(source, data),
                    output_dir=folder,
                    max_train=section.max_train or None,
                    max_validation=section.max_validation or None,
                    max_test=section.max_test or None,
                    policy=HygienePolicy(
                        home.root / "data", section.keep_contaminated, section.heldout_rows
                    ),
                )
            )
        for line in hygiene_notes(reports[-1]):
            note(line)
        on_done()
    return reports


def report_rows(
    reports: Sequence[PrepareReport],
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Columns and rows of the table that `aquachat prepare` prints."""
    rows: list[tuple[object, ...]] = []
    for report in reports:
        for name, split in report.splits.items():
            rejected = ", ".join(f"{count} {reason}" for reason, count in split.rejected.items())
            flagged = len(split.flagged)
            rows.append((report.dataset, name, split.rows, rejected or 0, flagged, report.licence))
    return COLUMNS, rows


def _source_of(source: str | None, data: Path | None) -> Literal["hub"] | Path:
    if source is None:
        return HUB if data is None else data
    return HUB if source == HUB else Path(source).expanduser()
