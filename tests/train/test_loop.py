from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.errors import Interrupted, TrainingError
from aquachat.train import checkpoint as checkpoints
from aquachat.train.hooks import Hook
from aquachat.train.objective import LossSum, NextToken
from tests.train.loops import RECIPE, RandomSource, make_trainer


def _losses(trainer: Any) -> list[float]:
    return [metrics["train/loss"] for _, metrics in trainer.logger.lines]


def test_losses_and_weights_do_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    trainers = {
        rows: make_trainer(tmp_path / str(rows), source=RandomSource(rows)) for rows in (8, 3, 1)
    }
    for trainer in trainers.values():
        trainer._one_step()
    whole = dict(trainers[8].model.named_parameters())
    for rows in (3, 1):
        assert _losses(trainers[rows]) == pytest.approx(_losses(trainers[8]), rel=1e-6)
        for name, parameter in trainers[rows].model.named_parameters():
            # Muon orthogonalises in bfloat16, which turns a last-bit difference into some 1e-4.
            torch.testing.assert_close(parameter, whole[name], atol=2e-3, rtol=0)


def test_gradients_do_not_depend_on_the_micro_batch() -> None:
    gradients = {}
    for rows in (8, 3, 1):
        trainer = make_trainer(Path("unused"), source=RandomSource(rows))
        batches = trainer.source.step_batches(0)
        trainer._backward(batches, float(sum(b.num_targets for b in batches)))
        gradients[rows] = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    for rows in (3, 1):
        for name, gradient in gradients[rows].items():
            torch.testing.assert_close(gradient, gradients[8][name], atol=1e-6, rtol=1e-5)


def test_a_resumed_stage_equals_one_that_never_stopped(tmp_path: Path) -> None:
    straight = make_trainer(tmp_path / "straight")
    straight.fit()

    first = make_trainer(tmp_path / "resumed")
    for _ in range(3):
        first._one_step()
    first.save()
    second = make_trainer(tmp_path / "resumed")
    newest = checkpoints.latest_checkpoint(tmp_path / "resumed")
    assert newest is not None
    second.resume_from(checkpoints.load_checkpoint(newest))
    second.fit()

    assert _losses(first) + _losses(second) == _losses(straight)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    assert second.progress.tokens == straight.progress.tokens


def test_the_loss_falls(tmp_path: Path) -> None:
    class OneBatch(RandomSource):
        def step_batches(self, step: int) -> Any:
            return super().step_batches(0)

    trainer = make_trainer(
        tmp_path, source=OneBatch(), recipe=replace(RECIPE, num_iterations=25, save_every=0)
    )
    result = trainer.fit()
    assert result.metrics["train/loss"] < 0.5 * _losses(trainer)[0]
    assert result.step == 25
    assert result.tokens == 25 * 8 * 16


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_step_and_ends_with_its_code(
    tmp_path: Path, signum: int, code: int
) -> None:
    def interrupt(step: int, metrics: Any) -> None:
        if step == 3:
            os.kill(os.getpid(), signum)

    trainer = make_trainer(tmp_path, on_step=interrupt)
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="stopped after step 3 of 6 of base") as caught:
        trainer.fit()
    assert caught.value.exit_code == code
    assert "--resume" in (caught.value.hint or "")
    assert signal.getsignal(signum) is before
    newest = checkpoints.latest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step_000003"


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    class Poisoned(NextToken):
        calls = 0

        def __call__(self, *args: Any) -> LossSum:
            self.calls += 1
            loss = super().__call__(*args)
            return LossSum(loss.value * float("nan")) if self.calls == 4 else loss

    trainer = make_trainer(tmp_path)
    trainer.objective = Poisoned()
    with pytest.raises(TrainingError, match=r"step 3 of base has loss nan.*step_000002"):
        trainer.fit()
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step_000002"]
    kept = checkpoints.load_checkpoint(tmp_path / "step_000002").model
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_a_step_without_targets_leaves_the_weights_alone(tmp_path: Path) -> None:
    class Empty(RandomSource):
        def step_batches(self, step: int) -> Any:
            return [] if step == 1 else super().step_batches(step)

    trainer = make_trainer(tmp_path, source=Empty())
    trainer._one_step()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer._one_step()
    assert trainer.progress.step == 2
    assert all(torch.equal(v, before[n]) for n, v in trainer.model.state_dict().items())


def test_hooks_run_when_due_and_after_the_last_step(tmp_path: Path) -> None:
    seen: list[int] = []

    def measure(model: Any, step: int) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(step)
        return {"val/loss": float(step)}

    trainer = make_trainer(tmp_path, hooks=[Hook("watch", 4, measure)])
    result = trainer.fit()
    assert seen == [4, 6]
    assert result.metrics["val/loss"] == 6.0


def test_old_checkpoints_are_pruned(tmp_path: Path) -> None:
    make_trainer(tmp_path, recipe=replace(RECIPE, keep_last=2)).fit()
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == [
        "step_000004",
        "step_000006",
    ]
