"""Figures of a run: curves, accuracies with their intervals, letter histograms.

matplotlib is imported inside, through its object interface: no window, no global figure, no lasting
change of its settings. Colours are Okabe and Ito's (2008), told apart by colour-blind readers; a
stage has the same colour in every figure. `to_svg` makes a picture for an HTML page, whose text and
lines follow the page's colours; `save_figure` writes a file with a white ground.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aquachat.files import write_bytes
from aquachat.track.values import as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"
"""Text and axes; `to_svg` turns it into the page's own text colour."""
STAGE_COLORS = {"base": "#8a8f98", "mid": "#cc8f00", "sft": "#0072b2", "rl": "#d55e00"}
EXTRA_COLORS = ("#009e73", "#cc79a7", "#56b4e9", "#b8a800")
"""For names that are no stage, in order of appearance."""
SMOOTHING_FRACTION = 0.05
"""A smoothed curve averages over this part of all points."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: a fraction, its 95% interval, and how many examples it is about."""

    value: float
    low: float | None = None
    high: float | None = None


def color_of(name: str, names: Sequence[str] = ()) -> str:
    """The colour of a stage or checkpoint among the `names` of one figure.

    Of several checkpoints of a stage the last has the stage's colour; they and names that are no
    stage take the extra colours in order.
    """
    newest = {_stage_of(other): other for other in (*names, *([] if name in names else [name]))}
    owners = [newest[stage] for stage in STAGE_COLORS if stage in newest]
    if name in owners:
        return STAGE_COLORS[_stage_of(name)]
    others = [other for other in names if other not in owners]
    return EXTRA_COLORS[others.index(name) % len(EXTRA_COLORS)] if name in others else INK


def _stage_of(name: str) -> str:
    return name.split("@")[0].lower()


def series_of(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Steps and finite values of one metric, in file order."""
    points = [(row["step"], as_number(row.get(key))) for row in rows]
    finite = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
    return [step for step, _ in finite], [value for _, value in finite]


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Means over a centred window that is cut at both ends, so that no point is invented.

    Example:
        smoothed([0, 3, 6, 9], 3) -> [1.5, 3.0, 6.0, 7.5]
    """
    half = max(window, 1) // 2
    means = []
    for index in range(len(values)):
        near = values[max(0, index - half) : index + half + 1]
        means.append(sum(near) / len(near))
    return means


def curves(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    keys: Mapping[str, str],
    *,
    ylabel: str,
    color: str,
    percent: bool = False,
) -> Figure | None:
    """Metrics of one stage against its steps; None where none was logged.

    Args:
        title: above the axes; a second line is smaller.
        rows: lines of `metrics.jsonl`.
        keys: metric -> label. The first is drawn in `color`; one with more than 40 points is drawn
            faintly, with its moving mean over it. Metrics with few points get markers.
        ylabel: what is measured, with its unit.
        color: of the first metric.
        percent: values are fractions; the axis runs from 0 and is in percent.
    """
    found = [(label, *series_of(rows, key)) for key, label in keys.items()]
    found = [(label, steps, values) for label, steps, values in found if steps]
    if not found:
        return None
    figure, axes = _figure(title)
    for index, (label, steps, values) in enumerate(found):
        shade = color if index == 0 else (INK, *EXTRA_COLORS)[(index - 1) % 5]
        if len(steps) > 40:
            axes.plot(steps, values, color=shade, alpha=0.25, linewidth=1)
            means = smoothed(values, round(len(values) * SMOOTHING_FRACTION))
            axes.plot(steps, means, color=shade, linewidth=1.8, label=f"{label} (moving mean)")
        else:
            axes.plot(steps, values, color=shade, linewidth=1.6, marker="o", ms=3.5, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    if percent:
        _percent_axis(axes)
        axes.set_ylim(0, 1.05 * max(max(values) for _, _, values in found) or 1)
    elif any(label.startswith("training") for label, _, _ in found):
        _leave_out_the_first_fall(axes, [values for _, _, values in found])
    _legend(figure, axes)
    return figure


def grouped_bars(
    title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Bar | None]],
    *,
    ylabel: str,
    baselines: Mapping[str, Sequence[float | None]] | None = None,
    with_values: bool = True,
) -> Figure | None:
    """Bars of fractions side by side in each group, with their intervals; None without a bar.

    Args:
        title: above the axes; a second line is smaller.
        groups: names along the horizontal axis.
        series: name (a stage, say) -> one bar a group, None where there is none.
        ylabel: what is measured.
        baselines: name -> one level a group, drawn across the group: what needs no model.
        with_values: write each value above its bar.
    """
    series = {name: bars for name, bars in series.items() if any(bars)}
    if not series or not groups:
        return None
    wide = with_values and len(groups) * (len(series) + 1) > 12
    figure, axes = _figure(title, width=7.6 if wide else 4.8)
    each = 0.8 / len(series)
    for index, (name, bars) in enumerate(series.items()):
        color = color_of(name, list(series))
        offset = (index - (len(series) - 1) / 2) * each
        shown = [(group + offset, bar) for group, bar in enumerate(bars) if bar is not None]
        axes.bar(
            [x for x, _ in shown],
            [bar.value for _, bar in shown],
            each * 0.9,
            color=color,
            label=name,
        )
        for x, bar in shown:
            _interval(axes, x, bar)
            if with_values:
                near = [levels[round(x)] for levels in (baselines or {}).values()]
                _value(axes, x, bar, [level for level in near if level is not None])
    for index, (name, levels) in enumerate((baselines or {}).items()):
        _baseline(axes, name, levels, ("--", ":", "-.")[index % 3])
    _name_groups(axes, groups, max_characters=90 if wide else 50)
    axes.set_ylabel(ylabel)
    highest = max(bar.high or bar.value for bars in series.values() for bar in bars if bar)
    axes.set_ylim(0, min(1.08, highest + 0.12))
    _percent_axis(axes)
    _legend(figure, axes)
    return figure


def reliability(title: str, series: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Accuracy against confidence by bin; on the diagonal a model's probabilities are true.

    Args:
        title: above the axes; a second line is smaller.
        series: name -> (mean confidence, accuracy, share of the questions) of each bin; the share
            is the area of the mark.
    """
    figure, axes = _figure(title, height=3.6)
    for name, bins in series.items():
        color = color_of(name, list(series))
        confidence, accuracy = [x for x, _, _ in bins], [y for _, y, _ in bins]
        axes.plot(confidence, accuracy, color=color, linewidth=1.2, label=name)
        sizes = [12 + 220 * weight for _, _, weight in bins]
        axes.scatter(confidence, accuracy, s=sizes, color=color, alpha=0.6)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle="--", label="calibrated")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("probability of the chosen letter")
    axes.set_ylabel("accuracy")
    _percent_axis(axes)
    _legend(figure, axes)
    return figure


def to_svg(figure: Figure, label: str) -> str:
    """One `<svg>` element for an HTML page, the same bytes for the same figure.

    Args:
        figure: made here.
        label: what a screen reader says.
    """
    import matplotlib

    buffer = io.StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": label}
    with matplotlib.rc_context(settings):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would style the whole page
    text = re.sub(r"font-family: [^;\"]*;?", "", text)  # the page's own
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # `figure_1` in each of many would clash
    colors = {INK: "currentColor"} | {
        color: f"var(--{stage}, {color})" for stage, color in STAGE_COLORS.items()
    }
    for color, replacement in colors.items():
        text = text.replace(color, replacement)
    spoken = html.escape(label, quote=True)
    return text.replace("<svg ", f'<svg role="img" aria-label="{spoken}" ', 1).strip()


def standalone_svg(svg: str) -> str:
    """What `to_svg` made, as a file of its own: white ground and fixed colours."""
    svg = re.sub(r"var\(--\w+, (#[0-9a-f]{6})\)", r"\1", svg).replace("currentColor", INK)
    style = 'style="background: white; font-family: DejaVu Sans, Verdana, sans-serif" '
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg.replace("<svg ", f"<svg {style}", 1)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as the file its name says, SVG or PNG, atomically; returns the path."""
    import matplotlib

    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    settings: dict[Any, Any] = {"svg.hashsalt": path.name}
    with matplotlib.rc_context(settings):
        dateless = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=160, facecolor="white", metadata=dateless)
    write_bytes(path, buffer.getvalue())
    return path


def _figure(title: str, *, width: float = 4.8, height: float = 2.9) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    heading, _, below = _plain(title).partition("\n")
    axes.set_title(
        heading, fontsize=10, loc="left", color=INK, fontweight="bold", pad=18 if below else 6
    )
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(below, (0, 1), xytext=(0, 6), fontsize=8.5, color=INK, **place)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
    axes.xaxis.label.set(fontsize=8.5, color=INK)
    axes.yaxis.label.set(fontsize=8.5, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _baseline(axes: Axes, name: str, levels: Sequence[float | None], style: str) -> None:
    """Draw a level across each group that has one."""
    label: str | None = _plain(name, 24)
    for group, level in enumerate(levels):
        if level is None:
            continue
        ends = [group - 0.46, group + 0.46]
        axes.plot(ends, [level] * 2, color=INK, linewidth=1.3, linestyle=style, label=label)
        label = None  # one entry in the legend


def _name_groups(axes: Axes, groups: Sequence[str], *, max_characters: int) -> None:
    """Write names below the groups, slanted where they would touch."""
    names = [_plain(group, 24) for group in groups]
    axes.set_xticks(range(len(groups)), names)
    if sum(map(len, names)) > max_characters:
        axes.tick_params(axis="x", labelrotation=20)
    axes.set_xlim(-0.6, len(groups) - 0.4)


def _interval(axes: Axes, x: float, bar: Bar) -> None:
    if bar.low is None or bar.high is None:
        return
    axes.errorbar(
        [x],
        [bar.value],
        yerr=[[max(bar.value - bar.low, 0)], [max(bar.high - bar.value, 0)]],
        fmt="none",
        ecolor=INK,
        elinewidth=1.1,
        capsize=2.5,
    )


def _value(axes: Axes, x: float, bar: Bar, levels: Sequence[float]) -> None:
    """Write a bar's value above its interval, and above a line that would cross the words."""
    bottom = max(bar.value, bar.high or 0) + 0.015
    for level in sorted(levels):
        if bottom - 0.015 < level < bottom + 0.05:
            bottom = level + 0.015
    axes.text(x, bottom, f"{bar.value:.0%}", ha="center", fontsize=7, color=INK)


def _percent_axis(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _leave_out_the_first_fall(axes: Axes, all_values: Sequence[Sequence[float]]) -> None:
    """Let the axis begin where most of a loss curve is; the first steps would flatten the rest."""
    values = [value for values in all_values for value in values]
    if len(values) < 40:
        return
    ordered = sorted(values)
    low, high = ordered[0], ordered[int(len(ordered) * 0.98)]
    margin = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - margin, high + margin)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda index: isinstance(handles[index], _line_class()))
    figure.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        fontsize=7.5,
        frameon=False,
        labelcolor=INK,
        ncols=4 if figure.get_figwidth() < 6 else 6,
        loc="outside lower left",
        handlelength=1.6,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _line_class() -> type:
    from matplotlib.lines import Line2D

    return Line2D


def _plain(text: str, max_characters: int = 70) -> str:
    """`text` as it is, a dollar sign begins no formula; what is too long for a figure is cut."""
    cut = (
        text
        if len(text) <= max_characters
        else text[: max_characters - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
    return cut.replace("$", r"\$")
