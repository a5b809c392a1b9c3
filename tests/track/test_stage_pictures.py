"""Pictures of stages and origins of settings in a report."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from aquachat.track.report import write_report
from aquachat.track.report_data import gather
from aquachat.track.stage_pictures import origin_table, stage_pictures

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)


def make_run(folder: Path, **keys: Any) -> Path:
    run = folder / "mine"
    (run / "rl" / "pictures").mkdir(parents=True)
    lines = [{"step": step, "stage": "rl", "time_s": 1.0, **keys} for step in (1, 2)]
    (run / "rl" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "rl" / "recipe.toml").write_text("[rl]\nbeta = 0.1\nmixture = {}\n\n[run]\nseed = 3\n")
    (run / "rl" / "pictures" / "heat.png").write_bytes(PNG)
    return run


def test_a_logged_picture_is_in_the_page_once_with_its_last_step(tmp_path: Path) -> None:
    run = make_run(tmp_path, **{"attn/heatmap/layer_00": "pictures/heat.png"})
    page = write_report(run).html.read_text()
    assert page.count("<img ") == 1
    assert "rl: attn/heatmap/layer_00, step 2" in page
    encoded = re.search(r'src="data:image/png;base64,([^"]*)"', page)
    assert encoded is not None
    assert base64.b64decode(encoded[1]) == PNG


@pytest.mark.parametrize("value", ["../../secret.png", "absent.png", "fake.png", "large.png"])
def test_what_is_no_picture_of_the_stage_is_left_out(
    tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, **{"attn/heatmap": value})
    (tmp_path / "secret.png").write_bytes(PNG)
    (run / "rl" / "fake.png").write_bytes(b"<svg>")
    (run / "rl" / "large.png").write_bytes(PNG + b"0" * 2_000_000)
    assert stage_pictures(run, gather(run)) == []


def test_a_link_out_of_the_stage_is_not_followed(tmp_path: Path) -> None:
    run = make_run(tmp_path, **{"attn/heatmap": "link.png"})
    (tmp_path / "secret.png").write_bytes(PNG)
    (run / "rl" / "link.png").symlink_to(tmp_path / "secret.png")
    assert stage_pictures(run, gather(run)) == []


def test_letters_and_layers_have_curves_once_they_are_logged(tmp_path: Path) -> None:
    keys = {"rl/letter_fraction/A": 0.25, "rl/letter_fraction/B": 0.75}
    keys |= {"attn/entropy/layer_00": 1.5}
    page = write_report(make_run(tmp_path, **keys)).html.read_text()
    assert "Letters of rollouts in stage rl" in page
    assert "Attention entropy by layer in stage rl" in page
    plain = write_report(make_run(tmp_path / "plain")).html.read_text()
    assert "Letters of rollouts" not in plain


def test_origins_are_shown_and_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert origin_table(gather(run)) is None
    write_report(run, {"origins": {"rl.beta": "flag", "run.seed": "default"}})
    table = origin_table(gather(run))
    assert table is not None
    assert table.rows == (
        ("rl.beta", "0.1", "flag"),
        ("rl.mixture", "none", "-"),
        ("run.seed", "3", "default"),
    )
    assert "| rl.beta | 0.1 | flag |" in write_report(run).markdown.read_text()
