from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import ConfigError
from aquachat.track import wandb_sink
from aquachat.track.logger import RunLogger, read_metrics
from aquachat.track.wandb_sink import (
    WandbOptions,
    WandbSink,
    has_credentials,
    open_wandb,
    wandb_options,
)

BLOCK_BYTES = 32768


@pytest.fixture(autouse=True)
def _isolated_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    import wandb

    wandb.teardown()


def records_of(path: Path) -> Iterator[Any]:
    """The records of an offline run's log: LevelDB framing after a 7-byte W&B header."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < 7:
            position += left
            continue
        _checksum, size, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def offline_runs(stage_dir: Path) -> list[tuple[Any, list[dict[str, Any]]]]:
    """(run record, history rows) of each offline run, oldest first."""
    import wandb

    wandb.teardown()  # its service process writes the file, and has when it ended
    found = []
    for path in sorted((stage_dir / "wandb").glob("offline-run-*/*.wandb")):
        records = list(records_of(path))
        (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
        rows = [
            {
                (item.key or item.nested_key[0]): json.loads(item.value_json)
                for item in r.history.item
            }
            for r in records
            if r.WhichOneof("record_type") == "history"
        ]
        found.append((run, rows))
    return found


def open_offline(stage_dir: Path, *, resume: bool = False, mode: str = "offline") -> WandbSink:
    sink = open_wandb(
        stage_dir,
        run="tiny-1",
        stage="sft",
        options=wandb_options(mode, "my-project", "my-team", environ={}),
        config={"sft": {"lr": 0.02}, "seed": 1},
        resume=resume,
        environ={},
    )
    assert sink is not None
    return sink


def test_an_offline_run_holds_the_same_keys_and_values_as_the_run_log(tmp_path: Path) -> None:
    stage = tmp_path / "sft"
    with RunLogger(stage, "sft", sinks=[open_offline(stage)]) as logger:
        for step in range(1, 4):
            logger.log(step, {"train/loss": 3.0 / step, "eval/aqua_accuracy": step / 10})
    lines = read_metrics(stage / "metrics.jsonl")
    ((run, rows),) = offline_runs(stage)
    assert (run.project, run.entity) == ("my-project", "my-team")
    assert (run.display_name, run.run_group, run.job_type) == ("tiny-1-sft", "tiny-1", "sft")
    assert {update.key for update in run.config.update} >= {"sft", "seed"}
    assert [
        {"step": row["_step"], **{k: v for k, v in row.items() if not k.startswith("_")}}
        for row in rows
    ] == [{k: v for k, v in line.items() if k not in ("stage", "time_s")} for line in lines]


def test_a_resumed_stage_continues_the_same_run_and_a_fresh_one_does_not(tmp_path: Path) -> None:
    ids = []
    for number, resume in enumerate((False, True, False)):
        sink = open_offline(tmp_path, resume=resume)
        sink.log(1, {"train/loss": 1.0})
        sink.close(succeeded=True)
        ((run, _),) = offline_runs(tmp_path)
        ids.append(run.run_id)
        # W&B names the folder by second and id: two in one second would share it
        (tmp_path / "wandb").rename(tmp_path / f"wandb-{number}")
    assert ids[0] == ids[1] != ids[2]


def test_online_without_a_key_warns_and_logs_offline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = open_offline(tmp_path, mode="online")
    sink.log(1, {"train/loss": 1.0})
    sink.close(succeeded=True)
    assert "has no key" in caplog.text
    assert len(offline_runs(tmp_path)[0][1]) == 1


def test_an_unreachable_server_warns_and_logs_offline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_sink, "INIT_TIMEOUT_S", 2)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    sink = open_wandb(
        tmp_path,
        run="a",
        stage="rl",
        options=WandbOptions("online"),
        config={},
        resume=False,
        environ={"WANDB_API_KEY": "0123456789" * 4},
    )
    assert sink is not None
    sink.log(1, {"rl/acc": 0.5})
    sink.close(succeeded=True)
    assert "logged offline" in caplog.text
    assert "0123456789" not in caplog.text
    ((_, rows),) = offline_runs(tmp_path)
    assert rows[0]["rl/acc"] == 0.5


class BrokenRun:
    def __init__(self) -> None:
        self.calls = 0

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.calls += 1
        raise ConnectionResetError("peer left")

    def finish(self, exit_code: int) -> None:
        raise ConnectionResetError("peer left")


def test_a_failure_in_the_middle_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BrokenRun()
    with RunLogger(tmp_path, "base", sinks=[WandbSink(broken, tmp_path)]) as logger:
        for step in range(5):
            logger.log(step, {"train/loss": 1.0})
    assert broken.calls == 1
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 5


def test_a_path_of_a_picture_becomes_the_picture(tmp_path: Path) -> None:
    logged: list[dict[str, Any]] = []

    class Run:
        def log(self, metrics: dict[str, Any], step: int) -> None:
            logged.append(metrics)

    from PIL import Image

    Image.new("RGB", (2, 2)).save(tmp_path / "heat.png")
    (tmp_path / "loss.html").write_text("<p>")
    metrics = {"attn/heatmap": "heat.png", "viz": "loss.html", "gone": "no.png", "a": "NaN"}
    WandbSink(Run(), tmp_path).log(1, metrics)
    kinds = {name: type(value).__name__ for name, value in logged[0].items()}
    assert kinds == {"attn/heatmap": "Image", "viz": "Html", "gone": "str", "a": "float"}


def test_off_touches_nothing(tmp_path: Path) -> None:
    options = wandb_options(environ={"WANDB_PROJECT": "p"})
    assert options == WandbOptions("off", "p", None)
    sink = open_wandb(
        tmp_path / "sft", run="a", stage="sft", options=options, config={}, resume=False
    )
    assert sink is None
    assert not (tmp_path / "sft").exists()


@pytest.mark.parametrize(
    ("flag", "environ", "mode"),
    [
        (None, {}, "off"),
        (None, {"WANDB_MODE": "offline"}, "offline"),
        (None, {"WANDB_MODE": "disabled"}, "off"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
        ("off", {"WANDB_MODE": "online"}, "off"),
    ],
)
def test_a_flag_wins_over_the_environment(
    flag: str | None, environ: dict[str, str], mode: str
) -> None:
    assert wandb_options(flag, environ=environ).mode == mode


def test_an_unknown_mode_names_where_it_came_from() -> None:
    with pytest.raises(ConfigError, match="WANDB_MODE cannot be `maybe`"):
        wandb_options(environ={"WANDB_MODE": "maybe"})


def test_credentials_are_found_where_wandb_looks(tmp_path: Path) -> None:
    assert not has_credentials({"HOME": str(tmp_path)})
    assert has_credentials({"WANDB_API_KEY": "x", "HOME": str(tmp_path)})
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password k\n")
    assert has_credentials({"HOME": str(tmp_path)})
    own_server = {"HOME": str(tmp_path), "WANDB_BASE_URL": "https://wandb.example.org"}
    assert not has_credentials(own_server)
