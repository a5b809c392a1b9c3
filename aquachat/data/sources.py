"""Files of raw rows: those of a folder, of an unpacked bundle, or that a `data.toml` names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from aquachat.data.catalogue import (
    ALL_SPLITS,
    CORE,
    DATASETS,
    KNOWN_NAMES,
    SYNTHETIC,
    Split,
    unknown_name,
)
from aquachat.errors import DataError, MissingFileError
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


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Local files by split."""

    origin: str
    """As the manifest names the source: the folder or file that the user gave."""
    splits: Mapping[Split, list[Path]]
    root: Path | None = None
    """Where `origin` was copied or unpacked to, None where it is itself a path."""

    def name_of(self, path: Path) -> str:
        """A file as the manifest names it: below its origin, wherever it was unpacked."""
        if self.root is None:
            return str(path)
        below = path.relative_to(self.root).as_posix()
        return self.origin if below == "." else f"{self.origin}/{below}"


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
    `ARC-Easy-test.jsonl`, `test-00000-of-00001.parquet`; where there are files of two sets, those
    named after the other are left out. One file of another name is for training, or of a set that
    has no training split for evaluation.

    Raises:
        MissingFileError: `source` is not there, or no file in it belongs to a split.
    """
    if source.is_file():
        return SplitFiles(str(source), {_split_of(source) or _default_split(dataset): [source]})
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
    found = _by_split(dataset, source.iterdir())
    if not found:
        raise MissingFileError(
            f"no file in `{source}` is named after a split",
            hint="name files `train.jsonl`, `validation.jsonl`, `test.jsonl`, or add a `data.toml`",
        )
    return SplitFiles(str(source), found)


def find_bundle_files(dataset: str, folder: Path, origin: str) -> SplitFiles:
    """The files of a data set in an unpacked bundle, however deep they lie.

    A `data.toml` with the set wins; then the folder with the most splits, of those that are named
    after the set if there are any.

    Raises:
        MissingFileError: no file belongs to a split.
        DataError: several folders could be meant.
    """
    if folder.is_file():
        found = find_split_files(dataset, folder)
        return SplitFiles(origin, found.splits, folder)
    for toml in sorted(folder.rglob(DATA_TOML), key=lambda path: len(path.parts)):
        if dataset in read_data_toml(toml.parent):
            found = find_split_files(dataset, toml.parent)
            check_inside(found, folder, origin)
            return SplitFiles(origin, found.splits, folder)
    rows = [path for path in _visible_files(folder) if path.name.endswith(ROW_SUFFIXES)]
    groups: dict[Path, dict[Split, list[Path]]] = {}
    for parent in dict.fromkeys(path.parent for path in rows):
        inside = parent.relative_to(folder)
        by_split = _by_split(dataset, [path for path in rows if path.parent == parent])
        if by_split and not _is_of_another_set(dataset, inside):
            groups[inside] = by_split
    if not groups and len(rows) == 1:
        return SplitFiles(origin, {_default_split(dataset): rows}, folder)
    chosen = _best_group(dataset, groups)
    if len(chosen) > 1:
        raise DataError(
            f"several folders of `{origin}` could be {dataset}: "
            f"{', '.join(f'`{path.as_posix()}`' for path in sorted(chosen))}",
            hint="unpack it and name one of them with `--source`",
        )
    if not chosen:
        raise MissingFileError(
            f"no file in `{origin}` is named after a split of {dataset}",
            hint="it has to hold files such as `train.jsonl`, `validation.jsonl`, `test.jsonl`",
        )
    return SplitFiles(origin, groups[chosen[0]], folder)


def check_inside(found: SplitFiles, folder: Path, origin: str) -> None:
    """Make sure that the `data.toml` of a bundle names files of the bundle.

    Raises:
        DataError: it names another file of this machine.
    """
    for path in (path for paths in found.splits.values() for path in paths):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"`{DATA_TOML}` of `{origin}` names `{path}`, outside the bundle",
                hint="unpack it yourself and name the folder with `--source` if you trust it",
            )


def _best_group(dataset: str, groups: Mapping[Path, Mapping[Split, list[Path]]]) -> list[Path]:
    named = [path for path in groups if _plain(dataset) in _plain(path)] or list(groups)
    most = max((len(groups[path]) for path in named), default=0)
    return [path for path in named if len(groups[path]) == most]


def _visible_files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith((".", "__MACOSX")) for part in parts):
            yield path


def _by_split(dataset: str, paths: Iterable[Path]) -> dict[Split, list[Path]]:
    rows = [path for path in sorted(paths) if path.name.endswith(ROW_SUFFIXES) and _split_of(path)]
    own = [path for path in rows if not _is_of_another_set(dataset, PurePath(path.name))]
    found: dict[Split, list[Path]] = {}
    for path in own or rows:
        if (split := _split_of(path)) is not None:
            found.setdefault(split, []).append(path)
    return found


def _is_of_another_set(dataset: str, path: PurePath) -> bool:
    """Whether a path names another set and not this one: `ARC-Easy-test.jsonl`, `gsm8k/`."""
    if _plain(dataset) in _plain(path):
        return False
    others = DATASETS.keys() - {"chat", "identity", dataset}  # two ordinary words
    return any(_plain(other) in _plain(path) for other in others)


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _default_split(dataset: str) -> Split:
    spec = DATASETS.get(dataset)
    return "train" if spec is None else spec.default_split


def _split_of(path: Path) -> Split | None:
    stem = path.name
    for suffix in sorted(ROW_SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    match = _SPLIT_NAME.fullmatch(stem.lower())
    return _SPLIT_OF[match[1]] if match else None
