"""What a report is made of, gathered from a run's folder and the document of `aquachat run`.

The files say what there is now; the document adds what only the pipeline knows (seconds of every
stage, peak memory, paired comparisons) and is kept as `report.json`, so that `aquachat report` can
be called again later. A damaged or missing file leaves its section out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aquachat.errors import MissingFileError
from aquachat.track.environment import describe_environment
from aquachat.track.logger import METRICS_FILE, SAMPLES_FILE, read_json_lines, read_metrics
from aquachat.track.runs import MIXTURE_FILE, STAGES, StageSummary, read_recipe, read_run
from aquachat.track.samples import SampleQuestion, collect_samples
from aquachat.track.values import as_number

DOCUMENT_FILE = "report.json"
SPLIT_ORDER = ("new_numbers", "new_phrasings", "more_steps")
HABITS = ("format_adherence", "tool_use", "tool_success")
STAGE_ORDER = ("prepare", "tokenize", *STAGES, "eval")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fraction with its 95% interval, and how many examples it is about."""

    value: float
    low: float | None = None
    high: float | None = None
    num_examples: int | None = None


@dataclass(frozen=True, slots=True)
class EvalEntry:
    """One result of `aquachat eval`, read leniently."""

    stage: str
    checkpoint: str
    task: str
    split: str
    protocol: str
    accuracy: Estimate
    baselines: Mapping[str, float]
    letters: Mapping[str, float]
    """Letter -> share of it among the replies that name a letter."""
    groups: Mapping[str, Mapping[str, Estimate]]
    """`num_steps`, `tier`, `family`... -> name -> accuracy."""
    invalid: float | None = None
    """Fraction of replies that name no valid answer."""
    truncated: float | None = None
    """Fraction of replies cut by the token limit."""
    at_k: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`maj` and `pass` -> number of samples -> accuracy."""
    gold_probability: float | None = None
    """Mean probability of the right answer."""
    habits: Mapping[str, float] = field(default_factory=dict)
    """`format_adherence`, `tool_use` and `tool_success`, where they were measured."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """`ece`, `brier`, `mean_confidence` and `bins`, where probabilities were compared."""

    @property
    def data(self) -> tuple[str, str, str]:
        """What was asked and how: results that share it can be compared."""
        return (self.task, self.split, self.protocol)

    @property
    def data_name(self) -> str:
        """`data` in words, for example `SYNTHETIC new_numbers, generative`."""
        return f"{self.task} {self.split}, {self.protocol}"

    @property
    def best_baseline(self) -> float | None:
        """What can be had without reading a question: the highest of the baselines."""
        return max(self.baselines.values(), default=None)


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows."""

    run: str
    document: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]]
    """Rows `stage`, `seconds`, `tokens`, `steps`, `metrics`, in pipeline order."""
    entries: Sequence[EvalEntry]
    comparisons: Sequence[Mapping[str, Any]]
    environment: Mapping[str, str]
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Stage -> lines of its `metrics.jsonl`."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples: Sequence[SampleQuestion] = ()
    mixtures: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Stage -> what it took from each source, for stages that train on a mixture."""


def gather(run_dir: Path, document: Mapping[str, Any] | None = None) -> ReportData:
    """Read a run's folder; `document` wins over the files, the files over an older document.

    Raises:
        MissingFileError: there is no such run.
    """
    if not run_dir.is_dir():
        raise MissingFileError(f"there is no run `{run_dir}`", hint="see `aquachat runs`")
    given = dict(document or {})
    earlier = _read_object(run_dir / DOCUMENT_FILE)
    summaries = read_run(run_dir).stages
    results, file_comparisons = _read_evals(run_dir / "eval")
    fresh = {_result_key(row): row for row in _rows(given, "eval")}
    on_disk = sorted(results, key=lambda key: _split_rank(key[3]))
    order = [*fresh, *(_result_key(row) for row in _rows(earlier, "eval")), *on_disk]
    results = {**results, **fresh}
    rows = [results[key] for key in dict.fromkeys(order) if key in results]
    entries = [entry for row in rows if (entry := read_entry(row)) is not None]
    entries.sort(key=lambda entry: (_stage_rank(entry.stage), _step_of(entry), entry.checkpoint))
    comparisons = _rows(given, "comparisons") or _newest(
        [*_rows(earlier, "comparisons"), *file_comparisons]
    )
    known = {entry.checkpoint for entry in entries} | {entry.stage for entry in entries}
    environment = given.get("environment") or earlier.get("environment") or describe_environment()
    return ReportData(
        run=str(given.get("run") or run_dir.name),
        document={**earlier, **given},
        stages=_merge_stages(_rows(earlier, "stages"), summaries, _rows(given, "stages")),
        entries=entries,
        comparisons=[row for row in comparisons if {row.get("a"), row.get("b")} <= known],
        environment={str(name): str(value) for name, value in environment.items()},
        histories={stage.name: _lines(stage.path / METRICS_FILE) for stage in summaries},
        recipes={stage.name: read_recipe(stage.path) for stage in summaries},
        samples=_read_samples(run_dir, given, entries),
        mixtures={
            stage.name: sources
            for stage in summaries
            if (sources := _rows(_read_object(stage.path / MIXTURE_FILE), "sources"))
        },
    )


def data_of_document(document: Mapping[str, Any]) -> ReportData:
    """What a document alone says, for the tables a command prints."""
    entries = [entry for row in _rows(document, "eval") if (entry := read_entry(row)) is not None]
    return ReportData(
        run=str(document.get("run", "")),
        document=document,
        stages=_rows(document, "stages"),
        entries=entries,
        comparisons=_rows(document, "comparisons"),
        environment={},
    )


def read_entry(row: Mapping[str, Any]) -> EvalEntry | None:
    """One entry of `results`; None where it holds no accuracy, or is a part of CORE.

    CORE has tables of its own.
    """
    accuracy = _estimate(row)
    if accuracy is None or row.get("protocol") == "core":
        return None
    return EvalEntry(
        stage=str(row.get("stage", "")),
        checkpoint=str(row.get("checkpoint") or row.get("stage", "")),
        task=str(row.get("task", "")),
        split=str(row.get("split", "")),
        protocol=str(row.get("protocol", "")),
        accuracy=accuracy,
        baselines=_numbers(_mapping(row, "baselines")),
        letters=_fractions(_mapping(row, "letter_histogram")),
        groups={
            name.removeprefix("by_"): _estimates(value)
            for name, value in row.items()
            if name.startswith("by_") and isinstance(value, Mapping) and value
        },
        invalid=as_number(row.get("invalid_fraction")),
        truncated=as_number(row.get("truncated_fraction")),
        gold_probability=as_number(row.get("mean_gold_probability")),
        habits=_numbers({name: row.get(name) for name in HABITS}),
        calibration=_mapping(row, "calibration"),
        at_k={
            kind: _numbers(_mapping(row, f"{kind}_at_k"))
            for kind in ("maj", "pass")
            if _mapping(row, f"{kind}_at_k")
        },
    )


def _merge_stages(
    earlier: Sequence[Mapping[str, Any]],
    summaries: Sequence[StageSummary],
    given: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    rows = {str(row.get("stage")): dict(row) for row in earlier}
    for summary in summaries:
        before = rows.get(summary.name, {})
        is_same = before.get("steps") == summary.last_step  # not trained since that report
        rows[summary.name] = {
            "stage": summary.name,
            "seconds": (before.get("seconds") if is_same else None) or summary.seconds,
            "tokens": (before.get("tokens") if is_same else None) or summary.tokens,
            "steps": summary.last_step,
            "metrics": dict(summary.metrics),
        }
    for row in given:
        name = str(row.get("stage"))
        present = {key: value for key, value in row.items() if value is not None}
        metrics = {**_mapping(rows.get(name, {}), "metrics"), **_mapping(row, "metrics")}
        rows[name] = {**rows.get(name, {}), **present, "metrics": metrics}
    return sorted(rows.values(), key=lambda row: _stage_rank(str(row["stage"])))


def _read_evals(
    folder: Path,
) -> tuple[dict[tuple[str, ...], Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Results by what they are of, and comparisons, in the files of `eval/`."""
    results: dict[tuple[str, ...], Mapping[str, Any]] = {}
    comparisons: list[Mapping[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        content = _read_object(path)
        for row in _rows(content, "results") or [content]:
            if "accuracy" in row:
                results[_result_key(row)] = row
        comparisons.extend(_rows(content, "comparisons"))
    return results, comparisons


def _newest(comparisons: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of comparisons of the same two models on the same questions, the last one."""
    names = ("task", "split", "protocol", "tier", "a", "b")
    return list({tuple(str(row.get(name)) for name in names): row for row in comparisons}.values())


def _read_samples(
    run_dir: Path, document: Mapping[str, Any], entries: Sequence[EvalEntry]
) -> list[SampleQuestion]:
    """Replies of the last two evaluated stages to the first questions they share."""
    generative = [entry for entry in entries if entry.protocol == "generative"]
    if generative:
        first = next(e for e in generative if e.checkpoint == generative[-1].checkpoint)
        found = {
            entry.checkpoint: _lines(run_dir / "eval" / f"{_file_stem(entry)}.predictions.jsonl")
            for entry in generative
            if entry.data == first.data
        }
        found = {checkpoint: rows for checkpoint, rows in found.items() if rows}
        if found:
            return collect_samples(dict(list(found.items())[-2:]))
    if _rows(document, "samples"):
        model = entries[-1].checkpoint if entries else "model"
        return collect_samples({model: _rows(document, "samples")})
    rollouts = _lines(run_dir / "rl" / SAMPLES_FILE)
    last = [row for row in rollouts if row.get("step") == rollouts[-1].get("step")]
    return collect_samples({f"rl@{last[-1].get('step')}": last}) if last else []


def _file_stem(entry: EvalEntry) -> str:
    stem = f"{entry.checkpoint}-{entry.task}-{entry.split}-{entry.protocol}"
    return stem.replace("/", "~")


def _result_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("stage", "checkpoint", "task", "split", "protocol")
    return tuple(str(row.get(name, "")) for name in names)


def _estimate(row: Mapping[str, Any]) -> Estimate | None:
    value = as_number(row.get("accuracy"))
    if value is None or not math.isfinite(value):
        return None
    interval = row.get("ci95")
    ends = [as_number(end) for end in interval] if isinstance(interval, list | tuple) else []
    low, high = ends if len(ends) == 2 else (None, None)
    count = row.get("num_scored", row.get("num_examples"))
    return Estimate(value, low, high, count if isinstance(count, int) else None)


def _estimates(groups: Mapping[str, Any]) -> dict[str, Estimate]:
    found = {
        str(name): _estimate(value if isinstance(value, Mapping) else {"accuracy": value})
        for name, value in groups.items()
    }
    names = sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0))
    return {name: estimate for name in names if (estimate := found[name]) is not None}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    found = {str(name): as_number(value) for name, value in values.items()}
    return {name: number for name, number in found.items() if number is not None}


def _fractions(counts: Mapping[str, Any]) -> dict[str, float]:
    numbers = _numbers(counts)
    total = sum(numbers.values())
    return {name: number / total for name, number in numbers.items()} if total else {}


def _stage_rank(stage: str) -> int:
    return STAGE_ORDER.index(stage) if stage in STAGE_ORDER else len(STAGE_ORDER)


def _split_rank(split: str) -> int:
    return SPLIT_ORDER.index(split) if split in SPLIT_ORDER else -1


def _step_of(entry: EvalEntry) -> int:
    step = entry.checkpoint.rpartition("@")[2]
    return int(step) if step.isdigit() else 0


def _mapping(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    return value if isinstance(value, Mapping) else {}


def _rows(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = document.get(name)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _lines(path: Path) -> list[dict[str, Any]]:
    read = read_metrics if path.name == METRICS_FILE else read_json_lines
    try:
        return read(path)
    except (MissingFileError, OSError):
        return []


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
