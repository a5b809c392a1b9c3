"""Tables of what has no single accuracy: CORE, ChatCORE and bits per byte."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aquachat.track.report_data import Estimate
from aquachat.track.report_tables import Table, count, interval, percent
from aquachat.track.values import as_number

BPB_PROTOCOL = "bpb"
_TITLES = {"CHATCORE": "ChatCORE"}


def score_tables(document: Mapping[str, Any]) -> list[Table]:
    """One table for each score, and one of bits per byte.

    Args:
        document: as printed by `aquachat run --json`; `scores` and `eval` are read.
    """
    tables = [_score_table(score) for score in _rows(document, "scores")]
    losses = [row for row in _rows(document, "eval") if row.get("protocol") == BPB_PROTOCOL]
    return [*tables, *([_loss_table(losses)] if losses else [])]


def read_scores(folder: Path) -> dict[str, list[Mapping[str, Any]]]:
    """`scores` and bits per byte (`eval`) in the files of a run's `eval` folder.

    A file that cannot be read is left out, as everywhere in a report.
    """
    return {
        "scores": _read(folder.glob("*.score.json")),
        "eval": _read(folder.glob(f"*-{BPB_PROTOCOL}.json")),
    }


def score_line(score: Mapping[str, Any]) -> str:
    """What a score came to, in one line that claims no more than was measured.

    Example:
        "partial CORE of base@600, 15 of 22 tasks: 0.0123 [-0.0040, 0.0290]"
    """
    name = _TITLES.get(str(score.get("name")), str(score.get("name")))
    ends = [as_number(end) for end in score.get("ci95") or ()]
    inside = ", ".join("-" if end is None else f"{end:.4f}" for end in ends)
    value = as_number(score.get("value"))
    shown = "-" if value is None else f"{value:.4f}"
    measured, total = score.get("num_measured"), score.get("num_tasks")
    part = "partial " if score.get("absent") else ""
    about = f"{score.get('checkpoint')}, {measured} of {total} tasks"
    return f"{part}{name} of {about}: {shown} [{inside}]"


def _score_table(score: Mapping[str, Any]) -> Table:
    tasks = score.get("tasks")
    rows = [
        _task_row(str(name), task)
        for name, task in (tasks.items() if isinstance(tasks, Mapping) else ())
        if isinstance(task, Mapping)
    ]
    absent = [str(name) for name in score.get("absent") or ()]
    rows += [(name, "absent", "-", "-", "-", "-") for name in absent]
    title = score_line(score)
    note = (
        "Centred accuracy is 0 for guessing and 1 for all right; the score is its mean over tasks. "
        "Brackets are 95% intervals over questions."
    )
    if absent:
        note += (
            f" Not measured: {', '.join(absent)}. A score over fewer tasks is not comparable with "
            "the whole one."
        )
    columns = ("task", "protocol", "n", "accuracy [95%]", "guessing", "centred")
    return Table(title[0].upper() + title[1:], columns, tuple(rows), note)


def _task_row(name: str, task: Mapping[str, Any]) -> tuple[str, ...]:
    accuracy, centred = as_number(task.get("accuracy")), as_number(task.get("centred"))
    ends = [as_number(end) for end in task.get("ci95") or ()]
    low, high = ends if len(ends) == 2 else (None, None)
    return (
        f"{name} {task.get('split', '')}".strip(),
        str(task.get("protocol", "")),
        count(task.get("num_examples")),
        "-" if accuracy is None else interval(Estimate(accuracy, low, high)),
        percent(as_number(task.get("baseline"))),
        "-" if centred is None else f"{centred:.4f}",
    )


def _loss_table(losses: Iterable[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            str(row.get("split", "")),
            str(row.get("checkpoint", "")),
            _four_digits(row.get("bits_per_byte")),
            _four_digits(row.get("nats_per_token")),
            count(row.get("num_bytes")),
            count(row.get("num_tokens")),
        )
        for row in losses
    )
    columns = ("text", "model", "bits per byte", "nats per token", "bytes", "tokens")
    note = (
        "Bits per byte count the exact bytes of every token, so that models with other "
        "vocabularies compare on the same text; nats per token do not."
    )
    return Table("Text", columns, rows, note)


def _four_digits(value: object) -> str:
    number = as_number(value)
    return "-" if number is None else f"{number:.4f}"


def _rows(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = document.get(name)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _read(paths: Iterable[Path]) -> list[Mapping[str, Any]]:
    found = []
    for path in sorted(paths):
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, Mapping):
            found.append(content)
    return found
