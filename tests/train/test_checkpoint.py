from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from aquachat.errors import DataError, MissingFileError, TrainingError
from aquachat.train import checkpoint as checkpoints
from aquachat.train.checkpoint import Checkpoint


def _checkpoint(step: int) -> Checkpoint:
    optimizer = {
        "state": {0: {"exp_avg": torch.full((2,), float(step)), "step": torch.tensor(3.0), "k": 1}},
        "param_groups": [{"lr": 0.1, "betas": [0.8, 0.95], "params": [0]}],
    }
    return Checkpoint(step, {"w": torch.arange(4.0) + step}, optimizer, {"note": "ü", "step": step})


def test_a_checkpoint_reads_back_equal(tmp_path: Path) -> None:
    path = checkpoints.save_checkpoint(tmp_path, _checkpoint(7))
    assert path.name == "step_000007"
    found = checkpoints.load_checkpoint(path)
    wanted = _checkpoint(7)
    assert torch.equal(found.model["w"], wanted.model["w"])
    assert torch.equal(found.optimizer["state"][0]["exp_avg"], torch.full((2,), 7.0))
    assert found.optimizer["state"][0]["k"] == 1
    assert found.optimizer["param_groups"] == wanted.optimizer["param_groups"]
    assert found.state == wanted.state
    assert found.step == 7


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "model.safetensors").write_bytes(b"torn"),
        lambda path: (path / "state.json").unlink(),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").unlink(),
    ],
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    good = checkpoints.save_checkpoint(tmp_path, _checkpoint(1))
    bad = checkpoints.save_checkpoint(tmp_path, _checkpoint(2))
    damage(bad)
    assert checkpoints.latest_checkpoint(tmp_path) == good
    with pytest.raises((DataError, MissingFileError)):
        checkpoints.load_checkpoint(bad)


def test_a_half_written_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step_000009.partial-1").mkdir()
    (tmp_path / "step_000010").mkdir()
    assert checkpoints.latest_checkpoint(tmp_path) is None
    checkpoints.save_checkpoint(tmp_path, _checkpoint(1))
    checkpoints.prune_checkpoints(tmp_path, keep_last=1)
    assert not (tmp_path / ".step_000009.partial-1").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = checkpoints.save_checkpoint(tmp_path, _checkpoint(1))

    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoints, "sync_file", full)
    with pytest.raises(TrainingError, match="No space left on device") as caught:
        checkpoints.save_checkpoint(tmp_path, _checkpoint(2))
    assert "--resume" in (caught.value.hint or "")
    assert checkpoints.latest_checkpoint(tmp_path) == good
    assert [p.name for p in tmp_path.iterdir()] == [good.name]


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = checkpoints.save_checkpoint(tmp_path, _checkpoint(1))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(DataError, match="checkpoint format 99"):
        checkpoints.load_checkpoint(path)


def test_the_random_state_survives_json() -> None:
    torch.manual_seed(5)
    state = json.loads(json.dumps(checkpoints.random_state_to_json()))
    first = torch.rand(3)
    torch.manual_seed(6)
    checkpoints.restore_random_state(state)
    assert torch.equal(torch.rand(3), first)
