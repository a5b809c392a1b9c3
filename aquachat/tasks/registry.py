"""Tasks by the name that a user types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aquachat.errors import ConfigError, MissingFileError
from aquachat.tasks.aqua import load_aqua
from aquachat.tasks.arc import read_arc_row
from aquachat.tasks.base import Task
from aquachat.tasks.choice_task import ReadRow, load_choice_task
from aquachat.tasks.free_form import load_free_form
from aquachat.tasks.gsm8k import load_gsm8k
from aquachat.tasks.humaneval import load_humaneval
from aquachat.tasks.mmlu import read_mmlu_row
from aquachat.tasks.rows import Row, read_choice_row, read_rows
from aquachat.tasks.spelling import SPELLING_SPLITS, SpellingTask
from aquachat.tasks.synthetic_task import DEFAULT_NUM_ITEMS, SYNTHETIC_SPLITS, synthetic_task

ROW_SUFFIXES = (".jsonl", ".json", ".gz", ".parquet")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a name stands for; the first split is the one evaluated by default."""

    name: str
    dataset: str
    splits: tuple[str, ...]
    read_row: ReadRow | None = None


TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TaskSpec("AQUA", "aqua", ("validation", "train", "test")),
        TaskSpec("AQUA-HELDOUT", "aqua", ("heldout",), read_choice_row),
        TaskSpec("GSM8K", "gsm8k", ("test", "train")),
        TaskSpec("ARC-EASY", "arc-easy", ("test", "validation", "train"), read_arc_row),
        TaskSpec("ARC-CHALLENGE", "arc-challenge", ("test", "validation", "train"), read_arc_row),
        TaskSpec("MMLU", "mmlu", ("test", "validation", "train"), read_mmlu_row),
        TaskSpec("HUMANEVAL", "humaneval", ("test",)),
        TaskSpec("SPELLING", "spelling", SPELLING_SPLITS),
        TaskSpec(
            "SYNTHETIC",
            "synthetic",
            ("new_numbers", *(split for split in SYNTHETIC_SPLITS if split != "new_numbers")),
        ),
    )
}


def task_by_name(
    name: str,
    split: str | None = None,
    *,
    data_root: Path,
    aqua_dir: Path | None = None,
    seed: int = 0,
    max_examples: int | None = None,
) -> Task:
    """The task that `name` stands for, in any case, or the rows at a path.

    A path's rows have options, in the form of AQuA, ARC or MMLU, or a free answer (see
    `free_form`). `data_root` holds the prepared sets, `<data_root>/<dataset>/<split>.jsonl`;
    `aqua_dir` is used for AQUA and AQUA-HELDOUT instead where it is given. `seed` draws the
    problems of SYNTHETIC and SPELLING, and the `max_examples` rows of a larger set.

    Raises:
        PreflightError: HUMANEVAL, where programs cannot be isolated.
        ConfigError: an unknown name or split, with the closest one as the hint.
        MissingFileError: the set is not prepared.
        DataError: its file cannot be used.
    """
    if _is_path(name):
        return _custom_task(Path(name), split, seed, max_examples)
    spec = _spec(name)
    split = _split(spec, split)
    if spec.name == "SYNTHETIC":
        count = DEFAULT_NUM_ITEMS if max_examples is None else max_examples
        return synthetic_task(split, seed=seed, count=count)
    if spec.name == "SPELLING":
        return SpellingTask(split, seed=seed, count=max_examples)
    directory = data_root / spec.dataset
    if spec.dataset == "aqua" and aqua_dir is not None:
        directory = aqua_dir
    if spec.name == "AQUA":
        return load_aqua(directory, split, seed=seed, max_examples=max_examples)
    path = _prepared_file(directory, spec, split)
    if spec.name == "HUMANEVAL":
        return load_humaneval(path, split, seed=seed, max_examples=max_examples)
    if spec.read_row is None:
        return load_gsm8k(path, split, seed=seed, max_examples=max_examples)
    return load_choice_task(
        path,
        name=spec.name,
        split=split,
        dataset=spec.dataset,
        read_row=spec.read_row,
        seed=seed,
        max_examples=max_examples,
    )


def _prepared_file(directory: Path, spec: TaskSpec, split: str) -> Path:
    path = directory / f"{split}.jsonl"
    if not path.exists():
        raise MissingFileError(
            f"{spec.name} is not prepared: there is no `{path}`",
            hint=f"run `aquachat prepare {spec.dataset}`",
        )
    return path


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.lower().endswith(ROW_SUFFIXES)


def _custom_task(path: Path, split: str | None, seed: int, max_examples: int | None) -> Task:
    stem = path.name.split(".")[0]
    split = split or "rows"
    first = next((row.value for row in read_rows(path) if isinstance(row, Row)), {})
    if "answer" in first and not {"options", "choices", "letters"} & set(first):
        return load_free_form(path, name=stem, split=split, seed=seed, max_examples=max_examples)
    return load_choice_task(
        path,
        name=stem,
        split=split,
        dataset=stem,
        read_row=_reader_of(first),
        seed=seed,
        max_examples=max_examples,
    )


def _reader_of(row: Mapping[str, object]) -> ReadRow:
    """How rows like this one are read: ARC's have choices with labels, MMLU's a list of them."""
    choices = row.get("choices")
    if isinstance(choices, Mapping):
        return read_arc_row
    return read_mmlu_row if isinstance(choices, list) else read_choice_row


def _spec(name: str) -> TaskSpec:
    spec = TASKS.get(name.upper())
    if spec is None:
        closest = difflib.get_close_matches(name.upper(), TASKS, n=1)
        raise ConfigError(
            f"there is no task `{name}`",
            hint=f"did you mean `--task {closest[0]}`?"
            if closest
            else f"use one of {', '.join(TASKS)}, or a path to rows such as `--task rows.jsonl`",
        )
    return spec


def _split(spec: TaskSpec, split: str | None) -> str:
    if split is None:
        return spec.splits[0]
    if split not in spec.splits:
        closest = difflib.get_close_matches(split, spec.splits, n=1)
        raise ConfigError(
            f"{spec.name} has no split `{split}`",
            hint=f"did you mean `--task {spec.name}/{closest[0]}`?"
            if closest
            else f"use one of {', '.join(spec.splits)}",
        )
    return split
