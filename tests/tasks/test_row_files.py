from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import DataError, MissingFileError
from aquachat.tasks.row_files import MAX_LINE_BYTES, RejectedRow, Row, RowReason, read_rows

GOOD = b'{"question": "q"}\n'


def _read(path: Path, content: bytes, name: str = "rows.jsonl") -> list[Row | RejectedRow]:
    (path / name).write_bytes(content)
    return list(read_rows(path / name))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "q', RowReason.NOT_JSON),
        (b"not json", RowReason.NOT_JSON),
        (b"[" * 100_000, RowReason.NOT_JSON),
        (b'{"n": ' + b"9" * 10_000 + b"}", RowReason.NOT_JSON),
        (b'"text"', RowReason.NOT_AN_OBJECT),
        (b"[1, 2]", RowReason.NOT_AN_OBJECT),
        (b"null", RowReason.NOT_AN_OBJECT),
        (b'{"question": "\xff"}', RowReason.NOT_UTF8),
        (b'{"question": "\\ud800"}', RowReason.NOT_UTF8),
        (b"x" * (MAX_LINE_BYTES + 10), RowReason.TOO_LONG),
    ],
)
def test_bad_line_is_rejected_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: RowReason
) -> None:
    first, bad, last = _read(tmp_path, GOOD + line + b"\n" + GOOD)
    assert first == Row(1, {"question": "q"})
    assert isinstance(bad, RejectedRow)
    assert (bad.line_number, bad.reason) == (2, reason)
    assert last == Row(3, {"question": "q"})


def test_truncated_last_line_is_rejected(tmp_path: Path) -> None:
    rows = _read(tmp_path, GOOD + GOOD[:9])
    assert rows == [Row(1, {"question": "q"}), RejectedRow(2, RowReason.NOT_JSON, '{"questio')]


def test_blank_lines_byte_order_mark_and_carriage_returns_are_fine(tmp_path: Path) -> None:
    rows = _read(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\n\r\n" + GOOD.replace(b"\n", b"\r\n"))
    assert [row.line_number for row in rows] == [1, 4]
    assert all(isinstance(row, Row) for row in rows)


def test_escaped_pairs_of_surrogates_are_text(tmp_path: Path) -> None:
    (row,) = _read(tmp_path, b'{"question": "\\ud83d\\ude00"}\n')
    assert row == Row(1, {"question": "\U0001f600"})


def test_json_may_be_lines_or_an_array(tmp_path: Path) -> None:
    expected = [Row(1, {"a": 1}), Row(2, {"a": 2})]
    assert _read(tmp_path, b'{"a": 1}\n{"a": 2}\n', "rows.json") == expected
    assert _read(tmp_path, b' [{"a": 1},\n {"a": 2}]', "rows.json") == expected
    with pytest.raises(DataError, match="JSON array"):
        _read(tmp_path, b'[{"a": 1},\n {"a"', "rows.json")


def test_gzip_is_read_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD * 1000, mtime=0)
    assert len(_read(tmp_path, packed, "rows.jsonl.gz")) == 1000
    for damaged in (packed[:-20], b"no gzip at all", packed[:12] + b"\0\0\0\0" + packed[16:]):
        with pytest.raises(DataError):
            _read(tmp_path, damaged, "rows.jsonl.gz")


def test_parquet_is_read_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": ["q", "r"], "answer": [0, 1]}), path)
    assert list(read_rows(path)) == [
        Row(1, {"question": "q", "answer": 0}),
        Row(2, {"question": "r", "answer": 1}),
    ]
    with pytest.raises(DataError, match="parquet"):
        _read(tmp_path, path.read_bytes()[:-30], "broken.parquet")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"plain words\n", b"\xff\xfe{\0"]
)
def test_file_without_a_usable_row_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        _read(tmp_path, content)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(DataError):
        list(read_rows(tmp_path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@settings(deadline=None, max_examples=25)
@given(values=st.lists(st.dictionaries(st.text(), json_values), min_size=1, max_size=5))
def test_written_rows_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    content = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    rows = _read(folder, content.encode("utf-8"))
    assert [row.value for row in rows if isinstance(row, Row)] == values
