"""Writing one split: each row checked, kept or left out, and counted."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from aquachat.data.catalogue import PreparedRow, RowReader
from aquachat.data.manifest import FlaggedRow, SourceFile, SplitReport
from aquachat.errors import DataError
from aquachat.files import json_line, sha256_of
from aquachat.tasks.row_files import RejectedRow, Row

IN_EVALUATION_SPLIT: Final = "in_evaluation_split"
PROGRESS_ROWS: Final = 500

Progress = Callable[[str, int], None]
"""Called with a split and the rows read of it so far, every `PROGRESS_ROWS` and at the end."""

_WORDS_AND_SIGNS = re.compile(r"[^\W_]+|[-+*/=^<>%]")


def normalised_question(text: str) -> str:
    """A question without case, spacing and punctuation: what decides whether two are the same.

    Signs of arithmetic stay, since they change what is asked.

    Example:
        normalised_question("What is  2 + 3 ?") == normalised_question("what is 2+3")
    """
    return " ".join(_WORDS_AND_SIGNS.findall(unicodedata.normalize("NFKC", text).casefold()))


@dataclass(frozen=True, slots=True)
class RowInput:
    """Rows from one place, and how the manifest names it."""

    source: SourceFile
    rows: Iterable[Row | RejectedRow]


@dataclass
class EvaluationQuestions:
    """The questions of all evaluation splits, normalised: none of them may be trained on."""

    seen: set[str] = field(default_factory=set)

    def add(self, row: PreparedRow) -> None:
        """Remember the row's question."""
        if row.question is not None:
            self.seen.add(normalised_question(row.question))

    def holds(self, row: PreparedRow) -> bool:
        """Whether the row asks a question of an evaluation split."""
        return row.question is not None and normalised_question(row.question) in self.seen


class SplitWriter:
    """Writes the rows of one split to `directory/<split>.jsonl`.

    Args:
        directory: where; the file is written in place, so hand over a staging folder.
        split: `train` is filtered; of any other split no row is lost.
        read_row: makes a row of the set's form, and says what is wrong with it.
        limit: rows to write; None for all.
        quarantine: gets a line for each training row that is left out.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        read_row: RowReader,
        *,
        limit: int | None,
        quarantine: BinaryIO,
    ) -> None:
        self._path = directory / f"{split}.jsonl"
        self._split = split
        self._read_row = read_row
        self._limit = limit
        self._quarantine = quarantine
        self._num_written = self._num_read = 0
        self._rejected = Counter[str]()
        self._letters = Counter[str]()
        self._flagged: list[FlaggedRow] = []

    def write(
        self, inputs: Sequence[RowInput], questions: EvaluationQuestions, progress: Progress | None
    ) -> SplitReport:
        """Read all inputs and write the rows to keep.

        Raises:
            DataError: no row could be kept.
            OSError: the disk refused a write.
        """
        with self._path.open("wb") as file:
            for rows in inputs:
                for row in rows.rows:
                    if self._split == "train" and self._is_full:
                        break
                    self._num_read += 1
                    if progress is not None and self._num_read % PROGRESS_ROWS == 0:
                        progress(self._split, self._num_read)
                    self._take(row, rows.source.file, questions, file)
        if progress is not None:
            progress(self._split, self._num_read)
        if self._num_written == 0 and self._limit != 0:
            most = ", ".join(f"{count} {reason}" for reason, count in self._rejected.most_common(3))
            raise DataError(
                f"no row of {', '.join(item.source.file for item in inputs)} can be used for "
                f"{self._split} ({most or 'there is none'})",
                hint="check that these are the files of this data set",
            )
        return SplitReport(
            file=self._path.name,
            rows=self._num_written,
            rows_read=self._num_read,
            sha256=sha256_of(self._path),
            num_bytes=self._path.stat().st_size,
            sources=tuple(item.source for item in inputs),
            rejected=dict(self._rejected.most_common()),
            flagged=tuple(self._flagged),
            counts={"letter": dict(sorted(self._letters.items()))} if self._letters else {},
        )

    @property
    def _is_full(self) -> bool:
        return self._limit is not None and self._num_written >= self._limit

    def _take(
        self, row: Row | RejectedRow, source: str, questions: EvaluationQuestions, file: BinaryIO
    ) -> None:
        read = (
            PreparedRow(None, (row.reason,))
            if isinstance(row, RejectedRow)
            else self._read_row(row.value)
        )
        if self._split == "train":
            reasons = (*read.reasons, *((IN_EVALUATION_SPLIT,) if questions.holds(read) else ()))
            if reasons:
                self._reject(row, source, reasons[0])
            else:
                self._write(row, read, file)
            return
        questions.add(read)
        if self._is_full:
            return
        self._write(row, read, file)
        if read.reasons:
            flaw = FlaggedRow(self._num_written, source, row.line_number, tuple(read.reasons))
            self._flagged.append(flaw)

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
        if read.letter is not None:
            self._letters[read.letter] += 1

    def _reject(self, row: Row | RejectedRow, source: str, reason: str) -> None:
        self._rejected[reason] += 1
        what = {"text": row.text} if isinstance(row, RejectedRow) else {"row": row.value}
        place = {"split": self._split, "file": source, "line": row.line_number, "reason": reason}
        self._quarantine.write(json_line({**place, **what}))
