"""What was prepared: `manifest.json` beside the splits, and the same as a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from aquachat.errors import DataError, MissingFileError

MANIFEST_NAME: Final = "manifest.json"
REJECTED_NAME: Final = "rejected.jsonl"
FORMAT: Final = "aquachat-data"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that rows were read from."""

    file: str
    sha256: str | None = None
    """None for the hub."""
    num_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GuardSplit:
    """An evaluation split whose questions training rows were held against."""

    split: str
    """For example `gsm8k/test`."""
    rows: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class FlaggedRow:
    """An evaluation row that was kept though something is wrong with it."""

    row: int
    """Its line in the split's file, from 1."""
    source: str
    line: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What became of the rows of one split."""

    file: str | None
    """In the data set's folder; None where the rows stay where they are."""
    rows: int
    rows_read: int
    sha256: str | None = None
    num_bytes: int | None = None
    sources: tuple[SourceFile, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    flagged: tuple[FlaggedRow, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Rows by value of what is worth counting: `letter`, `option_references`, `licence`..."""


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What `aquachat prepare` did; `manifest.json` holds the same."""

    dataset: str
    directory: Path
    source: str
    licence: str
    splits: Mapping[str, SplitReport]
    revision: str | None = None
    """Of a set from the hub: its commit, which the next preparation uses again."""
    absent: tuple[str, ...] = ()
    """Of a bundle: the parts it names and does not hold."""
    guards: tuple[GuardSplit, ...] = ()
    """What training rows were held against."""
    keeps_contaminated: bool = False
    """Whether training rows that give an evaluation question away were kept nevertheless."""

    @property
    def num_rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    def files(self) -> list[dict[str, Any]]:
        """Every file that is now ready, with its size and hash: splits, or text where it lies."""
        found: list[dict[str, Any]] = []
        for split in self.splits.values():
            if split.file is not None:
                place = str(self.directory / split.file)
                found.append(_file_entry(self.dataset, place, split.num_bytes, split.sha256))
                continue
            found += [
                _file_entry(self.dataset, source.file, source.num_bytes, source.sha256)
                for source in split.sources
            ]
        return list({entry["path"]: entry for entry in found}.values())

    def to_json(self) -> dict[str, Any]:
        """The contents of `manifest.json`: nothing that depends on when or where it was made."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "dataset": self.dataset,
            "source": self.source,
            "licence": self.licence,
            "revision": self.revision,
            "absent": list(self.absent),
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "guards": [asdict(guard) for guard in self.guards],
            "keeps_contaminated": self.keeps_contaminated,
        }


def _file_entry(
    dataset: str, path: str, num_bytes: int | None, sha256: str | None
) -> dict[str, Any]:
    return {"dataset": dataset, "path": path, "bytes": num_bytes, "sha256": sha256}


def read_manifest(directory: Path) -> PrepareReport:
    """The report that was written into `directory`.

    Raises:
        MissingFileError: there is none.
        DataError: it is not one of ours, or of a version that this program does not read.
    """
    path = directory / MANIFEST_NAME
    hint = f"run `aquachat prepare {directory.name}` again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise DataError(f"`{path}` is not a manifest that this program reads", hint=hint)
        splits = {name: _split_report(split) for name, split in content["splits"].items()}
        return PrepareReport(
            content["dataset"],
            directory,
            content["source"],
            content["licence"],
            splits,
            content.get("revision"),
            tuple(content.get("absent", ())),
            # Manifests of before these were known have neither.
            tuple(GuardSplit(**guard) for guard in content.get("guards", [])),
            content.get("keeps_contaminated", False),
        )
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no `{path}`", hint=hint) from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeError) as error:
        raise DataError(f"`{path}` is not a manifest ({error!r})", hint=hint) from error


def _split_report(split: Mapping[str, Any]) -> SplitReport:
    flagged = (FlaggedRow(**{**row, "reasons": tuple(row["reasons"])}) for row in split["flagged"])
    return SplitReport(
        **{
            **split,
            "sources": tuple(SourceFile(**file) for file in split["sources"]),
            "flagged": tuple(flagged),
        }
    )
