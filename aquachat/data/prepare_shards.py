"""FineWeb-Edu and ClimbMix: shards of text on the hub, downloaded and left where they are.

Both were shuffled and cut into parquet shards of about 100 MB by nanochat's author; the first N are
for training and the last one of all is held out, whatever N is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from aquachat.data.addresses import check_address, shown_url
from aquachat.data.catalogue import ShardedText, Split
from aquachat.data.download import FetchedFile, RawFile
from aquachat.data.hub import ResolveRevision, hub_endpoint, resolve_revision
from aquachat.data.manifest import MANIFEST_NAME, PrepareReport, SourceFile, SplitReport
from aquachat.data.partial_file import discard_download
from aquachat.data.prepare import recorded_revision
from aquachat.errors import ConfigError, DataError
from aquachat.files import install_files, staging_directory, write_json, writing

SHARDS_FOLDER: Final = "shards"

FetchAll = Callable[[list[RawFile]], list[FetchedFile]]


def prepare_shards(
    text: ShardedText,
    output_dir: Path,
    num_shards: int,
    fetch_all: FetchAll,
    *,
    base_url: str | None = None,
    revision: str | None = None,
    resolve: ResolveRevision = resolve_revision,
) -> PrepareReport:
    """Download what is missing of `num_shards` training shards and the held-out one.

    The shards lie in `output_dir/shards`, and the manifest names them as documents, as that of
    `prepare_text` does. Shards beyond `num_shards` that are there already are kept on disk and not
    used.

    Args:
        text: which set.
        output_dir: where its manifest and shards go.
        num_shards: for training, at least 1; at most all are taken.
        fetch_all: downloads files, for example `SourceFetcher.fetch_all`.
        base_url: a folder with the shards elsewhere; None for the hub.
        revision: a commit, tag or branch; None for the one in the manifest, else the newest.
        resolve: how the commit of a revision is found.

    Raises:
        ConfigError: fewer than one shard, or no such revision.
        RemoteError: a shard could not be downloaded; those that are complete are kept.
        DataError: a shard is no parquet file with a column `text`, or the disk refused.
    """
    if num_shards < 1:
        raise ConfigError(
            f"`--shards {num_shards}` leaves no text to train on", hint="use `--shards 8` or more"
        )
    commit = None
    if base_url is not None:
        origin = shown_url(check_address(base_url))
    else:
        commit = resolve(text.repo, revision or recorded_revision(output_dir, text.repo))
        origin = f"hub:{text.repo}@{commit}"
        base_url = f"{hub_endpoint()}/datasets/{text.repo}/resolve/{commit}"
    names: dict[Split, list[str]] = {
        "train": [text.file_name(i) for i in range(min(num_shards, text.last_shard))],
        "validation": [text.file_name(text.last_shard)],
    }
    folder = output_dir / SHARDS_FOLDER
    wanted = [
        RawFile(
            f"{base_url.rstrip('/')}/{name}",
            folder / name,
            identity=None if commit is None else f"{origin}/{name}",
        )
        for split in names.values()
        for name in split
    ]
    fetched = {file.path.name: file for file in fetch_all(wanted)}
    splits: dict[str, SplitReport] = {
        split: _report([fetched[name] for name in shards]) for split, shards in names.items()
    }
    report = PrepareReport(text.name, output_dir, origin, text.licence, splits, commit)
    with writing(output_dir), staging_directory(output_dir, "prepare") as staging:
        write_json(staging / MANIFEST_NAME, report.to_json())
        install_files(staging, output_dir)
    return report


def _report(files: Sequence[FetchedFile]) -> SplitReport:
    rows = sum(_num_documents(file) for file in files)
    return SplitReport(
        file=None,
        rows=rows,
        rows_read=rows,
        sources=tuple(
            SourceFile(str(file.path.absolute()), file.sha256, file.num_bytes) for file in files
        ),
    )


def _num_documents(file: FetchedFile) -> int:
    """Rows of a shard by its footer; a shard that has none is removed, so that it comes again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as parquet:
            names = parquet.schema_arrow.names
            num_rows = int(parquet.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        discard_download(file.path)
        raise DataError(
            f"`{file.url}` is no readable parquet file ({error})",
            hint="run the same command again: it is downloaded anew",
        ) from error
    if "text" not in names:
        raise DataError(
            f"`{file.url}` has no column `text` (it has {', '.join(names)})",
            hint="name another address of the shards with `--source`",
        )
    return num_rows
