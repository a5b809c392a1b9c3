"""Reading rows of JSON lines, JSON arrays and parquet; a bad line is reported, not fatal."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from aquachat.errors import DataError, MissingFileError

T = TypeVar("T")

MAX_LINE_BYTES = 16 * 2**20
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_TEXT_SHOWN_CHARS = 200


class RowReason(StrEnum):
    """What is wrong with a row."""

    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_QUESTION = "missing_question"
    MISSING_OPTIONS = "missing_options"
    EMPTY_OPTION = "empty_option"
    MISSING_LETTERS = "missing_letters"
    REPEATED_LETTERS = "repeated_letters"
    EQUAL_OPTIONS = "equal_options"
    GOLD_NOT_IN_OPTIONS = "gold_not_in_options"
    EMPTY_RATIONALE = "empty_rationale"
    RATIONALE_NAMES_OTHER_LETTER = "rationale_names_other_letter"
    TOO_LONG = "too_long"
    MISSING_ANSWER = "missing_answer"
    NO_CONVERSATION = "no_conversation"


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON object and the line it stands on (for parquet and arrays, its place), from 1."""

    line_number: int
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A line that cannot be used, why, and how it begins."""

    line_number: int
    reason: RowReason
    text: str


def read_rows(path: Path) -> Iterator[Row | RejectedRow]:
    """The rows of a `.jsonl`, `.json` (lines or one array), `.gz` or `.parquet` file, in order.

    Blank lines are skipped. A line that is not UTF-8 or no JSON object, such as a truncated last
    line, comes as a `RejectedRow`.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file is empty, is no text, is damaged, or has not one usable line.
    """
    if not path.exists():
        raise MissingFileError(f"there is no file `{path}`", hint=f"check `ls {path.parent}`")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    num_rows = 0
    first_rejected: RejectedRow | None = None
    for row in _text_rows(path):
        if isinstance(row, Row):
            num_rows += 1
        else:
            first_rejected = first_rejected or row
        yield row
    if num_rows == 0:
        why = (
            "it is empty"
            if first_rejected is None
            else f"line {first_rejected.line_number} is {first_rejected.reason}"
        )
        raise DataError(
            f"`{path}` has no usable row: {why}", hint="each line must hold one JSON object"
        )


def rejected(row: Row, reason: RowReason) -> RejectedRow:
    """The report of a row that reads well as JSON but cannot be used."""
    shown = json.dumps(row.value, ensure_ascii=False, default=str)[:_TEXT_SHOWN_CHARS]
    return RejectedRow(row.line_number, reason, shown)


def usable_rows(
    path: Path, read: Callable[[Row], T | RowReason], *, what: str, hint: str
) -> tuple[list[T], list[RejectedRow]]:
    """What `read` makes of the rows of a file, and those that it gave a reason for instead.

    Args:
        path: the file.
        read: one row.
        what: a row ought to be, for example `a GSM8K problem`.
        hint: what a row needs.

    Raises:
        MissingFileError: there is no such file.
        DataError: no row can be used.
    """
    found: list[T] = []
    bad: list[RejectedRow] = []
    for row in read_rows(path):
        if isinstance(row, RejectedRow):
            bad.append(row)
            continue
        value = read(row)
        if isinstance(value, RowReason):
            bad.append(rejected(row, value))
        else:
            found.append(value)
    if not found:
        first = bad[0]
        raise DataError(
            f"no row of `{path}` is {what} (line {first.line_number}: {first.reason})", hint=hint
        )
    return found, bad


def _text_rows(path: Path) -> Iterator[Row | RejectedRow]:
    try:
        with _open_binary(path) as file:
            start = file.peek(4096)[:4096]
            if b"\0" in start:
                raise DataError(
                    f"`{path}` is no text file", hint="rows are read from .jsonl, .json or .parquet"
                )
            if ".json" in path.suffixes and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                yield from _array_rows(path, file.read())
            else:
                yield from _line_rows(file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"`{path}` cannot be read ({error})") from error


def _open_binary(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _line_rows(file: gzip.GzipFile | io.BufferedReader) -> Iterator[Row | RejectedRow]:
    line_number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        line_number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield RejectedRow(line_number, RowReason.TOO_LONG, _shown(line))
            continue
        if line_number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _parsed(line_number, line.strip())


def _parsed(line_number: int, line: bytes) -> Row | RejectedRow:
    try:
        text = line.decode("utf-8")
        value = json.loads(text)
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        return RejectedRow(line_number, RowReason.NOT_UTF8, _shown(line))
    except (ValueError, RecursionError):
        return RejectedRow(line_number, RowReason.NOT_JSON, _shown(line))
    if not isinstance(value, dict):
        return RejectedRow(line_number, RowReason.NOT_AN_OBJECT, _shown(line))
    return Row(line_number, value)


def _array_rows(path: Path, content: bytes) -> Iterator[Row | RejectedRow]:
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"`{path}` begins as a JSON array and is not one ({error})",
            hint="each line must hold one JSON object, or the whole file one array of them",
        ) from error
    for line_number, value in enumerate(values, start=1):
        yield _parsed(line_number, json.dumps(value).encode("ascii"))


def _parquet_rows(path: Path) -> Iterator[Row | RejectedRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line_number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    line_number += 1
                    yield Row(line_number, value)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"`{path}` is no readable parquet file ({error})") from error
    if line_number == 0:
        raise DataError(f"`{path}` has no usable row: it is empty")


def _shown(line: bytes) -> str:
    return line[:_TEXT_SHOWN_CHARS].decode("utf-8", errors="replace")
