"""Results computed again from the predictions on disk, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aquachat.errors import DataError, MissingFileError
from aquachat.eval.centred import CentredScore, CentredTask
from aquachat.eval.core import CORE, CORE_PROTOCOL
from aquachat.eval.predictions import read_predictions
from aquachat.eval.results import ALL_QUESTIONS, NOT_ASKED_FOR, EvalResult, recompute
from aquachat.files import write_json
from aquachat.pipeline.evaluation import (
    COMPARISONS_FILE,
    Scored,
    compared,
    keep_comparisons,
    result_stem,
)
from aquachat.train.lineage import STAGES

SCORE_SUFFIX = ".score.json"
PREDICTIONS_SUFFIX = ".predictions.jsonl"


def recompute_run(folder: Path, run: str) -> dict[str, Any]:
    """Compute every result in a run's `eval` folder again from its predictions, and rewrite it.

    Scores over several tasks, CORE and ChatCORE, follow from the results.

    What predictions cannot know is taken over from the result's own file: the checkpoint, how
    questions were asked, rows that could not be, and the seconds it took. Compared is what the last
    evaluation compared.

    Args:
        folder: `runs/<run>/eval`.
        run: its name.

    Returns:
        A document as of `aquachat eval --json`.

    Raises:
        MissingFileError: there are no predictions.
        DataError: a file cannot be read, or predictions have lost their result.
    """
    scored = read_scored(folder)
    if not scored:
        raise MissingFileError(
            f"there are no predictions in `{folder}`", hint=f"run `aquachat eval --run {run}`"
        )
    for entry in scored:
        document = entry.to_json()
        write_json(folder / f"{result_stem(document)}.json", {"run": run, **document})
    scores = [_score_again(path, run, scored) for path in sorted(folder.glob(f"*{SCORE_SUFFIX}"))]
    found = compared(_pairs(folder / COMPARISONS_FILE, scored))
    keep_comparisons(folder, run, found)
    document = {
        "run": run,
        "results": [entry.to_json() for entry in scored],
        "comparisons": found,
    }
    return document | ({"scores": scores} if scores else {})


def read_scored(folder: Path) -> list[Scored]:
    """Every result in a run's `eval` folder, computed from its predictions; earlier stages first.

    Raises:
        DataError: a file cannot be read, or predictions have lost their result.
    """
    paths = sorted(folder.glob(f"*{PREDICTIONS_SUFFIX}"))
    return sorted((_scored_again(path, _read(_result_path(path))) for path in paths), key=_age)


def _scored_again(path: Path, before: Mapping[str, Any]) -> Scored:
    predictions = read_predictions(path)
    try:
        result = recompute(
            predictions,
            task=before["task"],
            split=before["split"],
            protocol=before["protocol"],
            num_unasked=before["num_examples"] - before["num_scored"],
            seconds=before["seconds"],
            options_only_note=before.get("options_only_note", NOT_ASKED_FOR),
        )
        return Scored(
            before["stage"],
            before["checkpoint"],
            before["task"],
            before["split"],
            result,
            before.get("settings", {}),
        )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"`{_result_path(path)}` does not say what was asked ({error})",
            hint="run `aquachat eval` again",
        ) from error


def _score_again(path: Path, run: str, scored: Sequence[Scored]) -> dict[str, Any]:
    """A score over several tasks from the results beside it, written again.

    A task whose predictions are gone keeps what the file says of it.
    """
    before = _read(path)
    try:
        own = {
            (entry.task, entry.split, entry.result.protocol): entry.result
            for entry in scored
            if entry.checkpoint == before["checkpoint"]
        }
        tasks = tuple(
            _task_again(CentredTask.from_json(name, entry), own)
            for name, entry in before["tasks"].items()
        )
        score = CentredScore(before["name"], tasks, tuple(before["absent"]))
        names = {key: before[key] for key in ("stage", "checkpoint")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"`{path}` does not say what it was made of ({error})",
            hint="run `aquachat eval` again",
        ) from error
    entry = {**names, **score.to_json()}
    write_json(path, {"run": run, **entry})
    return entry


def _task_again(task: CentredTask, own: Mapping[tuple[str, str, str], EvalResult]) -> CentredTask:
    """A task of a score with its recomputed figures; CORE's tasks are splits of `CORE`."""
    is_core = task.protocol == CORE_PROTOCOL
    key = (CORE, task.name) if is_core else (task.name, task.split)
    result = own.get((*key, task.protocol))
    if result is None:
        return task
    return replace(task, accuracy=result.accuracy, ci95=result.ci95, num_examples=result.num_scored)


def _result_path(predictions: Path) -> Path:
    return predictions.with_name(predictions.name.removesuffix(PREDICTIONS_SUFFIX) + ".json")


def _age(entry: Scored) -> tuple[int, int, str]:
    """Earlier stages and steps first, so that a difference is a gain of the later one."""
    stage = STAGES.index(entry.stage) if entry.stage in STAGES else len(STAGES)
    step = entry.checkpoint.partition("@")[2].partition("~")[0]
    return stage, int(step) if step.isdigit() else 0, entry.checkpoint


def _pairs(path: Path, scored: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
    """Which results the last evaluation compared, of those that are still there."""
    if not path.exists():
        return []
    known = {_key(entry.to_json(), entry.checkpoint): entry for entry in scored}
    rows = [row for row in _read(path).get("comparisons", []) if row.get("tier") == ALL_QUESTIONS]
    keys = [(_key(row, row.get("a")), _key(row, row.get("b"))) for row in rows]
    return [(known[a], known[b]) for a, b in keys if a in known and b in known]


def _key(row: Mapping[str, Any], checkpoint: Any) -> tuple[str, ...]:
    return tuple(str(x) for x in (checkpoint, row["task"], row["split"], row["protocol"]))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"there is no `{path.name}` beside its predictions", hint="run `aquachat eval` again"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{path}` cannot be read ({error})", hint="run `aquachat eval` again"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"`{path}` holds no result", hint="run `aquachat eval` again")
    return content
