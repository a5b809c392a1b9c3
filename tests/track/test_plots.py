from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aquachat.track.plots import (
    STAGE_COLORS,
    Bar,
    color_of,
    curves,
    grouped_bars,
    save_figure,
    series_of,
    smoothed,
    to_svg,
)

ROWS = [{"step": i, "train/loss": 3 / i} for i in range(1, 60)]
LABELS = {"train/loss": "training", "val/loss": "held out"}


def loss_figure() -> Figure:
    figure = curves("Loss\nsft", ROWS, LABELS, ylabel="nats per token", color=STAGE_COLORS["sft"])
    assert figure is not None
    return figure


def bars(**series: list[Bar | None]) -> Figure:
    figure = grouped_bars(
        "Accuracy\nA",
        ["one", "two"],
        series,
        ylabel="accuracy",
        baselines={"chance": [0.2, None]},
    )
    assert figure is not None
    return figure


def test_values_that_are_not_finite_leave_a_gap() -> None:
    rows = [
        {"step": 1, "a/b": 1.0},
        {"step": 2, "a/b": "NaN"},
        {"step": 3, "a/b": math.inf},
        {"step": 4},
        {"step": 5, "a/b": 2},
        {"step": 6, "a/b": "picture.png"},
    ]
    assert series_of(rows, "a/b") == ([1, 5], [1.0, 2.0])


def test_smoothing_invents_nothing_at_the_ends() -> None:
    assert smoothed([0, 3, 6, 9], 3) == [1.5, 3.0, 6.0, 7.5]
    assert smoothed([5.0], 9) == [5.0]
    assert smoothed([1.0, 2.0], 0) == [1.0, 2.0]


def test_nothing_logged_is_no_figure() -> None:
    assert curves("t", [{"step": 1, "x/y": "NaN"}], {"x/y": "y"}, ylabel="", color="k") is None
    assert grouped_bars("t", ["a"], {"sft": [None]}, ylabel="") is None
    assert grouped_bars("t", [], {}, ylabel="") is None


def test_drawing_changes_nothing_global(tmp_path: Path) -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from pathlib import Path\n"
        "from aquachat.track import plots\n"
        "figure = plots.curves('t', [{'step': 1, 'a/b': 1}], {'a/b': 'b'}, ylabel='', color='k')\n"
        "plots.to_svg(figure, 'x'); plots.save_figure(figure, Path(sys.argv[1]) / 'a.png')\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_importing_the_module_does_not_import_matplotlib() -> None:
    code = "import sys, aquachat.track.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_svg_for_a_page_is_one_wellformed_element_in_the_pages_colours() -> None:
    svg = to_svg(loss_figure(), 'loss of "sft" & <more>')
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'loss of "sft" & <more>'
    assert "<style" not in svg
    assert "DejaVu" not in svg
    assert "currentColor" in svg
    assert f"var(--sft, {STAGE_COLORS['sft']})" in svg
    words = {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")}
    assert {"Loss", "sft", "step", "nats per token", "training (moving mean)"} <= words


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    assert to_svg(loss_figure(), "a") == to_svg(loss_figure(), "a")
    first = save_figure(loss_figure(), tmp_path / "a.svg").read_bytes()
    assert save_figure(loss_figure(), tmp_path / "a.svg").read_bytes() == first


def test_files_have_a_white_ground(tmp_path: Path) -> None:
    path = save_figure(loss_figure(), tmp_path / "new" / "loss.png")
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert image.width > 600


def test_hostile_and_formula_like_names_are_plain_words() -> None:
    figure = grouped_bars(
        "$\\frac{",
        ["<script>alert(1)</script>", "price in $ and $"],
        {"sft": [Bar(0.5), Bar(0.2)]},
        ylabel="",
        baselines={"$x": [0.1, 0.1]},
    )
    assert figure is not None
    svg = to_svg(figure, "x")
    assert "<script" not in svg
    assert "price in $ and $" in svg


def test_bars_stand_at_their_values_with_their_intervals() -> None:
    figure = bars(sft=[Bar(0.5, 0.4, 0.7), None], rl=[Bar(0.6, 0.5, 0.65), Bar(0.1)])
    (axes,) = figure.axes
    heights = [patch.get_height() for patch in axes.patches]
    assert heights == pytest.approx([0.5, 0.6, 0.1])
    segments = [c.get_segments()[0] for c in axes.collections]
    ends = [(round(s[0][1], 3), round(s[1][1], 3)) for s in segments]
    assert ends == [(0.4, 0.7), (0.5, 0.65)]
    words = {text.get_text() for text in axes.texts}
    assert {"50%", "60%", "10%"} <= words


def test_a_stage_has_one_colour_and_two_checkpoints_of_it_have_two() -> None:
    assert color_of("rl") == color_of("rl@30", ["sft@200", "rl@30"]) == STAGE_COLORS["rl"]
    names = ["sft@100", "sft@200", "rl@30", "other"]
    colors = [color_of(name, names) for name in names]
    assert len(set(colors)) == 4
    assert colors[1] == STAGE_COLORS["sft"]


def test_matplotlib_needs_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    assert "<svg" in to_svg(loss_figure(), "x")
    assert matplotlib.rcParams["svg.fonttype"] == "path"
