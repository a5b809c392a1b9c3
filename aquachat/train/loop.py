"""The only training loop: base, mid, SFT and RL differ in (source, objective, hooks).

One optimizer step: count the targets of all micro-batches on all processes, backward through each
micro-batch's sum divided by that count, sum gradients over processes, clip, update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aquachat.config.recipes import TrainRecipe
from aquachat.errors import Interrupted, TrainingError
from aquachat.model.batch import Batch, BatchSource
from aquachat.model.gpt import GPT
from aquachat.model.optim import MuonAdamW
from aquachat.track.logger import StageLogger
from aquachat.train import checkpoint as checkpoints
from aquachat.train.hooks import Hook
from aquachat.train.objective import Objective
from aquachat.train.schedule import Schedule
from aquachat.train.signals import StopRequest
from aquachat.world import World


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a stage came to."""

    step: int
    tokens: int
    """Positions computed over all processes, padding included."""
    seconds: float
    """Time spent in steps and hooks, all sessions of the stage together."""
    metrics: Mapping[str, float]
    """The last value of every metric."""
    checkpoint: Path | None


@dataclass(slots=True)
class Progress:
    """The counters that a checkpoint keeps."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Trains `model` for `schedule.num_steps` steps and keeps its checkpoints.

    Raises:
        TrainingError: a loss or gradient that is not finite; nothing is updated or saved with it.
        Interrupted: Ctrl-C (130) or SIGTERM (143), after the state was saved.
    """

    model: GPT
    optimizer: MuonAdamW
    source: BatchSource
    objective: Objective
    schedule: Schedule
    recipe: TrainRecipe
    world: World
    stage: str
    stage_dir: Path
    logger: StageLogger
    hooks: Sequence[Hook] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    """Goes into every checkpoint: recipe, lineage, tokenizer, what was pinned at the start."""
    step_metrics: Callable[[], Mapping[str, float]] | None = None
    """What the source measured while it made the step's batches, for example rewards."""
    on_step: Callable[[int, Mapping[str, float]], None] | None = None
    progress: Progress = field(default_factory=Progress)

    def fit(self) -> FitResult:
        """Train from where `progress` stands to the end of the schedule."""
        path: Path | None = checkpoints.latest_checkpoint(self.stage_dir)
        with StopRequest() as stop:
            while self.progress.step < self.schedule.num_steps:
                self._one_step()
                done = self.progress.step == self.schedule.num_steps
                due = self.recipe.save_every > 0 and (
                    self.progress.step % self.recipe.save_every == 0
                )
                stopping = self._any_rank_stops(stop)
                if done or due or stopping:
                    path = self.save()
                if stopping and not done:
                    raise Interrupted(
                        f"stopped after step {self.progress.step} of {self.schedule.num_steps} of "
                        f"{self.stage}, which is saved",
                        hint="give the same command with `--resume` to go on",
                        exit_code=stopping,
                    )
        progress = self.progress
        return FitResult(
            progress.step, progress.tokens, progress.seconds, dict(progress.metrics), path
        )

    def resume_from(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Take over weights, moments, counters, random state and the source's position."""
        self.model.load_state_dict(dict(checkpoint.model))
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        saved = checkpoint.state
        self.progress = Progress(**saved["progress"])
        self.source.load_state_dict(saved["source"])
        checkpoints.restore_random_state(saved["random_state"])

    def save(self) -> Path:
        """Write a checkpoint on the main process; the others wait for it."""
        path = checkpoints.step_dir(self.stage_dir, self.progress.step)
        source_state = self.source.state_dict()
        if self.world.is_main:
            progress = self.progress
            state = dict(self.state) | {
                "progress": {
                    "step": progress.step,
                    "tokens": progress.tokens,
                    "seconds": progress.seconds,
                    "metrics": progress.metrics,
                },
                "source": source_state,
                "random_state": checkpoints.random_state_to_json(),
            }
            snapshot = checkpoints.Checkpoint(
                progress.step, self.model.state_dict(), self.optimizer.state_dict(), state
            )
            checkpoints.save_checkpoint(self.stage_dir, snapshot)
            checkpoints.prune_checkpoints(self.stage_dir, keep_last=self.recipe.keep_last)
        self.world.barrier()
        return path

    def _one_step(self) -> None:
        started = time.perf_counter()
        step = self.progress.step
        self.model.train()
        batches = self.source.step_batches(step)
        metrics, num_tokens = self._update(step, batches)
        elapsed = time.perf_counter() - started
        metrics["train/tokens_per_second"] = num_tokens / elapsed
        if self.step_metrics is not None:
            metrics |= self.step_metrics()
        self.progress.step = step + 1
        self.progress.tokens += num_tokens
        hook_metrics = self._run_hooks()
        self.progress.seconds += time.perf_counter() - started
        self.progress.metrics |= metrics | hook_metrics
        self._report(metrics | hook_metrics, bool(hook_metrics))

    def _update(self, step: int, batches: Sequence[Batch]) -> tuple[dict[str, float], int]:
        """One optimizer step; returns its metrics and the positions computed on all processes."""
        own = sum(self.objective.denominator(batch) for batch in batches)
        own_tokens = sum(batch.num_tokens for batch in batches)
        total, num_tokens = self.world.sum_scalars(float(own), float(own_tokens))
        if total == 0:
            # Nothing to learn from, for example groups whose rewards are all equal. No update at
            # all: Muon would normalise a zero or tiny gradient to a full step.
            return {"train/lr": 0.0, "train/num_targets": 0.0}, int(num_tokens)
        sums = self._backward(batches, total)
        grad_norm = self._reduce_and_clip()
        values = dict(zip(sums, self.world.sum_scalars(*sums.values()), strict=True))
        self._check_finite(step, values["train/loss"], grad_norm)
        factor = self.schedule.lr_factor(step)
        self.optimizer.set_lr_factor(factor)
        self.optimizer.set_momentum(self.schedule.muon_momentum(step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        values |= {
            "train/grad_norm": grad_norm,
            "train/lr": factor * self.recipe.matrix_lr * self.recipe.lr_scale,
            "train/num_targets": total,
        }
        return values, int(num_tokens)

    def _backward(self, batches: Sequence[Batch], total: float) -> dict[str, float]:
        """Backward through every micro-batch; returns sums already divided by `total`."""
        sums: dict[str, Tensor] = {}
        for batch in batches:
            loss = self.objective(self.model, batch, self.world.dtype)
            (loss.value / total).backward()
            for name, value in ({"train/loss": loss.value} | dict(loss.metrics)).items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        names = self.world.gather_objects(list(sums))
        known = sorted({name for rank in names for name in rank} | {"train/loss"})  # type: ignore[attr-defined]
        return {name: float(sums[name]) / total if name in sums else 0.0 for name in known}

    def _reduce_and_clip(self) -> float:
        """Sum gradients over processes and clip them by their global norm; returns that norm."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None and self.world.size > 1:
                parameter.grad = torch.zeros_like(parameter)
        if self.world.size > 1:
            for parameter in parameters:
                assert parameter.grad is not None
                self.world.all_reduce_sum(parameter.grad)
        limit = self.recipe.max_grad_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    def _check_finite(self, step: int, loss: float, grad_norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        last = checkpoints.latest_checkpoint(self.stage_dir)
        kept = f"the last good checkpoint is `{last}`" if last else "no checkpoint was saved before"
        raise TrainingError(
            f"step {step} of {self.stage} has loss {loss} and gradient norm {grad_norm}; {kept}",
            hint="lower `--lr-scale`, or try `--dtype float32`, and go on with `--resume`",
        )

    def _run_hooks(self) -> dict[str, float]:
        step = self.progress.step
        metrics: dict[str, float] = {}
        due = [hook for hook in self.hooks if hook.is_due(step, self.schedule.num_steps)]
        if due:
            self.model.eval()
            with torch.no_grad():
                for hook in due:
                    metrics |= hook.measure(self.model, step)
        return metrics

    def _report(self, metrics: Mapping[str, float], has_evaluation: bool) -> None:
        step = self.progress.step
        last = step == self.schedule.num_steps
        if self.world.is_main:
            if last or has_evaluation or step == 1 or step % self.recipe.log_every == 0:
                self.logger.log(step, metrics)
            if self.on_step is not None:
                self.on_step(step, metrics)

    def _any_rank_stops(self, stop: StopRequest) -> int:
        """The exit code any process was asked to stop with, 0 where none was."""
        if self.world.size == 1:
            return stop.exit_code
        codes = self.world.gather_objects(stop.exit_code)
        return max(int(code) for code in codes)  # type: ignore[call-overload]
