"""Text for base training: found, counted, and read as a stream of documents where it lies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from aquachat.data.catalogue import TEXT
from aquachat.data.manifest import (
    MANIFEST_NAME,
    PrepareReport,
    SourceFile,
    SplitReport,
    read_manifest,
)
from aquachat.data.sources import DATA_TOML, SplitFiles, check_inside, find_split_files
from aquachat.data.split_writer import PROGRESS_ROWS, Progress
from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.files import install_files, sha256_of, staging_directory, write_json, writing
from aquachat.tasks.row_files import MAX_LINE_BYTES, RejectedRow, RowReason, read_rows
from aquachat.text.long_text import PART_CHARS, Continued, in_parts

TEXT_SUFFIXES: Final = (".parquet", ".txt", ".md", ".jsonl", ".jsonl.gz", ".json", ".json.gz")
MISSING_TEXT: Final = "missing_text"
BLOCK_CHARS: Final = 1 << 20
"""Text that is read of a file at once."""
PARQUET_BATCH_BYTES: Final = 8 << 20
"""Text of a column that is taken from parquet at once, by the mean size of its values."""
MAX_PARQUET_BATCH_ROWS: Final = 1024

_NOTICE = re.compile(r"(readme|licen[cs]e|notice|copying|manifest|\.)", re.IGNORECASE)


def prepare_text(
    source: Literal["hub"] | Path | SplitFiles,
    output_dir: Path,
    *,
    name: str = TEXT,
    progress: Progress | None = None,
) -> PrepareReport:
    """Write a manifest that names the text files of each split, with documents and licences.

    Nothing is copied. Of a folder without a `data.toml`, every text file is for training.

    Raises:
        ConfigError: text was asked for from the hub.
        MissingFileError: a source is not there, or holds no text file.
        DataError: a file cannot be read, or the disk refused the write.
    """
    if source == "hub":
        raise ConfigError("text for base training is read from files", hint="use `--source PATH`")
    files = source if isinstance(source, SplitFiles) else find_text_files(source, name)
    splits: dict[str, SplitReport] = {
        split: _counted(split, paths, progress) for split, paths in files.splits.items() if paths
    }
    licences = Counter[str]()
    for split_report in splits.values():
        licences.update(split_report.counts.get("licence", {}))
    licence = ", ".join(sorted(licences)) or "not stated by the source"
    report = PrepareReport(name, output_dir, files.origin, licence, splits)
    with writing(output_dir), staging_directory(output_dir, "prepare") as staging:
        write_json(staging / MANIFEST_NAME, report.to_json())
        install_files(staging, output_dir)
    return report


def find_text_files(source: Path, name: str = TEXT) -> SplitFiles:
    """The text files of a folder with a `data.toml`, a folder, or one file.

    Raises:
        MissingFileError: `source` is not there, or holds no text file.
    """
    if source.is_dir() and not (source / DATA_TOML).is_file():
        files = [
            path
            for path in sorted(source.iterdir())
            if path.name.endswith(TEXT_SUFFIXES) and path.name != MANIFEST_NAME
        ]
        if not files:
            raise MissingFileError(
                f"no file in `{source}` is text ({', '.join(TEXT_SUFFIXES)})",
                hint="name the folder or file that holds the documents with `--source PATH`",
            )
        return SplitFiles(str(source), {"train": files})
    return find_split_files(name, source)


def find_bundle_texts(source: Path, origin: str) -> SplitFiles:
    """The text files of a download or an unpacked bundle, however deep they lie.

    Raises:
        MissingFileError: there is none.
    """
    if source.is_file() or (source / DATA_TOML).is_file():
        found = find_text_files(source)
        check_inside(found, source, origin)
        return SplitFiles(origin, found.splits)
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and path.name.endswith(TEXT_SUFFIXES) and not _NOTICE.match(path.name)
    ]
    if not files:
        raise MissingFileError(
            f"no file in `{origin}` is text ({', '.join(TEXT_SUFFIXES)})",
            hint="name a file, folder or bundle that holds documents with `--source`",
        )
    return SplitFiles(origin, {"train": files})


def find_shards(name: str, source: Path, origin: str) -> SplitFiles:
    """Shards that are here already: all but the last for training, the last one held out.

    Raises:
        MissingFileError: `source` is no folder with at least two parquet files.
    """
    if (source / DATA_TOML).is_file():
        return find_split_files(name, source)
    shards = sorted(source.rglob("*.parquet"), key=lambda path: path.name)
    if len(shards) < 2:
        raise MissingFileError(
            f"`{origin}` does not hold shards of {name}: two parquet files or more",
            hint="name the folder with `shard_00000.parquet` and the others",
        )
    return SplitFiles(origin, {"train": shards[:-1], "validation": shards[-1:]})


@dataclass(frozen=True, slots=True)
class TextSet:
    """Text that `prepare_text` found; its documents are read anew at each call."""

    directory: Path
    manifest: PrepareReport

    def has(self, split: str) -> bool:
        """Whether there are documents for `train` or `validation`."""
        return split in self.manifest.splits

    def documents(self, split: str = "train") -> Iterator[str]:
        """The documents of a split, in order, as a stream; see `read_documents` for long ones.

        Raises:
            MissingFileError: there is no such split, or a file is gone.
            DataError: a file cannot be read.
        """
        if not self.has(split):
            raise MissingFileError(
                f"the prepared text in `{self.directory}` has no {split} split",
                hint="run `aquachat prepare text` with files for it in a `data.toml`",
            )
        for source in self.manifest.splits[split].sources:
            for document in read_documents(Path(source.file)):
                if document is not None:
                    yield document


def open_text_set(directory: Path) -> TextSet:
    """The text whose manifest `prepare_text` wrote into `directory`.

    Raises:
        MissingFileError: there is no manifest.
        DataError: it cannot be read.
    """
    return TextSet(directory, read_manifest(directory))


def read_documents(path: Path) -> Iterator[str | None]:
    """The documents of one file; None for a row without text.

    A `.txt` or `.md` file is one document. Rows of JSON lines and parquet have a field `text`. A
    long document comes in parts, all but the last of which are `Continued`, so that a file of any
    size is read in bounded memory.

    Raises:
        MissingFileError: the file is not there.
        DataError: it cannot be read, or no row has a text.
    """
    if not path.is_file():
        raise MissingFileError(
            f"there is no text file `{path}`", hint="run `aquachat prepare text` again"
        )
    if path.suffix in (".txt", ".md"):
        yield from in_parts(_file_blocks(path))
    elif path.suffix == ".parquet":
        yield from _parquet_documents(path)
    else:
        yield from _row_documents(path)


def first_documents(parts: Iterable[str], count: int) -> Iterator[str]:
    """The first `count` documents of a stream, long ones with all their parts; 0 for all."""
    num_ended = 0
    for part in parts:
        yield part
        num_ended += not isinstance(part, Continued)
        if count and num_ended == count:
            return


def _counted(split: str, paths: list[Path], progress: Progress | None) -> SplitReport:
    rows = rows_read = 0
    licences = Counter[str]()
    for path in paths:
        for document in read_documents(path):
            if isinstance(document, Continued):
                continue
            rows_read += 1
            rows += document is not None
            if progress is not None and rows_read % PROGRESS_ROWS == 0:
                progress(split, rows_read)
        licences.update(_licences(path))
    if progress is not None:
        progress(split, rows_read)
    return SplitReport(
        file=None,
        rows=rows,
        rows_read=rows_read,
        sources=tuple(
            SourceFile(str(path.absolute()), sha256_of(path), path.stat().st_size) for path in paths
        ),
        rejected={MISSING_TEXT: rows_read - rows} if rows_read > rows else {},
        counts={"licence": dict(sorted(licences.items()))} if licences else {},
    )


def _file_blocks(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            while block := file.read(BLOCK_CHARS):
                yield block
    except UnicodeDecodeError as error:
        raise DataError(
            f"`{path}` is not UTF-8 ({error})", hint="convert it, for example with `iconv -t UTF-8`"
        ) from error
    except OSError as error:
        raise DataError(f"`{path}` cannot be read ({error})") from error


def _row_documents(path: Path) -> Iterator[str | None]:
    found = False
    for row in read_rows(path):
        if isinstance(row, RejectedRow) and row.reason is RowReason.TOO_LONG:
            raise DataError(
                f"line {row.line_number:,} of `{path}` is longer than {MAX_LINE_BYTES >> 20} MiB",
                hint="put that document into a `.txt` file of its own, which may have any length",
            )
        text = None if isinstance(row, RejectedRow) else row.value.get("text")
        if isinstance(text, str):
            found = True
            yield from _parts_of(text)
        else:
            yield None
    if not found:
        raise DataError(f"no row of `{path}` has a `text`", hint='a row is `{"text": "..."}`')


def _parquet_documents(path: Path) -> Iterator[str | None]:
    for batch in _parquet_batches(path, "text", required=True):
        for text in batch:
            if isinstance(text, str):
                yield from _parts_of(text)
            else:
                yield None


def _parts_of(text: str) -> Iterable[str]:
    if len(text) <= PART_CHARS:
        return (text,)
    blocks = (text[start : start + BLOCK_CHARS] for start in range(0, len(text), BLOCK_CHARS))
    return in_parts(blocks)


def _licences(path: Path) -> Counter[str]:
    licences = Counter[str]()
    if path.suffix == ".parquet":
        for batch in _parquet_batches(path, "license", required=False):
            licences.update(value for value in batch if isinstance(value, str))
    return licences


def _parquet_batches(path: Path, column: str, *, required: bool) -> Iterator[list[Any]]:
    """The values of a column, some megabytes at a time; only that column is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without a buffer size, pyarrow reads the column of a whole row group at once.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            if column not in file.schema_arrow.names:
                if required:
                    names = ", ".join(file.schema_arrow.names)
                    raise DataError(
                        f"`{path}` has no column `{column}` (it has {names})",
                        hint="rename the column that holds the documents",
                    )
                return
            rows = _rows_per_batch(file.metadata, column)
            for batch in file.iter_batches(batch_size=rows, columns=[column], use_threads=False):
                yield batch.column(0).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"`{path}` is no readable parquet file ({error})") from error


def _rows_per_batch(metadata: Any, column: str) -> int:
    """How many rows hold about `PARQUET_BATCH_BYTES` of a column, where its values are longest."""
    longest_mean = 0.0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema == column)
        longest_mean = max(longest_mean, size / max(1, group.num_rows))
    if longest_mean == 0:
        return MAX_PARQUET_BATCH_ROWS
    return max(1, min(MAX_PARQUET_BATCH_ROWS, int(PARQUET_BATCH_BYTES / longest_mean)))
