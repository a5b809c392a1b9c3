"""The tasks of CORE as its bundle of files describes them, and their rows.

    core.yaml               the 22 entries: label, file, number of examples shown, kind, delimiter
    eval_meta_data.csv      what guessing scores, in percent
    eval_data/AREA/TASK.jsonl

The bundle is that of DCLM (arXiv:2406.11794), whose rows come from mosaicml/llm-foundry.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from aquachat.errors import DataError, MissingFileError
from aquachat.tasks.row_files import RejectedRow, read_rows

TASKS_FILE: Final = "core.yaml"
BASELINES_FILE: Final = "eval_meta_data.csv"
ROWS_DIR: Final = "eval_data"
DEFAULT_DELIMITER: Final = " "
SHUFFLE_SEED: Final = 1337
"""Of the order of rows, as nanochat has it; the first N of it are what `--max-examples` asks."""
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of options, in predictions."""
PREPARE_HINT: Final = "run `aquachat prepare core`"


class TaskKind(StrEnum):
    """What is compared."""

    MULTIPLE_CHOICE = "multiple_choice"
    """One context, several continuations: which one is likeliest?"""
    SCHEMA = "schema"
    """Several contexts, one continuation: after which one is it likeliest?"""
    LANGUAGE_MODELING = "language_modeling"
    """One context, one continuation: is each of its tokens the likeliest?"""


@dataclass(frozen=True, slots=True)
class CoreTask:
    """One entry of `core.yaml`."""

    label: str
    file: Path
    kind: TaskKind
    num_fewshot: int
    """Examples shown before the question."""
    delimiter: str
    """Between a context and its continuation."""
    baseline: float
    """What guessing scores, from 0 to 1."""

    @property
    def is_present(self) -> bool:
        """Whether its rows are there."""
        return self.file.is_file()


@dataclass(frozen=True, slots=True)
class CoreItem:
    """A row: contexts and continuations, one of both in all kinds but one."""

    line_number: int
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int
    """Index of the right pair, contexts before continuations; 0 where there is one pair."""

    def texts(self, delimiter: str) -> list[str]:
        """Every context with every continuation; they are what is compared."""
        return [
            f"{context}{delimiter}{continuation}"
            for context in self.contexts
            for continuation in self.continuations
        ]


def read_tasks(directory: Path) -> list[CoreTask]:
    """All entries of the bundle in `directory`, also those whose rows are absent, in order.

    Raises:
        MissingFileError: there is no bundle.
        DataError: a file of it cannot be used.
    """
    path = directory / TASKS_FILE
    entries = _read_yaml(path).get("icl_tasks")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"`{path}` lists no `icl_tasks`", hint=PREPARE_HINT)
    baselines = _read_baselines(directory / BASELINES_FILE)
    tasks = [_task(entry, directory, baselines, path) for entry in entries]
    labels = [task.label for task in tasks]
    if repeated := {label for label in labels if labels.count(label) > 1}:
        raise DataError(f"`{path}` has `{min(repeated)}` twice", hint=PREPARE_HINT)
    return tasks


def read_items(task: CoreTask) -> list[CoreItem]:
    """The rows of a task, in the order in which they are asked.

    No row may be left out: examples are drawn by the number of rows, so one row less is another
    test.

    Raises:
        MissingFileError: the task's file is absent.
        DataError: a line cannot be used, or there are too few rows to draw examples from.
    """
    items = []
    for row in read_rows(task.file):
        if isinstance(row, RejectedRow):
            raise _bad_row(task, row.line_number, str(row.reason).replace("_", " "))
        items.append(_item(task, row.line_number, row.value))
    if len(items) <= task.num_fewshot:
        raise DataError(
            f"`{task.file}` has {len(items)} rows, and each is asked after {task.num_fewshot} "
            "others",
            hint=PREPARE_HINT,
        )
    random.Random(SHUFFLE_SEED).shuffle(items)
    return items


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"CORE is not prepared: there is no `{path}`", hint=PREPARE_HINT
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"`{path}` is no YAML ({reason})", hint=PREPARE_HINT) from error
    if not isinstance(content, dict):
        raise DataError(f"`{path}` lists no `icl_tasks`", hint=PREPARE_HINT)
    return content


def _read_baselines(path: Path) -> dict[str, float]:
    """Label -> what guessing scores, from 0 to 1."""
    found = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                label, percent = row.get("Eval Task"), row.get("Random baseline")
                if label is None or percent is None:
                    raise DataError(
                        f"`{path}` lacks the column `Eval Task` or `Random baseline`",
                        hint=PREPARE_HINT,
                    )
                found[label] = _baseline(percent, label, path)
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no `{path}`", hint=PREPARE_HINT) from error
    except UnicodeDecodeError as error:
        raise DataError(f"`{path}` is not UTF-8", hint=PREPARE_HINT) from error
    return found


def _baseline(percent: str, label: str, path: Path) -> float:
    try:
        value = 0.01 * float(percent)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise DataError(
            f"`{path}` gives `{label}` a baseline of `{percent}` percent", hint=PREPARE_HINT
        )
    return value


def _task(entry: object, directory: Path, baselines: Mapping[str, float], path: Path) -> CoreTask:
    try:
        assert isinstance(entry, dict)
        label, uri = entry["label"], entry["dataset_uri"]
        (num_fewshot,) = entry["num_fewshot"]
        kind = TaskKind(entry["icl_task_type"])
        delimiter = entry.get("continuation_delimiter", DEFAULT_DELIMITER)
        is_sound = all(isinstance(text, str) and text for text in (label, uri, delimiter))
        assert is_sound
        assert isinstance(num_fewshot, int)
        assert num_fewshot >= 0
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"`{path}` has an entry that is no task: {entry}") from error
    if label not in baselines:
        raise DataError(
            f"`{directory / BASELINES_FILE}` has no baseline for `{label}`", hint=PREPARE_HINT
        )
    file = directory / ROWS_DIR / uri
    return CoreTask(label, file, kind, num_fewshot, delimiter, baselines[label])


def _item(task: CoreTask, line: int, row: Mapping[str, object]) -> CoreItem:
    if task.kind is TaskKind.MULTIPLE_CHOICE:
        options = _texts(task, line, row, "choices")
        gold = _gold(task, line, row, len(options))
        return CoreItem(line, (_text(task, line, row, "query"),), options, gold)
    continuation = (_text(task, line, row, "continuation"),)
    if task.kind is TaskKind.SCHEMA:
        options = _texts(task, line, row, "context_options")
        return CoreItem(line, options, continuation, _gold(task, line, row, len(options)))
    # The rows have stray spaces at the ends of contexts, which would hide the delimiter.
    return CoreItem(line, (_text(task, line, row, "context").strip(),), continuation, 0)


def _text(task: CoreTask, line: int, row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _bad_row(task, line, f"without a text `{key}`")
    return value


def _texts(task: CoreTask, line: int, row: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = row.get(key)
    texts = tuple(value) if isinstance(value, list) else ()
    are_texts = all(isinstance(text, str) and text.strip() for text in texts)
    if not are_texts or not 2 <= len(texts) <= len(LETTERS):
        raise _bad_row(task, line, f"without two to {len(LETTERS)} texts in `{key}`")
    return texts


def _gold(task: CoreTask, line: int, row: Mapping[str, object], num_options: int) -> int:
    gold = row.get("gold")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < num_options:
        raise _bad_row(task, line, f"whose `gold` is {gold!r} of {num_options} options")
    return gold


def _bad_row(task: CoreTask, line: int, what: str) -> DataError:
    return DataError(
        f"line {line} of `{task.file}` is a row {what}",
        hint=f"{PREPARE_HINT} to put the file right",
    )
