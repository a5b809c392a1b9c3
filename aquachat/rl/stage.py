"""The reinforcement learning stage: from a finished SFT to a policy trained on its own replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aquachat.errors import DataError
from aquachat.infer.engine import Engine, generation_dtype
from aquachat.rl.grpo import PolicyGradient
from aquachat.rl.rollout import ExampleAt, Rollout, RolloutSource
from aquachat.tasks.base import Task
from aquachat.text.render import ChatRenderer
from aquachat.track.logger import SilentLogger, StageLogger
from aquachat.train.hooks import Hook
from aquachat.train.loop import FitResult
from aquachat.train.schedule import make_schedule
from aquachat.train.session import Session, StagePlan, open_stage, run_stage
from aquachat.train.stages import open_origin

MakeHooks = Callable[[Engine, ChatRenderer], Sequence[Hook]]


@dataclass(slots=True)
class _SampleLog:
    """Writes the first rollouts of each step to `samples.jsonl` once the stage's logger is open."""

    limit: int
    logger: StageLogger

    def use(self, logger: StageLogger) -> None:
        self.logger = logger

    def __call__(self, step: int, rollouts: Sequence[Rollout]) -> None:
        self.logger.log_samples(step + 1, [_sample(r) for r in rollouts[: self.limit]])


def run_rl(session: Session, task: Task, example_at: ExampleAt, make_hooks: MakeHooks) -> FitResult:
    """Train with GRPO on the questions of `task`.

    Args:
        session: the stage as it was asked for.
        task: grades replies; its length is an epoch of questions.
        example_at: the question at an index in an epoch, its options reshuffled per epoch.
        make_hooks: evaluation during training, given the engine that also makes the rollouts.

    Raises:
        MissingFileError: there is no model to start from.
        DataError: the task has no question, or its letters are no single tokens.
    """
    session = open_stage(session)
    if len(task) == 0:
        raise DataError(f"task {task.name} has no question to train on", hint="prepare its data")
    recipe = session.recipe.rl
    loaded = open_origin(session)
    renderer = ChatRenderer(loaded.tokenizer)
    device = session.world.device
    dtype = generation_dtype(loaded.model.config, device, session.world.dtype)
    engine = Engine(loaded.model, loaded.tokenizer, device=device, dtype=dtype)
    samples = _SampleLog(recipe.log_samples, SilentLogger())
    source = RolloutSource(
        task=task,
        example_at=example_at,
        engine=engine,
        renderer=renderer,
        recipe=recipe,
        world=session.world,
        seed=session.recipe.run.seed,
        on_rollouts=samples,
    )
    plan = StagePlan(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        source=source,
        objective=PolicyGradient(recipe.epsilon, recipe.epsilon_high, recipe.temperature),
        schedule=make_schedule(recipe, num_steps=recipe.num_iterations),
        hooks=make_hooks(engine, renderer),
        origin=loaded.origin,
        step_metrics=source.metrics,
        use_logger=samples.use,
    )
    return run_stage(session, plan)


def _sample(rollout: Rollout) -> Mapping[str, Any]:
    return {
        "id": rollout.example.id,
        "prompt": rollout.example.conversation.messages[0].text,
        "text": rollout.text,
        "answer": rollout.grade.answer,
        "gold": rollout.example.answer,
        "reward": rollout.grade.reward,
        "advantage": rollout.advantage,
        "num_tokens": len(rollout.completion.tokens),
        "finish": str(rollout.completion.finish),
    }
