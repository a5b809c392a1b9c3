"""Writing one split: each row checked, kept or left out, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from aquachat.data.catalogue import PreparedRow, RowReader
from aquachat.data.hygiene.guard import Contamination, EvaluationGuard, TrainingText
from aquachat.data.hygiene.words import normalised_question
from aquachat.data.manifest import FlaggedRow, SourceFile, SplitReport
from aquachat.errors import DataError
from aquachat.files import json_line, sha256_of
from aquachat.tasks.option_order import option_references
from aquachat.tasks.row_files import RejectedRow, Row

__all__ = ["Progress", "RowInput", "RowTally", "SplitWriter", "normalised_question"]

PROGRESS_ROWS: Final = 500
BATCH_ROWS: Final = 500
"""Training rows that are held against the evaluation questions together."""

Progress = Callable[[str, int], None]
"""Called with a split and the rows read of it so far, every `PROGRESS_ROWS` and at the end."""


@dataclass(frozen=True, slots=True)
class RowInput:
    """Rows from one place, and how the manifest names it."""

    source: SourceFile
    rows: Iterable[Row | RejectedRow]


class RowTally:
    """What is worth counting in the rows of a split: gold letters, options that refer to others."""

    def __init__(self) -> None:
        self._letters = Counter[str]()
        self._references = Counter[str]()

    def add(self, read: PreparedRow) -> None:
        """Count a row that was written."""
        if read.item is not None:
            self._letters[read.item.answer_letter] += 1
            self._references[str(option_references(read.item))] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        """As `SplitReport.counts`; empty where no row is multiple choice."""
        if not self._letters:
            return {}
        return {
            "letter": dict(sorted(self._letters.items())),
            "option_references": dict(sorted(self._references.items())),
        }


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A training row on its way."""

    row: Row | RejectedRow
    source: str
    read: PreparedRow


class SplitWriter:
    """Writes the rows of one split to `directory/<split>.jsonl`.

    Args:
        directory: where; the file is written in place, so hand over a staging folder.
        split: `train` is filtered; of any other split no row is lost.
        read_row: makes a row of the set's form, and says what is wrong with it.
        name: of the split as the guard names it, for example `aqua/validation`.
        limit: rows to write; None for all.
        quarantine: gets a line for each training row that is left out.
        keep_contaminated: keep, and count apart, training rows that give a question away.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        read_row: RowReader,
        *,
        name: str,
        limit: int | None,
        quarantine: BinaryIO,
        keep_contaminated: bool = False,
    ) -> None:
        self._path = directory / f"{split}.jsonl"
        self._split = split
        self._read_row = read_row
        self._name = name
        self._limit = limit
        self._quarantine = quarantine
        self._keeps_contaminated = keep_contaminated
        self._num_written = self._num_read = 0
        self._rejected = Counter[str]()
        self._kept = Counter[str]()
        self._tally = RowTally()
        self._flagged: list[FlaggedRow] = []

    def write(
        self, inputs: Sequence[RowInput], guard: EvaluationGuard, progress: Progress | None
    ) -> SplitReport:
        """Read all inputs and write the rows to keep.

        Args:
            inputs: in order.
            guard: learns the questions of an evaluation split, and is asked about training rows.
            progress: called as rows are read.

        Raises:
            DataError: no row could be kept.
            OSError: the disk refused a write.
        """
        with self._path.open("wb") as file:
            if self._split == "train":
                self._write_training(inputs, guard, progress, file)
            else:
                self._write_evaluation(inputs, guard, progress, file)
        if progress is not None:
            progress(self._split, self._num_read)
        if self._num_written == 0 and self._limit != 0:
            most = ", ".join(f"{count} {reason}" for reason, count in self._rejected.most_common(3))
            raise DataError(
                f"no row of {', '.join(item.source.file for item in inputs)} can be used for "
                f"{self._split} ({most or 'there is none'})",
                hint="check that these are the files of this data set",
            )
        counts = self._tally.counts()
        if self._kept:
            counts["kept_contaminated"] = dict(self._kept.most_common())
        return SplitReport(
            file=self._path.name,
            rows=self._num_written,
            rows_read=self._num_read,
            sha256=sha256_of(self._path),
            num_bytes=self._path.stat().st_size,
            sources=tuple(item.source for item in inputs),
            rejected=dict(self._rejected.most_common()),
            flagged=tuple(self._flagged),
            counts=counts,
        )

    @property
    def _is_full(self) -> bool:
        return self._limit is not None and self._num_written >= self._limit

    def _write_evaluation(
        self,
        inputs: Sequence[RowInput],
        guard: EvaluationGuard,
        progress: Progress | None,
        file: BinaryIO,
    ) -> None:
        for rows in inputs:
            for row in rows.rows:
                self._count_read(progress)
                read = self._read(row)
                if read.question is not None:  # also beyond the limit
                    guard.add(self._name, self._num_read, read.question)
                if self._is_full:
                    continue
                self._write(row, read, file)
                if read.reasons:
                    place = (self._num_written, rows.source.file, row.line_number)
                    self._flagged.append(FlaggedRow(*place, tuple(read.reasons)))

    def _write_training(
        self,
        inputs: Sequence[RowInput],
        guard: EvaluationGuard,
        progress: Progress | None,
        file: BinaryIO,
    ) -> None:
        batch: list[_Candidate] = []
        for rows in inputs:
            for row in rows.rows:
                if self._is_full:
                    return
                batch.append(_Candidate(row, rows.source.file, self._read(row)))
                if len(batch) >= BATCH_ROWS:
                    self._take(batch, guard, progress, file)
                    batch = []
        self._take(batch, guard, progress, file)

    def _take(
        self,
        batch: Sequence[_Candidate],
        guard: EvaluationGuard,
        progress: Progress | None,
        file: BinaryIO,
    ) -> None:
        usable = [one for one in batch if not one.read.reasons]
        verdicts = guard.check([TrainingText(one.read.question, one.read.text) for one in usable])
        verdict_of = {id(one): verdict for one, verdict in zip(usable, verdicts, strict=True)}
        for one in batch:
            if self._is_full:
                return
            self._count_read(progress)
            verdict = verdict_of.get(id(one))
            if one.read.reasons:
                self._reject(one, one.read.reasons[0])
            elif verdict is None:
                self._write(one.row, one.read, file)
            elif self._keeps_contaminated:
                self._kept[verdict.reason] += 1
                self._write(one.row, one.read, file)
            else:
                self._reject(one, verdict.reason, verdict)

    def _read(self, row: Row | RejectedRow) -> PreparedRow:
        if isinstance(row, RejectedRow):
            return PreparedRow(None, (row.reason,))
        return self._read_row(row.value)

    def _count_read(self, progress: Progress | None) -> None:
        self._num_read += 1
        if progress is not None and self._num_read % PROGRESS_ROWS == 0:
            progress(self._split, self._num_read)

    def _write(self, row: Row | RejectedRow, read: PreparedRow, file: BinaryIO) -> None:
        value = read.value
        if value is None:
            value = (
                {"unreadable": row.reason, "text": row.text}
                if isinstance(row, RejectedRow)
                else row.value
            )
        file.write(json_line(value))
        self._num_written += 1
        self._tally.add(read)

    def _reject(self, one: _Candidate, reason: str, verdict: Contamination | None = None) -> None:
        self._rejected[reason] += 1
        row = one.row
        what = {"text": row.text} if isinstance(row, RejectedRow) else {"row": row.value}
        place = {"split": self._split, "file": one.source, "line": row.line_number}
        found = {} if verdict is None else {"evaluation": verdict.to_json()}
        self._quarantine.write(json_line({**place, "reason": reason, **found, **what}))
