"""Where raw rows come from: files of a folder, a `data.toml`, or the hub."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aquachat.data.catalogue import (
    ALL_SPLITS,
    CORE,
    KNOWN_NAMES,
    SYNTHETIC,
    HubSet,
    HubSplit,
    Split,
    unknown_name,
)
from aquachat.errors import DataError, MissingFileError, RemoteError
from aquachat.files import expand_patterns

DATA_TOML: Final = "data.toml"
ROW_SUFFIXES: Final = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")

_SPLIT_NAME = re.compile(
    r"(?:.*[-_.])?(train|validation|valid|val|dev|test|heldout)(?:-\d+-of-\d+)?"
)
_SPLIT_OF: Final[Mapping[str, Split]] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "heldout": "heldout",
}

DataFiles = dict[str, dict[str, list[Path]]]
"""Data set, then split, then files."""
HubRows = Callable[[str, HubSplit, str | None], Iterable[Mapping[str, Any]]]
"""The rows of (repository, configuration and split, revision)."""


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Local files by split."""

    origin: str
    """As the manifest names the source: the folder or file that the user gave."""
    splits: Mapping[Split, list[Path]]


def read_data_toml(folder: Path) -> DataFiles:
    """The files that `folder/data.toml` names, which all exist.

    Example:
        [aqua]
        train = ["aqua/train.jsonl", "more/*.jsonl"]
        validation = ["aqua/dev.json"]

    Raises:
        MissingFileError: no folder, no `data.toml`, or a file it names is not there.
        DataError: it is no TOML of this form.
        ConfigError: a data set or split that is not known.
    """
    path = folder / DATA_TOML
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        missing = f"no `{DATA_TOML}` in `{folder}`" if folder.is_dir() else f"no folder `{folder}`"
        raise MissingFileError(
            f"there is {missing}",
            hint=f"write a `{DATA_TOML}` with lines such as `[aqua]` and `train = ['rows.jsonl']`",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` is not TOML ({error})", hint=f"correct `{path}`") from error
    return {name: _files_of_table(path, name, table) for name, table in tables.items()}


def _files_of_table(path: Path, dataset: str, table: object) -> dict[str, list[Path]]:
    if dataset not in KNOWN_NAMES or dataset == SYNTHETIC:
        known = tuple(name for name in KNOWN_NAMES if name != SYNTHETIC)
        raise unknown_name("data set", dataset, known, f" (in `{path}`)")
    if not isinstance(table, dict):
        raise DataError(
            f"`{dataset}` in `{path}` is not a table", hint=f"begin it with a line `[{dataset}]`"
        )
    known_splits = ("bundle",) if dataset == CORE else ALL_SPLITS
    files: dict[str, list[Path]] = {}
    for split, patterns in table.items():
        if split not in known_splits:
            raise unknown_name("split", split, known_splits, f" ([{dataset}] in `{path}`)")
        if not isinstance(patterns, list) or not all(isinstance(item, str) for item in patterns):
            raise DataError(
                f"`{split}` of [{dataset}] in `{path}` is not a list of files",
                hint=f'write `{split} = ["rows.jsonl"]`',
            )
        origin = f"`{path}`, [{dataset}] {split}"
        files[split] = expand_patterns(path.parent, patterns, origin=origin)
    return files


def find_split_files(dataset: str, source: Path) -> SplitFiles:
    """The files of a data set in `source`: a folder with a `data.toml`, a folder, or one file.

    In a folder, files tell their split by the end of their names: `train.json`, `dev.json`,
    `ARC-Easy-test.jsonl`, `test-00000-of-00001.parquet`. One file of another name is for training.

    Raises:
        MissingFileError: `source` is not there, or no file in it belongs to a split.
    """
    if source.is_file():
        return SplitFiles(str(source), {_split_of(source) or "train": [source]})
    if not source.is_dir():
        raise MissingFileError(
            f"there is no file or folder `{source}`",
            hint=f"correct `--source`, or run `aquachat prepare {dataset} --source hub`",
        )
    if (source / DATA_TOML).is_file():
        files = read_data_toml(source)
        if dataset not in files:
            raise MissingFileError(
                f"`{source / DATA_TOML}` has no [{dataset}]",
                hint=f"add it, or name the folder with the files of {dataset}",
            )
        by_split = files[dataset]
        return SplitFiles(
            str(source), {name: by_split[name] for name in ALL_SPLITS if name in by_split}
        )
    found: dict[Split, list[Path]] = {}
    for path in sorted(source.iterdir()):
        split = _split_of(path)
        if split is not None and path.name.endswith(ROW_SUFFIXES):
            found.setdefault(split, []).append(path)
    if not found:
        raise MissingFileError(
            f"no file in `{source}` is named after a split",
            hint="name files `train.jsonl`, `validation.jsonl`, `test.jsonl`, or add a `data.toml`",
        )
    return SplitFiles(str(source), found)


def _split_of(path: Path) -> Split | None:
    stem = path.name
    for suffix in sorted(ROW_SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    match = _SPLIT_NAME.fullmatch(stem.lower())
    return _SPLIT_OF[match[1]] if match else None


def hub_rows(repo: str, part: HubSplit, revision: str | None) -> Iterable[Mapping[str, Any]]:
    """The rows of a split on the hub, through `datasets` and its cache.

    Raises:
        RemoteError: the hub could not be reached, or has no such set.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        loaded = datasets.load_dataset(repo, part.config, split=part.split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        name = f"{repo} ({part.config})" if part.config else repo
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RemoteError(
            f"could not get the {part.split} split of `{name}` from the hub: {reason}",
            hint="check the network and HF_ENDPOINT, or use local files with `--source PATH`",
        ) from error
    yield from loaded


def describe_hub(hub: HubSet, revision: str | None) -> str:
    """How the manifest names a source on the hub."""
    return f"hub:{hub.repo}@{revision or 'main'}"
