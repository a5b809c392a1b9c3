"""Results computed again from the predictions on disk, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aquachat.errors import DataError, MissingFileError
from aquachat.eval.predictions import read_predictions
from aquachat.eval.results import ALL_QUESTIONS, NOT_ASKED_FOR, recompute
from aquachat.files import write_json
from aquachat.pipeline.evaluation import (
    COMPARISONS_FILE,
    Scored,
    compared,
    keep_comparisons,
    result_stem,
)
from aquachat.train.lineage import STAGES

PREDICTIONS_SUFFIX = ".predictions.jsonl"


def recompute_run(folder: Path, run: str) -> dict[str, Any]:
    """Compute every result in a run's `eval` folder again from its predictions, and rewrite it.

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
    paths = sorted(folder.glob(f"*{PREDICTIONS_SUFFIX}"))
    if not paths:
        raise MissingFileError(
            f"there are no predictions in `{folder}`", hint=f"run `aquachat eval --run {run}`"
        )
    scored = [_scored_again(path, _read(_result_path(path))) for path in paths]
    scored.sort(key=_age)
    for entry in scored:
        document = entry.to_json()
        write_json(folder / f"{result_stem(document)}.json", {"run": run, **document})
    found = compared(_pairs(folder / COMPARISONS_FILE, scored))
    keep_comparisons(folder, run, found)
    return {
        "run": run,
        "results": [entry.to_json() for entry in scored],
        "comparisons": found,
    }


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
