"""The training stages of a run, with the data and the evaluation that its recipe names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from aquachat.config.recipes import ChatRecipe
from aquachat.data.chat import MixturePart
from aquachat.data.conversations import TaskConversations, shuffled_options
from aquachat.errors import MissingFileError
from aquachat.eval.chat import EvalResult, evaluate_task
from aquachat.infer.engine import Engine, generation_dtype
from aquachat.model.gpt import GPT
from aquachat.pipeline.base_evaluation import core_hooks
from aquachat.pipeline.context import RunContext
from aquachat.pipeline.mixture_plan import many_epochs_warnings, plan_mixture
from aquachat.pipeline.mixtures import (
    DRILLS,
    SYNTHETIC,
    SyntheticConversations,
    make_parts,
    stretch_start,
)
from aquachat.rl.stage import run_rl
from aquachat.tasks.base import Example, Task
from aquachat.tasks.multiple_choice import choice_example
from aquachat.tasks.synthetic_task import synthetic_task
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer
from aquachat.train.hooks import Hook
from aquachat.train.loop import FitResult
from aquachat.train.stages import origin_of, run_base, run_chat_stage

VALIDATION_PROBLEMS = 200
"""Conversations of the mixture's own kind that `val/loss` is measured on."""


def train_stage(context: RunContext, stage: str) -> FitResult:
    """Run `base`, `mid`, `sft` or `rl`.

    Raises:
        AquachatError: data or weights are missing, or training cannot go on.
    """
    if stage == "base":
        return run_base(
            context.session("base"), _load_tokenizer(context), partial(core_hooks, context)
        )
    origin_of(context.session(stage))  # before data is read: no weights is what to say first
    if stage == "rl":
        return _train_rl(context)
    return _train_chat(context, stage)


def _load_tokenizer(context: RunContext) -> Tokenizer:
    tokenize = context.recipe.tokenize
    name = tokenize.tokenizer or tokenize.name
    folder = context.home.tokenizer(name)
    if not folder.is_dir():
        raise MissingFileError(
            f"there is no tokenizer `{name}`",
            hint="run `aquachat tokenize` with the same `--preset` first",
        )
    return Tokenizer.load(folder)


def _train_chat(context: RunContext, stage: str) -> FitResult:
    recipe = getattr(context.recipe, stage)
    assert isinstance(recipe, ChatRecipe)
    seed = context.recipe.run.seed

    def make_hooks(model: GPT, tokenizer: Tokenizer) -> Sequence[Hook]:
        world = context.world
        renderer = ChatRenderer(tokenizer)
        dtype = generation_dtype(model.config, world.device, world.dtype)
        engine = Engine(model, tokenizer, device=world.device, dtype=dtype)
        task = _training_eval_task(context, recipe)
        return [_accuracy_hook(context, recipe, task, engine, renderer)]

    def build_mixture() -> Sequence[MixturePart]:
        plan = plan_mixture(recipe, stage, context.folders)
        for warning in many_epochs_warnings(plan, stage):
            context.reporter.warn(warning)
        return make_parts(recipe, stage=stage, seed=seed, folders=context.folders)

    return run_chat_stage(
        context.session(stage),
        build_mixture,
        validation_conversations(context, recipe),
        make_hooks,
    )


def _training_eval_task(context: RunContext, recipe: ChatRecipe) -> Task:
    count = recipe.eval_examples
    if recipe.eval_task.upper() == "AQUA":
        count = min(count, recipe.aqua_val_examples)
    if recipe.eval_task.upper() == "SYNTHETIC":
        return synthetic_task(
            recipe.eval_split, seed=VALIDATION_SEED, count=count, tiers=recipe.synthetic_tiers
        )
    return context.folders.task(recipe.eval_task, recipe.eval_split or None, max_examples=count)


VALIDATION_SEED = 1
"""Problems watched while training; the final evaluation draws others (seed 0)."""


def validation_conversations(
    context: RunContext, recipe: ChatRecipe
) -> SyntheticConversations | TaskConversations | None:
    """What `val/loss` of a stage is measured on; None where its mixture has nothing for it."""
    if "aqua" in recipe.mixture:
        task = context.folders.task("AQUA", "validation", max_examples=recipe.aqua_val_examples)
        return TaskConversations(task, seed=0, shuffle_options=False, calculator=recipe.calculator)
    if SYNTHETIC in recipe.mixture or DRILLS in recipe.mixture:
        start = stretch_start("validation")
        return SyntheticConversations(
            VALIDATION_SEED, VALIDATION_PROBLEMS, start, dict(recipe.synthetic_tiers)
        )
    return None


def metric_name(task: Task) -> str:
    """`eval/aqua_accuracy` and the like."""
    return f"eval/{task.name.lower().replace('-', '_')}_accuracy"


def habit_metrics(result: EvalResult) -> dict[str, float]:
    """What replies look like, right or wrong; `eval/tool_success` only where there are calls."""
    found = {
        "eval/invalid_fraction": result.invalid,
        "eval/format_adherence": result.format_adherence,
        "eval/tool_use": result.tool_use,
        "eval/tool_success": result.tool_success,
    }
    return {name: value for name, value in found.items() if value is not None}


def _accuracy_hook(
    context: RunContext, recipe: ChatRecipe, task: Task, engine: Engine, renderer: ChatRenderer
) -> Hook:
    def measure(model: GPT, step: int) -> Mapping[str, float]:
        engine.refresh()
        result = evaluate_task(
            engine,
            renderer,
            task,
            protocol="generative",
            option_orders=1,
            max_new_tokens=recipe.eval_max_new_tokens,
            world=context.world,
        )
        return {metric_name(task): result.accuracy, **habit_metrics(result)}

    return Hook("accuracy", recipe.eval_every, measure)


def _train_rl(context: RunContext) -> FitResult:
    recipe, seed = context.recipe.rl, context.recipe.run.seed
    is_synthetic = recipe.task.upper() == "SYNTHETIC"
    if is_synthetic:
        count = recipe.prompts_per_step * recipe.num_iterations
        start = stretch_start("rl")
        task: Task = synthetic_task(
            "train", seed=seed, count=count, tiers=recipe.synthetic_tiers, start=start
        )
        watched: Task = synthetic_task(
            recipe.eval_split or "new_numbers",
            seed=VALIDATION_SEED,
            count=recipe.eval_examples,
            tiers=recipe.synthetic_tiers,
        )
    else:
        task = context.folders.task(recipe.task, "train", seed=seed)
        watched = context.folders.task(
            recipe.task, recipe.eval_split or None, max_examples=recipe.eval_examples
        )

    def example_at(index: int, epoch: int) -> Example:
        example = task[index]
        if example.item is None:
            return example
        return choice_example(shuffled_options(example.item, seed, epoch))

    def make_hooks(engine: Engine, renderer: ChatRenderer) -> Sequence[Hook]:
        def measure(model: GPT, step: int) -> Mapping[str, float]:
            engine.refresh()
            result = evaluate_task(
                engine,
                renderer,
                watched,
                protocol="generative",
                option_orders=1,
                max_new_tokens=recipe.max_new_tokens,
                world=context.world,
            )
            return {metric_name(watched): result.accuracy, **habit_metrics(result)}

        return [Hook("accuracy", recipe.eval_every, measure)]

    return run_rl(context.session("rl"), task, example_at, make_hooks)
