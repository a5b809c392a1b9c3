"""`demo/record.py` and the recording that it made."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from aquachat import log

ROOT = Path(__file__).parents[1]
CAST = ROOT / "demo/tiny.cast"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is Unix's")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "demo/record.py"))


@pytest.fixture(scope="module")
def recorded() -> str:
    if not CAST.is_file():
        pytest.fail("there is no recording: `python demo/record.py` makes it")
    return CAST.read_text(encoding="utf-8")


def _check(text: str) -> tuple[dict[str, Any], list[list[Any]]]:
    """The header and events, after the rules of asciicast v2."""
    assert text.endswith("\n")
    header, *events = (json.loads(line) for line in text.splitlines())
    assert header["version"] == 2
    assert all(isinstance(header[name], int) and header[name] > 0 for name in ("width", "height"))
    assert all(isinstance(value, str) for value in header["env"].values())
    for event in events:
        at, kind, data = event
        assert at >= 0
        assert kind == "o"
        assert isinstance(data, str)
    times = [event[0] for event in events]
    assert times == sorted(times)
    return header, events


def test_the_recording_is_an_asciicast_of_60_seconds(recorded: str) -> None:
    header, events = _check(recorded)
    assert header["width"] >= 80
    assert re.fullmatch(r"aquachat run tiny: \d+ s of real time in 60 s", header["title"])
    assert events[-1][0] == 60.0
    assert CAST.stat().st_size < 1_000_000


def test_the_recording_shows_the_whole_pipeline(recorded: str) -> None:
    _, events = _check(recorded)
    shown = "".join(event[2] for event in events)
    assert shown.startswith("$ aquachat run tiny\r\n")
    for words in ("prepare", "base", "mid", "sft", "rl", "accuracy", "report: /home/you/"):
        assert words in shown, words


def test_the_recording_names_nothing_of_the_computer_it_was_made_on(recorded: str) -> None:
    text = recorded.replace('"SHELL": "/bin/sh"', "")  # named by the script, not found out
    paths = set(re.findall(r"(?<![\w.~])/(?:[\w.-]+/)+[\w.-]*", text))
    assert all(path.startswith("/home/you/") for path in paths), paths
    for line in text.splitlines():
        assert log.redact(line) == line
    assert not re.search(r"\b(?:hf_|sk-|ghp_|AKIA)\w{8,}", text)
    assert not re.search(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|https?://(?!docs\.)", text)


def test_times_are_divided_by_one_factor_and_nothing_is_lost(record: dict[str, Any]) -> None:
    pieces = [(10.0 * number, f"line {number}\r\n") for number in range(1, 101)]
    _, events = _check(record["cast"](pieces))
    shown = "".join(event[2] for event in events)
    assert shown == "$ aquachat run tiny\r\n" + "".join(text for _, text in pieces) + "$ "
    times = {text: at for at, _, text in events}
    start, length = record["TYPING_S"], record["LENGTH_S"]
    factor = (length - start - record["READING_S"]) / 1000.0
    for at, text in pieces:
        assert times[text] == pytest.approx(start + at * factor, abs=1e-3)


def test_output_of_one_frame_is_one_event(record: dict[str, Any]) -> None:
    pieces = [(at / 1000, "x") for at in range(100_000)]
    _, events = _check(record["cast"](pieces))
    assert "".join(event[2] for event in events).count("x") == 100_000
    assert len(events) < 600


def test_only_the_last_drawing_of_a_frame_is_kept(record: dict[str, Any]) -> None:
    erase = "\x1b[2K"
    pieces = [(1.0, f"{erase}1 of 3\r"), (1.0, f"{erase}2 of 3\r{erase}3 of 3\r\n"), (1.0, "end")]
    _, events = _check(record["cast"](pieces))
    shown = "".join(event[2] for event in events)
    assert shown == f"$ aquachat run tiny\r\n{erase}3 of 3\r\nend$ "


def test_a_name_that_arrives_in_two_halves_is_replaced(record: dict[str, Any]) -> None:
    chunks = [(1.0, b"report: /tmp/ho"), (2.0, b"me/runs \xe2\x94"), (3.0, b"\x80\nend")]
    pieces = record["renamed"](record["framed"](chunks), "/tmp/home")
    assert pieces == [(3.0, "report: /home/you/runs \u2500\n"), (3.0, "end")]


def test_a_program_is_recorded_in_a_terminal_of_its_own(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "never-to-be-seen")
    (tmp_path / "probe.py").write_text(
        "import os, sys\n"
        "print(sys.stdout.isatty(), os.get_terminal_size().columns, os.getcwd())\n"
        "print(sorted(os.environ))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shown = "".join(text for _, text in record["run"](["probe"], tmp_path))
    assert f"True {record['WIDTH']} {record['SHOWN_HOME']}" in shown
    assert "WANDB_API_KEY" not in shown
    (tmp_path / "failing.py").write_text("raise SystemExit('no luck')")
    with pytest.raises(SystemExit, match="no luck"):
        record["run"](["failing"], tmp_path)
