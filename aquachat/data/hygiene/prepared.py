"""The prepared sets under `AQUACHAT_HOME/data`, their rows, and the questions that models face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aquachat.data.catalogue import DATASETS, SYNTHETIC, PreparedRow, RowReader
from aquachat.data.hygiene.document_guard import DocumentGuard
from aquachat.data.hygiene.guard import EvaluationGuard
from aquachat.data.manifest import (
    MANIFEST_NAME,
    GuardSplit,
    PrepareReport,
    read_manifest,
)
from aquachat.errors import MissingFileError
from aquachat.tasks.row_files import RejectedRow, read_rows

TRAIN: Final = "train"


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A row of a prepared split and its line, from 1."""

    line: int
    read: PreparedRow


def reader_of(dataset: str) -> RowReader | None:
    """How rows of a prepared set are read; None for sets without questions or unknown ones."""
    if dataset == SYNTHETIC:
        return DATASETS["aqua"].read_row
    return DATASETS[dataset].read_row if dataset in DATASETS else None


def prepared_sets(data_root: Path) -> list[PrepareReport]:
    """The manifests in the folders of `data_root`, by name; a folder without one is passed over.

    Raises:
        DataError: a manifest cannot be read.
    """
    if not data_root.is_dir():
        return []
    folders = sorted(path.parent for path in data_root.glob(f"*/{MANIFEST_NAME}"))
    return [read_manifest(folder) for folder in folders if not folder.name.startswith(".")]


def rows_of(report: PrepareReport, split: str, read_row: RowReader) -> Iterator[NumberedRow]:
    """The rows of a prepared split; one that cannot be read has its reason and no value.

    Raises:
        MissingFileError: the file is gone.
        DataError: it cannot be read.
    """
    name = report.splits[split].file
    path = report.directory / (name or "")
    if name is None or not path.is_file():
        raise MissingFileError(
            f"there is no `{path}`, which `{report.directory / MANIFEST_NAME}` names",
            hint=f"run `aquachat prepare {report.dataset}` again",
        )
    for row in read_rows(path):
        if isinstance(row, RejectedRow):
            yield NumberedRow(row.line_number, PreparedRow(None, (row.reason,)))
        else:
            yield NumberedRow(row.line_number, read_row(row.value))


def document_guard(data_root: Path) -> DocumentGuard | None:
    """The questions of all prepared evaluation splits; None where there is none.

    Raises:
        MissingFileError: a split's file is gone.
        DataError: a manifest or a file cannot be read.
    """
    guard = EvaluationGuard()
    searched = [
        split for report in prepared_sets(data_root) for split in add_questions(guard, report)
    ]
    return DocumentGuard(guard, searched) if len(guard) else None


def add_questions(guard: EvaluationGuard, report: PrepareReport) -> list[GuardSplit]:
    """Tell the guard the questions of a prepared set's evaluation splits; which ones had any."""
    read_row = reader_of(report.dataset)
    if read_row is None:
        return []
    found = []
    for name, split in report.splits.items():
        if name == TRAIN or split.file is None or not split.rows:
            continue
        full_name = f"{report.dataset}/{name}"
        num_questions = 0
        for row in rows_of(report, name, read_row):
            if row.read.question is not None:
                guard.add(full_name, row.line, row.read.question)
                num_questions += 1
        if num_questions:
            found.append(GuardSplit(full_name, num_questions, split.sha256))
    return found
