"""Two runs side by side: settings that differ, metrics, and results on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aquachat.config.recipes import SECTIONS
from aquachat.errors import ConfigError
from aquachat.eval.predictions import Prediction
from aquachat.pipeline.evaluation import Scored, compared
from aquachat.pipeline.recomputing import read_scored
from aquachat.track.report_data import data_of_document
from aquachat.track.report_tables import (
    Table,
    accuracy_table,
    comparison_table,
    count,
    seconds,
)
from aquachat.track.runs import STAGES, RunSummary, read_recipe, read_run

LEFT_OUT = ("data/", "rl/letter_fraction/", "train/lr", "train/num_targets", "train/data_wait_s")
"""Metrics that the table does not show; the document has all."""

Key = tuple[str, str, str, str]
"""Stage, task, split and protocol: results that share it are compared."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of the one run and of the other; None where it has none."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class RunComparison:
    """How two runs differ."""

    a: str
    b: str
    settings: Sequence[Pair]
    """`section.key` of settings that are not equal."""
    metrics: Sequence[Pair]
    """`stage metric`, the last value in each run."""
    results: Sequence[Mapping[str, Any]]
    """As in `aquachat eval --json`; checkpoints are named `run/stage@step`."""
    comparisons: Sequence[Mapping[str, Any]]
    """Paired differences, the second run's minus the first's."""
    notes: Sequence[str]
    """What could not be compared, and why."""

    def to_json(self) -> dict[str, Any]:
        """The document of `aquachat runs compare --json`."""
        return {
            "a": self.a,
            "b": self.b,
            "settings": [{"setting": p.name, "a": p.a, "b": p.b} for p in self.settings],
            "metrics": [{"metric": p.name, "a": p.a, "b": p.b} for p in self.metrics],
            "results": list(self.results),
            "comparisons": list(self.comparisons),
            "notes": list(self.notes),
        }


def compare_runs(a: Path, b: Path) -> RunComparison:
    """Compare two folders of runs.

    Questions count as the same where id, words and right answer are equal; of a stage that was
    evaluated at several steps, the newest is taken.

    Raises:
        ConfigError: it is one run.
        DataError: a file of an evaluation cannot be read.
    """
    if a.resolve() == b.resolve():
        raise ConfigError(f"`{a.name}` cannot be compared with itself", hint="name another run")
    runs = read_run(a), read_run(b)
    scored = _newest(a), _newest(b)
    pairs, notes = [], []
    for key in dict.fromkeys([*scored[0], *scored[1]]):
        both = [found[key] for found in scored if key in found]
        if len(both) < 2:
            notes.append(f"only `{both[0].checkpoint}` was evaluated on {_words(key)}")
            continue
        shared = _on_shared_questions(*both)
        if shared is None:
            notes.append(f"the runs were asked different questions of {_words(key)}")
            continue
        pairs.append(shared)
        if _asking(both[0]) != _asking(both[1]):
            notes.append(f"the runs were asked in different ways on {_words(key)}: see the results")
    entries = [entry for found in scored for entry in found.values()]
    return RunComparison(
        a=a.name,
        b=b.name,
        settings=_settings(*runs),
        metrics=_metrics(*runs),
        results=[entry.to_json() for entry in entries],
        comparisons=compared(pairs),
        notes=notes,
    )


def comparison_tables(found: RunComparison) -> list[Table]:
    """What `aquachat runs compare` prints."""
    columns = (found.a, found.b)
    settings = [(p.name, _shown(p.a), _shown(p.b)) for p in found.settings]
    metrics = [
        (p.name, _figure(p.name, p.a), _figure(p.name, p.b))
        for p in found.metrics
        if not p.name.partition(" ")[2].startswith(LEFT_OUT)
    ]
    data = data_of_document({"eval": found.results, "comparisons": found.comparisons})
    tables = [
        Table("Settings that differ", ("setting", *columns), tuple(settings)) if settings else None,
        Table("Metrics, last value", ("metric", *columns), tuple(metrics)) if metrics else None,
        accuracy_table(data),
        comparison_table(data),
    ]
    return [table for table in tables if table is not None]


def _newest(run_dir: Path) -> dict[Key, Scored]:
    """The last result for each stage and set of questions; names hold the run's."""
    found: dict[Key, Scored] = {}
    for entry in read_scored(run_dir / "eval"):
        named = replace(entry, checkpoint=f"{run_dir.name}/{entry.checkpoint}")
        found[(entry.stage, entry.task, entry.split, entry.result.protocol)] = named
    return found


def _asking(entry: Scored) -> dict[str, Any]:
    """How questions were asked; the seed matters only where replies are sampled."""
    is_greedy = entry.settings.get("temperature") == 0
    return {k: v for k, v in entry.settings.items() if not (is_greedy and k == "seed")}


def _on_shared_questions(a: Scored, b: Scored) -> tuple[Scored, Scored] | None:
    """Both results with only the questions that they have in common; None where there is none."""
    asked = [
        {row.id: (row.question, row.gold) for row in entry.result.predictions if row.order == 0}
        for entry in (a, b)
    ]
    same = {name for name, question in asked[0].items() if asked[1].get(name) == question}
    if not same:
        return None
    return _only(a, same), _only(b, same)


def _only(entry: Scored, ids: set[str]) -> Scored:
    rows: list[Prediction] = [row for row in entry.result.predictions if row.id in ids]
    return replace(entry, result=replace(entry.result, predictions=tuple(rows)))


def _settings(a: RunSummary, b: RunSummary) -> list[Pair]:
    values = _recipe(a), _recipe(b)
    names = dict.fromkeys([*values[0], *values[1]])
    return [
        Pair(name, values[0].get(name), values[1].get(name))
        for name in names
        if values[0].get(name) != values[1].get(name)
    ]


def _recipe(run: RunSummary) -> dict[str, Any]:
    """`section.key` -> value; a training stage's settings are those it was itself started with."""
    recipes = {stage.name: read_recipe(stage.path) for stage in run.stages}
    last = next((recipe for recipe in reversed(recipes.values()) if recipe), {})
    values: dict[str, Any] = {}
    for section in SECTIONS:
        if section in STAGES and section not in recipes:
            continue  # it was not run
        own = (recipes.get(section) or last).get(section, {})
        values |= {f"{section}.{key}": value for key, value in own.items()}
    return values


def _metrics(a: RunSummary, b: RunSummary) -> list[Pair]:
    values = _last_values(a), _last_values(b)
    names = dict.fromkeys([*values[0], *values[1]])
    return [Pair(name, values[0].get(name), values[1].get(name)) for name in names]


def _last_values(run: RunSummary) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for stage in run.stages:
        found |= {
            f"{stage.name} steps": stage.last_step,
            f"{stage.name} tokens": stage.tokens,
            f"{stage.name} seconds": stage.seconds,
            **{f"{stage.name} {name}": value for name, value in stage.metrics.items()},
        }
    return {name: value for name, value in found.items() if value is not None}


def _words(key: Key) -> str:
    stage, task, split, protocol = key
    return f"{task} {split} ({stage}, {protocol})"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith(" seconds"):
        return seconds(value)
    return count(value) if float(value).is_integer() else f"{value:.4g}"
