"""Which pictures a report has: those for which there is something to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aquachat.track.plots import Bar, color_of, curves, grouped_bars, reliability
from aquachat.track.report_data import Estimate, EvalEntry, ReportData
from aquachat.track.report_tables import GROUP_TITLES, letter_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RL_CURVES = (
    ("accuracy", {"rl/acc": "right", "rl/format_valid": "valid answer line"}, "rollouts", True),
    ("reward", {"rl/mean_reward": "mean reward"}, "reward", False),
    ("length", {"rl/completion_tokens_mean": "mean length"}, "tokens", False),
    ("entropy", {"rl/entropy_mean": "entropy"}, "nats per token", False),
    ("kl", {"rl/kl_sequence_mean": "sequence", "rl/kl_letter_mean": "letter"}, "KL in nats", False),
    ("margin", {"rl/letter_margin_mean": "letter margin"}, "logits", False),
    ("attention entropy", {"attn/entropy_mean": "attention entropy"}, "nats", False),
)
"""Name, metric -> label, unit, whether a fraction. A figure appears once its metric is logged."""
FAMILIES = (
    ("letters of rollouts", "rl/letter_fraction/", "share", True),
    ("attention entropy by layer", "attn/entropy/", "nats", False),
    ("pass at k", "rl/pass_at_", "rollouts", True),
)
"""Name, what the metrics of a figure begin with, unit, whether a fraction."""
BASELINES = {
    "chance": "chance",
    "majority_letter": "majority letter",
    "options_only": "options only",
}
MAX_GROUPS = 12
"""More bars than this cannot be read; their table has them all."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, the stem of its file, and its caption."""

    name: str
    caption: str
    figure: Figure


def accuracy_pictures(data: ReportData) -> list[Picture]:
    """Accuracy by split and by number of steps, the letters answered, and calibration."""
    return [*_by_split(data), *_by_steps(data), *_letters(data), *_reliability(data)]


def curve_pictures(data: ReportData) -> list[Picture]:
    """Loss of each stage, accuracy on dev during training, and what RL logged."""
    pictures: list[tuple[str, str, Figure | None]] = []
    for stage, rows in data.histories.items():
        color = color_of(stage)
        if stage != "rl":
            keys = {"train/loss": "training", "val/loss": "held out"}
            figure = curves(f"Loss\n{stage}", rows, keys, ylabel="nats per token", color=color)
            pictures.append((f"{stage}-loss", f"Loss of stage {stage}", figure))
        keys = {"eval/aqua_accuracy": "AQuA dev", "eval/accuracy": "held out"}
        title = f"Accuracy during training\n{stage}"
        figure = curves(title, rows, keys, ylabel="accuracy", color=color, percent=True)
        pictures.append((f"{stage}-accuracy", f"Accuracy during stage {stage}", figure))
        for name, metrics, unit, is_fraction in RL_CURVES:
            figure = curves(
                f"{name.capitalize()} of rollouts\n{stage}",
                rows,
                metrics,
                ylabel=unit,
                color=color,
                percent=is_fraction,
            )
            pictures.append((f"{stage}-{name}", f"{name.capitalize()} in stage {stage}", figure))
        for name, prefix, unit, is_fraction in FAMILIES:
            figure = curves(
                f"{name.capitalize()}\n{stage}",
                rows,
                _members(rows, prefix),
                ylabel=unit,
                color=color,
                percent=is_fraction,
            )
            pictures.append((f"{stage}-{name}", f"{name.capitalize()} in stage {stage}", figure))
    return [
        Picture(name, caption, figure) for name, caption, figure in pictures if figure is not None
    ]


def _members(rows: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, str]:
    """Metric -> what follows the prefix, in order."""
    names = {name for row in rows for name in row if name.startswith(prefix)}
    return {name: name.removeprefix(prefix).replace("_", " ") for name in sorted(names)}


def _by_split(data: ReportData) -> Iterator[Picture]:
    for protocol in dict.fromkeys(entry.protocol for entry in data.entries):
        entries = [entry for entry in data.entries if entry.protocol == protocol]
        groups = list(dict.fromkeys((entry.task, entry.split) for entry in entries))
        one_task = len({task for task, _ in groups}) == 1
        names = [split if one_task else f"{task} {split}" for task, split in groups]
        of_group = [[e for e in entries if (e.task, e.split) == group] for group in groups]
        series = {model: [_bar_of(model, same) for same in of_group] for model in _models(entries)}
        baselines = {
            label: [
                next((e.baselines[key] for e in same if key in e.baselines), None)
                for same in of_group
            ]
            for key, label in BASELINES.items()
            if any(key in e.baselines for same in of_group for e in same)
        }
        task = f"{groups[0][0]}, " if one_task else ""
        title = f"Accuracy by split\n{task}{protocol}"
        figure = grouped_bars(title, names, series, ylabel="accuracy", baselines=baselines)
        if figure is not None:
            yield Picture(f"accuracy-{protocol}", _caption(title), figure)


def _by_steps(data: ReportData) -> Iterator[Picture]:
    for questions in dict.fromkeys(entry.data for entry in data.entries):
        entries = [entry for entry in data.entries if entry.data == questions]
        kind = "num_steps" if any(e.groups.get("num_steps") for e in entries) else "tier"
        names = list(dict.fromkeys(name for e in entries for name in e.groups.get(kind, {})))
        if not 2 <= len(names) <= MAX_GROUPS:
            continue
        series = {
            entry.checkpoint: [_bar(entry.groups.get(kind, {}).get(name)) for name in names]
            for entry in entries
        }
        chance = entries[0].baselines.get("chance")
        title = f"Accuracy by {GROUP_TITLES[kind]}\n{entries[0].data_name}"
        figure = grouped_bars(
            title, names, series, ylabel="accuracy", baselines={"chance": [chance] * len(names)}
        )
        if figure is not None:
            yield Picture("-".join(("accuracy", kind, *questions)), _caption(title), figure)


def _letters(data: ReportData) -> Iterator[Picture]:
    """One figure a task and protocol, of its first split; the table has all."""
    having = [entry for entry in data.entries if entry.letters]
    firsts = {(entry.task, entry.protocol): entry.data for entry in reversed(having)}
    for questions in dict.fromkeys(reversed(firsts.values())):
        entries = [entry for entry in having if entry.data == questions]
        letters = sorted({x for entry in entries for x in entry.letters}, key=letter_order)
        num_options = sum(len(letter) == 1 for letter in letters)
        series = {
            entry.checkpoint: [Bar(entry.letters.get(letter, 0.0)) for letter in letters]
            for entry in entries
        }
        even = [1 / num_options if len(letter) == 1 else None for letter in letters]
        title = f"Letters answered\n{entries[0].data_name}"
        figure = grouped_bars(
            title,
            letters,
            series,
            ylabel="share of letters",
            baselines={"even": even},
            with_values=False,
        )
        if figure is not None:
            yield Picture("-".join(("letters", *questions)), _caption(title), figure)


def _reliability(data: ReportData) -> Iterator[Picture]:
    """One figure for all results of a task and split that compared probabilities."""
    having = [entry for entry in data.entries if entry.calibration.get("bins")]
    for questions in dict.fromkeys(entry.data for entry in having):
        entries = [entry for entry in having if entry.data == questions]
        series = {
            entry.checkpoint: [
                (row["confidence"], row["accuracy"], row["weight"])
                for row in entry.calibration["bins"]
            ]
            for entry in entries
        }
        title = f"Calibration\n{entries[0].data_name}"
        figure = reliability(title, series)
        yield Picture("-".join(("calibration", *questions)), _caption(title), figure)


def _caption(title: str) -> str:
    return title.replace("\n", ": ")


def _models(entries: Sequence[EvalEntry]) -> list[str]:
    return list(dict.fromkeys(entry.checkpoint for entry in entries))


def _bar_of(model: str, entries: Sequence[EvalEntry]) -> Bar | None:
    return _bar(next((e.accuracy for e in entries if e.checkpoint == model), None))


def _bar(estimate: Estimate | None) -> Bar | None:
    return None if estimate is None else Bar(estimate.value, estimate.low, estimate.high)
