"""What every training stage does around the loop: refuse, resume, log, checkpoint, pin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import tomli_w
import torch

from aquachat.config.recipes import Recipe, TrainRecipe
from aquachat.config.resolve import to_toml_document
from aquachat.errors import ConfigError
from aquachat.files import write_text
from aquachat.model.batch import BatchSource
from aquachat.model.gpt import GPT
from aquachat.model.optim import MuonAdamW, param_groups
from aquachat.paths import Home
from aquachat.text.tokenizer import Tokenizer
from aquachat.track.logger import MetricSink, RunLogger, SilentLogger, StageLogger
from aquachat.train import checkpoint as checkpoints
from aquachat.train.hooks import Hook
from aquachat.train.lineage import TOKENIZER_DIR, Origin
from aquachat.train.loop import FitResult, Trainer
from aquachat.train.objective import Objective
from aquachat.train.schedule import Schedule
from aquachat.world import World, choose_dtype

RECIPE_FILE = "recipe.toml"


class Reporter(Protocol):
    """How a stage tells a person what it does; the command line has one, tests a silent one."""

    def note(self, text: str) -> None:
        """Say what is being done."""
        ...

    def warn(self, text: str) -> None:
        """Say what went not as asked."""
        ...

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show that `step` of `total` steps of `stage` are done."""
        ...

    def close(self) -> None:
        """End what is being shown."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """One stage of one run, as it was asked for."""

    home: Home
    run: str
    stage: str
    recipe: Recipe
    world: World
    reporter: Reporter
    resume: bool = False
    origin: str | None = None
    """`--from`; None for the stage before."""
    depth: int | None = None
    """`--depth`, which the weights a stage starts from must have; None for any."""
    data_dir: Path | None = None
    """`--data-dir`: where AQuA's prepared splits are."""
    make_sinks: Callable[[Path], Sequence[MetricSink]] = field(default=lambda stage_dir: ())
    """Further places that metrics go to, for example W&B; called on the main process."""

    @property
    def stage_dir(self) -> Path:
        """Where this stage writes."""
        return self.home.stage(self.run, self.stage)

    @property
    def train_recipe(self) -> TrainRecipe:
        """The recipe of this stage."""
        found = getattr(self.recipe, self.stage)
        assert isinstance(found, TrainRecipe)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What a stage gives to the loop."""

    model: GPT
    tokenizer: Tokenizer
    source: BatchSource
    objective: Objective
    schedule: Schedule
    hooks: Sequence[Hook] = ()
    origin: Origin | None = None
    step_metrics: Callable[[], Mapping[str, float]] | None = None
    use_logger: Callable[[StageLogger], None] | None = None
    """Receives the stage's logger before the first step, for samples."""


def open_stage(session: Session) -> Session:
    """Check that the stage may start, and take over what an earlier start of it pinned.

    Raises:
        ConfigError: the stage has results and `resume` is not set.
    """
    if not session.stage_dir.exists():
        return session
    newest = checkpoints.latest_checkpoint(session.stage_dir)
    if newest is not None and not session.resume:
        raise ConfigError(
            f"stage {session.stage} of run `{session.run}` already has results in "
            f"`{session.stage_dir}`",
            hint="add `--resume` to go on with it, or `--run NAME` for a new run",
        )
    if newest is None:
        return session
    pinned = checkpoints.load_checkpoint(newest, with_optimizer=False).state["pinned"]
    return _pin(session, pinned)


def run_stage(session: Session, plan: StagePlan) -> FitResult:
    """Train the stage to its end; returns at once where it already is there."""
    newest = checkpoints.latest_checkpoint(session.stage_dir) if session.resume else None
    resumed = None if newest is None else checkpoints.load_checkpoint(newest)
    if resumed is not None and resumed.state["model"] != plan.model.config.to_json():
        raise ConfigError(
            f"`{newest}` holds a model of another shape than the one asked for",
            hint="leave the model's settings as they were, or give `--run NAME` for a new run",
        )
    if session.world.is_main:
        _write_run_files(session, plan)
    session.world.barrier()
    logger = _open_logger(session, None if resumed is None else resumed.step)
    if plan.use_logger is not None:
        plan.use_logger(logger)
    trainer = _make_trainer(session, plan, logger)
    if resumed is not None:
        trainer.resume_from(resumed)
        finished = resumed.step >= plan.schedule.num_steps
        how = "is finished" if finished else "goes on"
        session.reporter.note(f"{session.stage}: {how} after step {resumed.step}")
    succeeded = False
    try:
        result = trainer.fit()
        succeeded = True
    finally:
        logger.close(succeeded=succeeded)
    return result


def make_optimizer(model: GPT, recipe: TrainRecipe) -> MuonAdamW:
    """Muon for matrices, AdamW for the rest, at the recipe's rates."""
    scale = recipe.lr_scale
    return MuonAdamW(
        param_groups(
            model,
            embedding_lr=recipe.embedding_lr * scale,
            unembedding_lr=recipe.unembedding_lr * scale,
            matrix_lr=recipe.matrix_lr * scale,
            scalar_lr=recipe.scalar_lr * scale,
            weight_decay=recipe.weight_decay,
        )
    )


def _make_trainer(session: Session, plan: StagePlan, logger: StageLogger) -> Trainer:
    total = plan.schedule.num_steps
    return Trainer(
        model=plan.model,
        optimizer=make_optimizer(plan.model, session.train_recipe),
        source=plan.source,
        objective=plan.objective,
        schedule=plan.schedule,
        recipe=session.train_recipe,
        world=session.world,
        stage=session.stage,
        stage_dir=session.stage_dir,
        logger=logger,
        hooks=plan.hooks,
        state=_checkpoint_state(session, plan),
        step_metrics=plan.step_metrics,
        on_step=lambda step, metrics: session.reporter.step(session.stage, step, total, metrics),
    )


def _checkpoint_state(session: Session, plan: StagePlan) -> dict[str, Any]:
    return {
        "stage": session.stage,
        "run": session.run,
        "model": plan.model.config.to_json(),
        "tokenizer_fingerprint": plan.tokenizer.fingerprint,
        "origin": None if plan.origin is None else str(plan.origin.path),
        "recipe": to_toml_document(session.recipe),
        "pinned": {
            "dtype": str(session.world.dtype).removeprefix("torch."),
            "device_batch_tokens": session.train_recipe.device_batch_tokens,
            "num_threads": torch.get_num_threads(),
            "world_size": session.world.size,
        },
        "num_steps": plan.schedule.num_steps,
    }


def _pin(session: Session, pinned: Mapping[str, Any]) -> Session:
    """The session with the dtype and device batch that the stage began with."""
    world, recipe = session.world, session.recipe
    asked = recipe.run.dtype
    if asked not in ("auto", pinned["dtype"]):
        session.reporter.warn(
            f"dtype {asked} instead of {pinned['dtype']}: this resume is not bit-exact"
        )
    else:
        world = replace(world, dtype=choose_dtype(pinned["dtype"], world.device))
    if pinned["world_size"] != world.size:
        session.reporter.warn(
            f"{world.size} processes instead of {pinned['world_size']}: same batches, "
            "sums in another order, so this resume is not bit-exact"
        )
    stage = replace(session.train_recipe, device_batch_tokens=pinned["device_batch_tokens"])
    sections: dict[str, Any] = {session.stage: stage}
    return replace(session, world=world, recipe=replace(recipe, **sections))


def _write_run_files(session: Session, plan: StagePlan) -> None:
    session.stage_dir.mkdir(parents=True, exist_ok=True)
    write_text(session.stage_dir / RECIPE_FILE, tomli_w.dumps(to_toml_document(session.recipe)))
    folder = session.home.run(session.run) / TOKENIZER_DIR
    if not folder.exists():
        plan.tokenizer.save(folder)
    elif Tokenizer.load(folder).fingerprint != plan.tokenizer.fingerprint:
        raise ConfigError(
            f"run `{session.run}` was begun with another tokenizer",
            hint="give `--run NAME` to begin a new run",
        )


def _open_logger(session: Session, resume_step: int | None) -> RunLogger | SilentLogger:
    if not session.world.is_main:
        return SilentLogger()
    sinks = session.make_sinks(session.stage_dir)
    return RunLogger(session.stage_dir, session.stage, resume_step=resume_step, sinks=sinks)
