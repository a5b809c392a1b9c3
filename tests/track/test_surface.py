"""Surfaces: what is written is read, what is drawn is what was measured, and it can be turned."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from aquachat.track.report import write_report
from aquachat.track.surface import (
    LANDSCAPE_FILE,
    Landscape,
    PathPoint,
    Surface,
    read_landscape,
    write_landscape,
)
from aquachat.track.surface_picture import (
    _labels,
    color_at,
    make_scene,
    script,
    script_policy,
    surface_figure,
    surface_svg,
)

HOSTILE = "</script><script>alert(1)</script>\"'"
STEPS = [-1.0, 0.0, 1.0]
BOWL = Surface(
    "random", "Bowl", STEPS, STEPS, [[x * x + y * y + 0.5 for x in STEPS] for y in STEPS]
)
PATH = [PathPoint("base@1", 1.0, -1.0, 2.5), PathPoint("sft@2", 0.0, 0.0, 0.5)]
WALK = replace(BOWL, kind="trajectory", title="Walk", path=PATH)
LANDSCAPE = Landscape("sft@2", "held-out conversations", 40, 20, 1.5, 0, (BOWL, WALK))


def test_a_landscape_is_read_as_it_was_written(tmp_path: Path) -> None:
    rough = replace(BOWL, losses=[[math.inf, 1.0, 2.0], *BOWL.losses[1:]])
    written = replace(LANDSCAPE, surfaces=(rough, WALK))
    write_landscape(tmp_path, written)
    found = read_landscape(tmp_path)
    assert found is not None
    assert found.surfaces[0].losses == tuple(rough.losses)
    assert tuple(found.surfaces[1].path) == tuple(PATH)
    assert replace(found, surfaces=()) == replace(written, surfaces=())


@pytest.mark.parametrize(
    "change",
    [
        {"format": "else"},
        {"version": 2},
        {"surfaces": None},
        {"surfaces": [{"kind": "random"}]},
        {"seed_": 1, "seed": None, "surfaces": [[]]},
    ],
)
def test_a_file_that_is_none_is_left_out(tmp_path: Path, change: dict[str, Any]) -> None:
    assert read_landscape(tmp_path) is None
    content = json.loads(write_landscape(tmp_path, LANDSCAPE).read_text())
    (tmp_path / LANDSCAPE_FILE).write_text(json.dumps(content | change))
    assert read_landscape(tmp_path) is None


def test_losses_that_do_not_fit_the_grid_are_left_out(tmp_path: Path) -> None:
    content = json.loads(write_landscape(tmp_path, LANDSCAPE).read_text())
    content["surfaces"][0]["losses"].pop()
    (tmp_path / LANDSCAPE_FILE).write_text(json.dumps(content))
    assert read_landscape(tmp_path) is None


def test_the_scene_has_every_loss_at_its_place() -> None:
    scene = make_scene(WALK)
    assert len(scene["vertices"]) == 9
    assert len(scene["faces"]) == 4
    lowest = min(scene["vertices"], key=lambda vertex: vertex[2])
    assert lowest == [0.0, 0.0, 0.0]
    assert scene["vertices"][0] == [-1.0, -1.0, 1.0]
    assert scene["path"] == [[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]


def test_a_loss_that_is_no_number_stands_at_the_top() -> None:
    rough = replace(BOWL, losses=[[math.nan, 2.5, 2.5], *BOWL.losses[1:]])
    assert make_scene(rough)["vertices"][0][2] == 1.0
    flat = replace(BOWL, losses=[[1.0] * 3] * 3)
    assert {vertex[2] for vertex in make_scene(flat)["vertices"]} == {0.0}


def test_the_picture_is_complete_without_its_script() -> None:
    svg = ElementTree.fromstring(surface_svg(WALK))
    kinds = [element.get("class") for element in svg.iter()]
    assert (kinds.count("face"), kinds.count("floor"), kinds.count("mark")) == (4, 1, 2)
    numbers = [
        tuple(map(float, pair.split(",")))
        for element in svg.iter()
        for pair in element.get("points", "").split()
    ]
    assert all(0 < x < 640 and 0 < y < 480 for x, y in numbers)
    assert "between 0.5 and 2.5 nats" in svg.get("aria-label", "")


def test_colours_go_from_dark_to_light() -> None:
    def lightness(height: float) -> float:
        red, green, blue = map(int, re.findall(r"\d+", color_at(height)))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    found = [lightness(step / 20) for step in range(21)]
    assert found == sorted(found)
    assert color_at(-1.0) == color_at(0.0)
    assert color_at(2.0) == color_at(1.0)


def test_marks_that_nearly_coincide_share_their_words() -> None:
    path = [[0.0, 0, 0], [0.0, 0.01, 0], [1, 1, 0], [0, 0, 0.5], [0, 0.02, 0.5], [0.02, 0, 0.5]]
    assert _labels(path, list("abcdef")) == ["a, b", "", "c", "d to f", "", ""]


def test_the_words_of_near_marks_do_not_lie_on_each_other() -> None:
    near = [*PATH, PathPoint("sft@3", 0.01, 0.0, 0.5), PathPoint("rl@4", 0.0, 0.01, 0.5)]
    svg = ElementTree.fromstring(surface_svg(replace(WALK, path=near)))
    marks = [element for element in svg.iter() if element.get("class") == "mark"]
    words = ["".join(mark.itertext()) for mark in marks]
    assert words == ["base@1", "sft@2 to rl@4", "", ""]


def test_the_page_runs_our_script_and_no_other(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    (run / "sft").mkdir(parents=True)
    hostile = replace(WALK, title=HOSTILE, path=[replace(PATH[0], name=HOSTILE), PATH[1]])
    write_landscape(run, replace(LANDSCAPE, surfaces=(hostile,), checkpoint=HOSTILE))
    page = write_report(run).html.read_text()
    assert re.findall(r"<script[^>]*>", page) == ["<script>"]
    assert page.count(script()) == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert unescape(policy[1]).endswith(script_policy())
    assert "default-src 'none'" in policy[1]
    assert not re.search(r"(src|href)=\"(?!#)", page)


def test_the_report_has_pictures_and_figures_of_the_landscape(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    (run / "sft").mkdir(parents=True)
    write_landscape(run, LANDSCAPE)
    paths = write_report(run)
    markdown = paths.markdown.read_text()
    assert "| base@1 | 2.5 | (1, -1) |" in markdown
    assert "held-out conversations, around sft@2: 20 losses" in markdown
    for kind in ("random", "trajectory"):
        assert f"(figures/landscape-{kind}.svg)" in markdown
        ElementTree.parse(run / "figures" / f"landscape-{kind}.svg")
    assert paths.html.read_text().count('<figure class="surface">') == 2


CHECK = """
const svg = document.querySelector('svg');
const seen = () => [...svg.querySelectorAll('[points]')].map((n) => n.getAttribute('points')) + '|'
  + [...svg.querySelectorAll('.face')].map((n) => n.getAttribute('fill')) + '|'
  + [...svg.querySelectorAll('.mark')].map((n) => n.getAttribute('transform'));
const press = (key) => svg.dispatchEvent(new KeyboardEvent('keydown', { key, cancelable: true }));
const before = seen(); press('a'); const other = seen();
press('ArrowLeft'); const turned = seen(); press('ArrowRight'); const back = seen();
document.title = JSON.stringify([before === other, before !== turned, before === back]);
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_the_script_draws_what_python_drew_and_turns_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    program = f"<script>{script()}</script><script>{CHECK}</script>"
    page.write_text(f"<!doctype html><title>-</title>{surface_figure(WALK)}{program}")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/user"]
    done = subprocess.run(
        ["chromium", *options, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert json.loads(title[1]) == [True, True, True]
