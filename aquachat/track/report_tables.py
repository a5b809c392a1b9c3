"""The tables and sentences of a report, shared by the command line, Markdown and HTML.

No word here claims more than its interval: a result is "above" a baseline, or a difference a
"gain", only where the whole 95% interval is on that side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aquachat.track.report_data import (
    HABITS,
    Estimate,
    EvalEntry,
    ReportData,
    data_of_document,
)
from aquachat.track.values import as_number

PRICE_KEY = "price_usd_per_hour"
"""Of a report's document: what an hour of the rented machine cost."""
GROUP_TITLES = {
    "num_steps": "number of steps",
    "tier": "tier",
    "family": "family",
    "category": "category",
    "rationale_words": "words of the rationale",
    "option_order": "option order",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A title, names of columns, and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def summary_tables(document: Mapping[str, Any]) -> list[Table]:
    """The tables that end `aquachat run`: stages, accuracies, steps and differences.

    Args:
        document: as printed by `aquachat run --json`; what it lacks is left out.
    """
    data = data_of_document(document)
    found = [stage_table(data), accuracy_table(data), *group_tables(data, ("num_steps",))]
    return [table for table in [*found, comparison_table(data)] if table is not None]


def headline(data: ReportData) -> tuple[str, str, str] | None:
    """The task, split and protocol that stand for a stage in one line.

    Generative results are preferred, then what most models were asked, then what comes first.
    """
    generative = [entry for entry in data.entries if entry.protocol == "generative"]
    asked = [entry.data for entry in generative or data.entries]
    return max(dict.fromkeys(asked), key=asked.count, default=None)


def stage_table(data: ReportData) -> Table | None:
    """Loss, accuracy with its interval, tokens and seconds of each stage."""
    if not data.stages:
        return None
    chosen = headline(data)
    by_stage = {entry.stage: entry for entry in data.entries if entry.data == chosen}
    rows = []
    for row in data.stages:
        name = str(row.get("stage", ""))
        entry = by_stage.get(name)
        rows.append(
            (
                name,
                count(row.get("steps")),
                loss_of(name, row.get("metrics") or {}),
                "-" if entry is None else interval(entry.accuracy),
                count(row.get("tokens") or None),
                seconds(row.get("seconds")),
                *cost_cells(data, row.get("seconds")),
            )
        )
    accuracy = "accuracy"
    if chosen is not None:
        accuracy += f" ({next(e.data_name for e in data.entries if e.data == chosen)})"
    note = (
        "Loss is cross-entropy in nats per token, on held-out text where it was measured. Accuracy "
        "is followed by its 95% interval."
    )
    columns = ["stage", "steps", "loss", accuracy, "tokens", "seconds"]
    if as_number(data.document.get(PRICE_KEY)) is not None:
        columns.append("cost")
        note += " Cost is the stage's time at the price of the rented machine, without set-up."
    return Table("Stages", tuple(columns), tuple(rows), note)


def cost_cells(data: ReportData, num_seconds: object) -> list[str]:
    """The cell of a stage's cost; none where no launch record gave a price."""
    price, time_s = as_number(data.document.get(PRICE_KEY)), as_number(num_seconds)
    if price is None:
        return []
    return ["-" if time_s is None else f"${price * time_s / 3600:,.2f}"]


def accuracy_table(data: ReportData) -> Table | None:
    """Every evaluation beside the baselines that need no model."""
    if not data.entries:
        return None
    ordered = _by_questions(data.entries)
    rows = tuple(
        (
            f"{entry.task} {entry.split}",
            entry.protocol,
            entry.checkpoint,
            count(entry.accuracy.num_examples),
            interval(entry.accuracy),
            percent(entry.baselines.get("chance")),
            percent(entry.baselines.get("majority_letter")),
            percent(entry.baselines.get("options_only")),
            against_baselines(entry),
        )
        for entry in ordered
    )
    columns = (
        "questions",
        "protocol",
        "model",
        "n",
        "accuracy [95%]",
        "chance",
        "majority",
        "options only",
        "reads as",
    )
    note = (
        "Chance guesses a letter, majority always gives the most frequent right letter, options "
        "only is a classifier that sees no question. A model is called above them only where its "
        "whole interval is."
    )
    return Table("Accuracy", columns, rows, note)


def group_tables(data: ReportData, kinds: Sequence[str]) -> list[Table]:
    """Accuracy by number of steps, by family...: a row a group, a column a model."""
    tables = []
    for questions in dict.fromkeys(entry.data for entry in data.entries):
        same = [entry for entry in data.entries if entry.data == questions]
        for kind in kinds:
            having = [entry for entry in same if entry.groups.get(kind)]
            names = list(dict.fromkeys(name for entry in having for name in entry.groups[kind]))
            if not names or (kind == "num_steps" and len(names) < 2):
                continue
            word = GROUP_TITLES.get(kind, kind.replace("_", " "))
            rows = tuple(
                (name, _group_size(having, kind, name), *_cells(having, kind, name))
                for name in names
            )
            models = (entry.checkpoint for entry in having)
            title = f"Accuracy by {word}: {same[0].data_name}"
            tables.append(Table(title, (word, "n", *models), rows))
    return tables


def comparison_table(data: ReportData) -> Table | None:
    """Paired differences between two models on the same questions."""
    if not data.comparisons:
        return None
    rows = []
    for row in data.comparisons:
        low, high = _ends(row)
        questions = " ".join(
            str(row[name]) for name in ("task", "split", "protocol") if row.get(name)
        )
        tier = str(row.get("tier") or "all")
        rows.append(
            (
                questions,
                tier,
                f"{row.get('a')} -> {row.get('b')}",
                f"{points(row.get('difference'))} [{points(low)}, {points(high)}]",
                p_value(row.get("p_value")),
                p_value(row.get("p_value_holm")),
                reading_of(row),
            )
        )
    columns = ("questions", "part", "from -> to", "points [95%]", "p", "p (Holm)", "reads as")
    note = (
        f"Differences of accuracy in percentage points, paired by question; {len(rows)} of them. "
        "Intervals are not corrected for how many there are; p (Holm) is."
    )
    return Table("Paired differences", columns, tuple(rows), note)


def letter_table(data: ReportData) -> Table | None:
    """How often each letter was answered."""
    having = [entry for entry in _by_questions(data.entries) if entry.letters]
    if not having:
        return None
    letters = sorted({letter for entry in having for letter in entry.letters}, key=letter_order)
    rows = tuple(
        (
            entry.data_name,
            entry.checkpoint,
            *(percent(entry.letters.get(letter, 0.0)) for letter in letters),
            percent(entry.invalid),
            percent(entry.truncated),
        )
        for entry in having
    )
    columns = ("questions", "model", *letters, "no answer", "cut off")
    note = (
        "Shares of the letters among the replies that name one; then the fraction of all replies "
        "that name none, and that the token limit cut off."
    )
    return Table("Letters answered", columns, rows, note)


def habit_table(data: ReportData) -> Table | None:
    """What replies look like, right or wrong."""
    having = [entry for entry in _by_questions(data.entries) if entry.habits]
    rows = tuple(
        (
            entry.data_name,
            entry.checkpoint,
            *(percent(entry.habits.get(name)) for name in HABITS),
        )
        for entry in having
    )
    columns = ("questions", "model", "well formed", "uses the calculator", "calls that worked")
    note = (
        "Replies that end by themselves in their one answer line; replies with a well-formed "
        "calculator call; and the share of those calls that could be evaluated."
    )
    return Table("Habits", columns, rows, note) if rows else None


def calibration_table(data: ReportData) -> Table | None:
    """Whether probabilities mean what they say."""
    having = [entry for entry in _by_questions(data.entries) if entry.calibration]
    rows = tuple(
        (
            entry.data_name,
            entry.checkpoint,
            percent(entry.accuracy.value),
            percent(as_number(entry.calibration.get("mean_confidence"))),
            percent(entry.gold_probability),
            percent(as_number(entry.calibration.get("ece"))),
            f"{as_number(entry.calibration.get('brier')) or 0.0:.3f}",
        )
        for entry in having
    )
    columns = ("questions", "model", "accuracy", "confidence", "P(right)", "ECE", "Brier")
    note = (
        "Confidence is the mean probability of the chosen letter, P(right) that of the right one. "
        "ECE is the mean gap between confidence and accuracy over ten bins; with few questions "
        "noise alone raises it."
    )
    return Table("Calibration", columns, rows, note) if rows else None


def at_k_table(data: ReportData) -> Table | None:
    """Accuracy of the majority of k samples, and chance that one of k is right."""
    having = [
        entry
        for entry in _by_questions(data.entries)
        if any(k != "1" for values in entry.at_k.values() for k in values)
    ]
    columns = list(
        dict.fromkeys((kind, k) for e in having for kind, values in e.at_k.items() for k in values)
    )
    rows = tuple(
        (
            entry.data_name,
            entry.checkpoint,
            *(percent(entry.at_k.get(kind, {}).get(k)) for kind, k in columns),
        )
        for entry in having
    )
    names = (f"{kind}@{k}" for kind, k in columns)
    note = "With five options, guessing alone passes@8 about 83% of the time."
    return Table("Several samples", ("questions", "model", *names), rows, note) if rows else None


def findings(data: ReportData) -> list[str]:
    """Sentences that sum the run up, each with its interval."""
    sentences = []
    last = {entry.data: entry for entry in data.entries}
    for entry in last.values():
        size = entry.accuracy.num_examples
        about = f"{entry.data_name}, n = {size:,}" if size else entry.data_name
        baseline = entry.best_baseline
        beside = "" if baseline is None else f"; without a model {percent(baseline)} can be had"
        sentences.append(
            f"{entry.checkpoint} answers {interval(entry.accuracy)} right ({about}){beside}: "
            f"{against_baselines(entry)}"
        )
    for row in data.comparisons:
        if str(row.get("tier") or "all") != "all":
            continue
        low, high = _ends(row)
        about = " ".join(str(row[name]) for name in ("task", "split", "protocol") if row.get(name))
        sentences.append(
            f"from {row.get('a')} to {row.get('b')} accuracy changes by "
            f"{points(row.get('difference'))} points [{points(low)}, {points(high)}] on {about}: "
            f"{reading_of(row)}"
        )
    return sentences


def against_baselines(entry: EvalEntry) -> str:
    """Whether an accuracy is above, below or not told apart from the better baseline."""
    baseline, accuracy = entry.best_baseline, entry.accuracy
    if baseline is None or accuracy.low is None or accuracy.high is None:
        return "no interval or baseline to judge by"
    if accuracy.low > baseline:
        return "above the baselines"
    return "below the baselines" if accuracy.high < baseline else "not told apart from guessing"


MAX_P_VALUE = 0.05
"""Of a difference that is called a gain or a loss, after adjustment (Holm)."""


def reading_of(row: Mapping[str, Any]) -> str:
    """Whether a paired difference is a gain, a loss, or not told apart from none.

    An interval beside others may lie above zero by luck: then the adjusted p-value has to agree.
    """
    low, high = _ends(row)
    if low is None or high is None:
        return "no interval to judge by"
    if low <= 0 <= high:
        return "not told apart from no change"
    word = "a gain" if low > 0 else "a loss"
    adjusted = row.get("p_value_holm")
    if isinstance(adjusted, float) and adjusted > MAX_P_VALUE:
        return f"perhaps {word}: one of several comparisons"
    return word


def interval(estimate: Estimate) -> str:
    """Example: `interval(Estimate(0.812, 0.78, 0.841)) -> "81.2% [78.0, 84.1]"`."""
    if estimate.low is None or estimate.high is None:
        return f"{percent(estimate.value)} [no interval]"
    return f"{percent(estimate.value)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def percent(value: float | None) -> str:
    """Example: `percent(0.2) -> "20.0%"`, `percent(None) -> "-"`."""
    return "-" if value is None else f"{100 * value:.1f}%"


def points(value: object) -> str:
    """A difference of fractions in percentage points, with its sign."""
    number = as_number(value)
    return "-" if number is None else f"{100 * number:+.1f}"


def p_value(value: object) -> str:
    """A p-value to three digits; very small ones as a bound."""
    number = as_number(value)
    if number is None:
        return "-"
    return "<0.001" if number < 0.001 else f"{number:.3f}"


def count(value: object) -> str:
    """A whole number with thousands separators."""
    number = as_number(value)
    return "-" if number is None or not math.isfinite(number) else f"{number:,.0f}"


def seconds(value: object) -> str:
    """Seconds, with a decimal where they are few."""
    number = as_number(value)
    if number is None or not math.isfinite(number):
        return "-"
    return f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


def loss_of(stage: str, metrics: Mapping[str, Any]) -> str:
    """The loss a stage ended with; an RL loss is no measure of fit and is left out."""
    if stage == "rl":
        return "-"
    for name, suffix in (("val/loss", ""), ("train/loss", " (training)")):
        if (number := as_number(metrics.get(name))) is not None:
            return f"{number:.3f}{suffix}"
    return "-"


def letter_order(letter: str) -> tuple[bool, str]:
    """Letters first, in order; `none` and the like after them."""
    return (len(letter) != 1, letter)


def _by_questions(entries: Sequence[EvalEntry]) -> list[EvalEntry]:
    order = list(dict.fromkeys(entry.data for entry in entries))
    return sorted(entries, key=lambda entry: order.index(entry.data))


def _group_size(entries: Sequence[EvalEntry], kind: str, name: str) -> str:
    sizes = (e.groups[kind][name].num_examples for e in entries if name in e.groups[kind])
    return count(next((size for size in sizes if size is not None), None))


def _cells(entries: Sequence[EvalEntry], kind: str, name: str) -> tuple[str, ...]:
    found = (entry.groups[kind].get(name) for entry in entries)
    return tuple("-" if estimate is None else interval(estimate) for estimate in found)


def _ends(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    ends = row.get("ci95")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return None, None
    return as_number(ends[0]), as_number(ends[1])
