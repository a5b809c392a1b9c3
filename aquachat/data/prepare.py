"""Raw rows to the splits of a data set: checked, counted, and installed together or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aquachat.data.catalogue import (
    ALL_SPLITS,
    HELDOUT,
    TEXT,
    DatasetSpec,
    HubSplit,
    Split,
    dataset_spec,
)
from aquachat.data.heldout import split_off_held_out
from aquachat.data.hub import (
    HubRows,
    ResolveRevision,
    describe_hub,
    hub_rows,
    resolve_revision,
)
from aquachat.data.hygiene.groups import HELDOUT_ROWS
from aquachat.data.hygiene.guard import EvaluationGuard
from aquachat.data.hygiene.prepared import add_questions, prepared_sets
from aquachat.data.manifest import (
    MANIFEST_NAME,
    REJECTED_NAME,
    GuardSplit,
    PrepareReport,
    SourceFile,
    SplitReport,
    read_manifest,
)
from aquachat.data.prepare_synthetic import prepare_synthetic
from aquachat.data.sources import SplitFiles, find_split_files
from aquachat.data.split_writer import Progress, RowInput, SplitWriter
from aquachat.data.text_documents import TextSet, open_text_set, prepare_text
from aquachat.errors import AquachatError, ConfigError, MissingFileError
from aquachat.files import (
    install_files,
    sha256_of,
    staging_directory,
    write_json,
    writing,
)
from aquachat.tasks.row_files import Row, read_rows

__all__ = [
    "HygienePolicy",
    "TextSet",
    "open_text_set",
    "prepare_dataset",
    "prepare_synthetic",
    "prepare_text",
]

HAS_HELD_OUT: Final = "aqua"
"""The set that a held-out slice is split off."""


@dataclass(frozen=True, slots=True)
class HygienePolicy:
    """What training rows are held against, and what becomes of those that fail.

    Without one, they are held against the set's own evaluation splits.
    """

    evaluation_root: Path | None = None
    """A folder of prepared sets whose evaluation questions must not be trained on either."""
    keep_contaminated: bool = False
    """Keep training rows that give an evaluation question away, and count them."""
    heldout_rows: int = HELDOUT_ROWS
    """Rows split off AQuA's training pool, at most a fifth of it; 0 for none."""


def prepare_dataset(
    name: str,
    *,
    source: Literal["hub"] | Path | SplitFiles,
    output_dir: Path,
    max_train: int | None = None,
    max_validation: int | None = None,
    max_test: int | None = None,
    revision: str | None = None,
    hub: HubRows = hub_rows,
    resolve: ResolveRevision = resolve_revision,
    policy: HygienePolicy | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Write the splits of a data set, `manifest.json` and `rejected.jsonl` into `output_dir`.

    A training row that cannot be used, or that gives a question of an evaluation split away
    (`aquachat.data.hygiene.guard`), is left out with a reason. An evaluation row is never left out:
    what is wrong with it is in the manifest. Of AQuA, part of the training rows become `heldout`,
    unless the source has such a split.
    The files replace older ones together, after the last row was read. Of `text`, only the
    manifest is written: the documents stay where they are.

    Args:
        name: one of `DATASETS`, or `text`.
        source: `hub`, a folder or file of raw rows, or the files of each split.
        output_dir: created where it is missing.
        max_train: keep the first so many training rows; None for all.
        max_validation: the same for validation. Rows beyond it still guard the training rows.
        max_test: the same for test.
        revision: a commit, tag or branch on the hub; None for the commit that the manifest in
            `output_dir` names, else the newest.
        hub: how rows of the hub are read.
        resolve: how the commit of a revision is found.
        policy: what else training rows are held against; None for the default.
        progress: called as rows are read.

    Raises:
        ConfigError: there is no such data set or revision, or the hub does not have it.
        MissingFileError: a source is not there.
        DataError: a file cannot be read, has no usable row, or the disk refused a write.
        RemoteError: the hub could not be reached.
    """
    if name == TEXT:
        return prepare_text(source, output_dir, progress=progress)
    spec = dataset_spec(name)
    commit = None
    if source == "hub":
        commit = _commit_of(spec, revision, output_dir, resolve)
    origin, inputs = _inputs_of(spec, source, commit, hub)
    limits: dict[Split, int | None] = {
        "train": max_train,
        "validation": max_validation,
        "test": max_test,
    }
    return _install(
        spec, origin, inputs, limits, output_dir, commit, policy or HygienePolicy(), progress
    )


def recorded_revision(output_dir: Path, repo: str) -> str | None:
    """The commit of `repo` that `output_dir` was prepared from; None where it was not."""
    try:
        manifest = read_manifest(output_dir)
    except AquachatError:
        return None
    return manifest.revision if manifest.source.startswith(f"hub:{repo}@") else None


def _commit_of(
    spec: DatasetSpec, revision: str | None, output_dir: Path, resolve: ResolveRevision
) -> str:
    if spec.hub is None:
        raise ConfigError(
            f"`{spec.name}` is read from files, and none were named",
            hint="add `--source PATH`; conversations from the hub are `aquachat prepare smoltalk`",
        )
    if revision is None:
        revision = recorded_revision(output_dir, spec.hub.repo)
    return resolve(spec.hub.repo, revision)


def _inputs_of(
    spec: DatasetSpec,
    source: Literal["hub"] | Path | SplitFiles,
    revision: str | None,
    hub: HubRows,
) -> tuple[str, dict[Split, list[RowInput]]]:
    if isinstance(source, Path):
        source = find_split_files(spec.name, source)
    if isinstance(source, SplitFiles):
        return source.origin, {
            split: [_file_input(path, source.name_of(path)) for path in paths]
            for split, paths in source.splits.items()
        }
    assert spec.hub is not None, "checked before its commit was resolved"
    origin = describe_hub(spec.hub, revision)
    return origin, {
        split: [
            RowInput(
                SourceFile(f"{origin}:{part.config or 'default'}/{part.split}"),
                _numbered(hub, spec.hub.repo, part, revision),
            )
        ]
        for split, part in spec.hub.splits.items()
    }


def _file_input(path: Path, name: str) -> RowInput:
    if not path.is_file():
        raise MissingFileError(f"there is no file `{path}`", hint=f"check `ls {path.parent}`")
    return RowInput(SourceFile(name, sha256_of(path), path.stat().st_size), read_rows(path))


def _numbered(hub: HubRows, repo: str, part: HubSplit, revision: str | None) -> Iterator[Row]:
    for number, row in enumerate(hub(repo, part, revision), start=1):
        yield Row(number, dict(row))


def _install(
    spec: DatasetSpec,
    origin: str,
    inputs: Mapping[Split, list[RowInput]],
    limits: Mapping[Split, int | None],
    output_dir: Path,
    commit: str | None,
    policy: HygienePolicy,
    progress: Progress | None,
) -> PrepareReport:
    guard = EvaluationGuard()
    holds_out = spec.name == HAS_HELD_OUT and HELDOUT not in inputs and policy.heldout_rows > 0
    reports: dict[str, SplitReport] = {}
    guards: list[GuardSplit] = []
    with writing(output_dir), staging_directory(output_dir, "prepare") as staging:
        with (staging / REJECTED_NAME).open("wb") as quarantine:
            # Training comes last: what it must not hold has to be known by then.
            for split in sorted(inputs, key=lambda name: name == "train"):
                if split == "train":
                    guards = _guards(spec.name, reports, guard, policy.evaluation_root)
                writer = SplitWriter(
                    staging,
                    split,
                    spec.read_row,
                    name=f"{spec.name}/{split}",
                    limit=None if holds_out and split == "train" else limits.get(split),
                    quarantine=quarantine,
                    keep_contaminated=policy.keep_contaminated,
                )
                reports[split] = writer.write(inputs[split], guard, progress)
        if holds_out and "train" in reports:
            reports |= split_off_held_out(
                staging,
                reports["train"],
                spec.read_row,
                max_rows=policy.heldout_rows,
                max_train=limits["train"],
            )
        report = PrepareReport(
            spec.name,
            output_dir,
            origin,
            spec.licence,
            {name: reports[name] for name in ALL_SPLITS if name in reports},
            commit,
            guards=tuple(guards),
            keeps_contaminated=policy.keep_contaminated,
        )
        write_json(staging / MANIFEST_NAME, report.to_json())
        install_files(staging, output_dir, _stale_files(output_dir, report))
    return report


def _guards(
    dataset: str,
    reports: Mapping[str, SplitReport],
    guard: EvaluationGuard,
    evaluation_root: Path | None,
) -> list[GuardSplit]:
    """Tell the guard of other prepared sets; all splits that training rows are held against."""
    found = [
        GuardSplit(f"{dataset}/{split}", report.rows_read, report.sha256)
        for split, report in reports.items()
    ]
    for other in prepared_sets(evaluation_root) if evaluation_root is not None else []:
        if other.dataset != dataset:
            found += add_questions(guard, other)
    return found


def _stale_files(output_dir: Path, report: PrepareReport) -> set[str]:
    """Splits that an earlier preparation wrote and this one does not have."""
    try:
        old = read_manifest(output_dir)
    except AquachatError:
        return set()
    new = {split.file for split in report.splits.values()}
    return {split.file for split in old.splits.values() if split.file} - new
