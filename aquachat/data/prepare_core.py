"""The CORE bundle: 22 tasks for base models (DCLM, https://arxiv.org/abs/2406.11794).

What is prepared keeps the bundle's own layout: `core.yaml` names the tasks, their files lie in
`eval_data/`, and `eval_meta_data.csv` gives the accuracy of chance. A task whose file is not in the
bundle is reported as absent, not as an error.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from aquachat.data.catalogue import CORE
from aquachat.data.manifest import MANIFEST_NAME, PrepareReport, SourceFile, SplitReport
from aquachat.data.partial_file import RECORD_SUFFIX
from aquachat.data.split_writer import Progress
from aquachat.errors import DataError, MissingFileError
from aquachat.files import (
    install_directory,
    sha256_of,
    staging_directory,
    write_json,
    writing,
)
from aquachat.tasks.row_files import RejectedRow, read_rows

CORE_URL: Final = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
"""The bundle that nanochat evaluates with."""
TASKS_NAME: Final = "core.yaml"
META_NAME: Final = "eval_meta_data.csv"
DATA_FOLDER: Final = "eval_data"
LICENCE: Final = "of each task, as its authors say"

_NOTICE = re.compile(r"(LICENSE|NOTICE|SOURCES|README)[\w.-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CoreTask:
    """A task that `core.yaml` names."""

    label: str
    file: str
    """Below `eval_data`, with forward slashes."""


def find_core_bundle(source: Path) -> Path:
    """The folder with `core.yaml`: `source`, the folder of the file `source`, or one inside.

    Raises:
        MissingFileError: there is none.
    """
    if source.is_file() and source.suffix in (".yaml", ".yml"):
        return source.parent
    found = sorted(source.rglob(TASKS_NAME), key=lambda path: (len(path.parts), path))
    if not found:
        raise MissingFileError(
            f"there is no `{TASKS_NAME}` in `{source}`",
            hint="name the folder or zip file of the CORE bundle, or leave `--source` out",
        )
    return found[0].parent


def read_core_tasks(path: Path) -> list[CoreTask]:
    """The tasks of a `core.yaml`, in its order.

    Raises:
        DataError: it is no YAML, names no tasks, or a file outside `eval_data`.
    """
    import yaml

    hint = "name the CORE bundle that nanochat or DCLM publishes"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = document["icl_tasks"]
        tasks = [CoreTask(str(entry["label"]), str(entry["dataset_uri"])) for entry in entries]
    except (OSError, UnicodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DataError(f"`{path}` lists no tasks ({error!r})", hint=hint) from error
    for task in tasks:
        parts = PurePosixPath(task.file)
        if parts.is_absolute() or ".." in parts.parts or "\\" in task.file:
            raise DataError(f"`{path}` names `{task.file}`, outside its folder", hint=hint)
    if len({task.label for task in tasks}) < len(tasks) or not tasks:
        raise DataError(f"`{path}` names no task, or one twice", hint=hint)
    return tasks


def prepare_core(
    source: Path,
    output_dir: Path,
    *,
    origin: str | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Copy the bundle in `source` to `output_dir`, after each task's file was read to its end.

    Args:
        source: a folder with the bundle somewhere inside, or its `core.yaml`.
        output_dir: replaced as a whole, so it must be new, empty, or hold a CORE bundle.
        origin: as the manifest names the source; by default its path.
        progress: called with each task and its number of rows.

    Raises:
        MissingFileError: there is no bundle, or it has the file of no task.
        DataError: a file cannot be used, or the disk refused; what was there is as it was.
    """
    _check_replaceable(output_dir)
    bundle = find_core_bundle(source)
    tasks = read_core_tasks(bundle / TASKS_NAME)
    with writing(output_dir), staging_directory(output_dir.parent, output_dir.name) as staging:
        whole = staging / "core"
        whole.mkdir()
        for path in bundle.iterdir():
            is_record = path.name.endswith(RECORD_SUFFIX)
            if path.name in (TASKS_NAME, META_NAME) or (
                _NOTICE.fullmatch(path.name) and not is_record
            ):
                _copy(path, whole / path.name)
        reports: dict[str, SplitReport] = {}
        copied: dict[str, SplitReport] = {}
        for task in tasks:
            if task.file not in copied:
                report = _copy_task(bundle, whole, task.file)
                if report is None:
                    continue
                copied[task.file] = report
            reports[task.label] = copied[task.file]
            if progress is not None:
                progress(task.label, copied[task.file].rows)
        absent = tuple(task.label for task in tasks if task.label not in reports)
        if not reports:
            raise MissingFileError(
                f"`{bundle}` holds the file of none of the {len(tasks)} tasks of `{TASKS_NAME}`",
                hint=f"they have to be in its folder `{DATA_FOLDER}`",
            )
        core = PrepareReport(
            CORE, output_dir, origin or str(source), LICENCE, reports, absent=absent
        )
        write_json(whole / MANIFEST_NAME, core.to_json())
        install_directory(whole, output_dir)
    return core


def _check_replaceable(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TASKS_NAME).is_file():
        raise DataError(
            f"`{folder}` holds other files, which the CORE bundle would replace",
            hint="name a new folder with `--output-dir`",
        )


def _copy_task(bundle: Path, whole: Path, name: str) -> SplitReport | None:
    path, below = bundle / DATA_FOLDER / name, f"{DATA_FOLDER}/{name}"
    if not path.is_file():
        return None
    rows = bad = 0
    for row in read_rows(path):
        rows += 1
        bad += isinstance(row, RejectedRow)
    if bad:
        raise DataError(
            f"{bad} of {rows} lines of `{path}` are no JSON objects",
            hint="download the bundle again",
        )
    _copy(path, whole / below)
    digest, size = sha256_of(path), path.stat().st_size
    return SplitReport(
        file=below,
        rows=rows,
        rows_read=rows,
        sha256=digest,
        num_bytes=size,
        sources=(SourceFile(below, digest, size),),
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def core_summary(report: PrepareReport) -> str:
    """How many of the tasks are there, and which are not.

    Example:
        "core: 20 of 22 tasks are there; absent: squad, coqa"
    """
    present, absent = len(report.splits), report.absent
    line = f"core: {present} of {present + len(absent)} tasks are there"
    return f"{line}; absent: {', '.join(absent)}" if absent else line
