from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import MissingFileError
from aquachat.track.logger import (
    RunLogger,
    SilentLogger,
    read_json_lines,
    read_metrics,
    truncate_after,
)
from aquachat.track.values import as_number, jsonable, to_json


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class RecordingSink:
    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, Any]]] = []
        self.closed: list[bool] = []

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self.lines.append((step, dict(metrics)))

    def close(self, *, succeeded: bool) -> None:
        self.closed.append(succeeded)


def test_a_line_holds_step_stage_and_time_before_its_metrics(tmp_path: Path) -> None:
    clock, sink = Clock(), RecordingSink()
    with RunLogger(tmp_path / "sft", "sft", clock=clock, sinks=[sink]) as logger:
        clock.now_s += 2.5
        logger.log(1, {"train/loss": 3.25, "train/lr": 0.02})
        # flushed before the logger is closed
        text = (tmp_path / "sft" / "metrics.jsonl").read_text()
    assert text == (
        '{"step": 1, "stage": "sft", "time_s": 2.5, "train/loss": 3.25, "train/lr": 0.02}\n'
    )
    assert sink.lines == [(1, {"train/loss": 3.25, "train/lr": 0.02})]
    assert sink.closed == [True]


def test_numbers_of_torch_and_numpy_become_plain_ones(tmp_path: Path) -> None:
    with RunLogger(tmp_path, "rl") as logger:
        logger.log(
            7,
            {
                "train/loss": torch.tensor(1.5),
                "rl/acc": np.float32(0.25),
                "rl/count": np.int64(3),
                "train/lr": np.float64(0.1),
            },
        )
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert {k: v for k, v in row.items() if "/" in k} == {
        "train/loss": 1.5,
        "rl/acc": 0.25,
        "rl/count": 3,
        "train/lr": 0.1,
    }


def test_numbers_that_are_not_finite_survive_as_strings_in_valid_json(tmp_path: Path) -> None:
    with RunLogger(tmp_path, "base") as logger:
        logger.log(1, {"train/loss": math.nan, "a/b": math.inf, "a/c": -torch.inf})
    text = (tmp_path / "metrics.jsonl").read_text()

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    row = json.loads(text, parse_constant=refuse)
    assert (row["train/loss"], row["a/b"], row["a/c"]) == ("NaN", "Infinity", "-Infinity")
    assert math.isnan(as_number(row["train/loss"]) or 0.0)
    assert as_number(row["a/b"]) == float(row["a/b"]) == math.inf


def test_a_resumed_run_never_has_a_step_twice_and_its_time_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    with RunLogger(tmp_path, "sft", clock=clock) as logger:
        for step in range(1, 6):
            clock.now_s += 10
            logger.log(step, {"train/loss": float(step)})
            logger.log_samples(step, [{"text": f"sample {step}"}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "stage": "sft", "train/lo')  # the process was killed here

    clock.now_s += 5000  # a night passes
    with RunLogger(tmp_path, "sft", resume_step=3, clock=clock) as logger:
        clock.now_s += 10
        logger.log(4, {"train/loss": 40.0})
        logger.log_samples(4, [{"text": "again"}])
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["time_s"] for row in rows] == [10.0, 20.0, 30.0, 40.0]
    assert rows[-1]["train/loss"] == 40.0
    samples = read_json_lines(tmp_path / "samples.jsonl")
    assert [(row["step"], row["text"]) for row in samples][-2:] == [(3, "sample 3"), (4, "again")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "samples.jsonl"]


def test_a_trainer_that_counts_seconds_itself_is_believed(tmp_path: Path) -> None:
    with RunLogger(tmp_path, "base", resume_step=10) as logger:
        logger.log(11, {"train/loss": 1.0}, time_s=98.7654321)
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["time_s"] == 98.765


def test_starting_over_drops_what_an_earlier_attempt_logged(tmp_path: Path) -> None:
    with RunLogger(tmp_path, "base") as logger:
        logger.log(0, {"val/loss": 9.0})
    with RunLogger(tmp_path, "base") as logger:
        logger.log(0, {"val/loss": 8.0})
    assert [row["val/loss"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [8.0]


def test_a_resume_that_drops_nothing_leaves_the_file_alone(tmp_path: Path) -> None:
    with RunLogger(tmp_path, "base") as logger:
        logger.log(1, {"train/loss": 0.1})
    path = tmp_path / "metrics.jsonl"
    inode = path.stat().st_ino
    assert len(truncate_after(path, 1)) == 1
    assert path.stat().st_ino == inode


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_file_cut_at_any_byte_is_read_up_to_its_last_whole_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "metrics.jsonl"
    whole = "".join(to_json({"step": i, "text": "naïve \u2028 ≤"}) + "\n" for i in range(9))
    data = whole.encode()[:cut]
    path.write_bytes(data)
    complete = data.count(b"\n")
    assert [row["step"] for row in read_metrics(path)][:complete] == list(range(complete))
    assert len(read_metrics(path)) <= complete + 1
    assert len(truncate_after(path, 100)) == len(read_metrics(path))
    assert path.read_bytes() == b"" or path.read_bytes().endswith(b"\n")


def test_a_reserved_name_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with RunLogger(tmp_path, "base") as logger, pytest.raises(AssertionError, match="reserved"):
        logger.log(1, {"time_s": 3.0})


def test_a_failed_stage_tells_its_sinks(tmp_path: Path) -> None:
    sink = RecordingSink()
    with pytest.raises(ZeroDivisionError), RunLogger(tmp_path, "base", sinks=[sink]):
        raise ZeroDivisionError
    assert sink.closed == [False]


def test_the_silent_logger_writes_nothing(tmp_path: Path) -> None:
    logger = SilentLogger()
    logger.log(1, {"train/loss": 1.0})
    logger.log_samples(1, [{"text": "x"}])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_metrics_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_a_value_without_a_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        jsonable({"x": object()})
