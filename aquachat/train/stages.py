"""Base, mid and SFT: what each gives to the loop. RL is `aquachat.rl.stage`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

import torch

from aquachat.config.recipes import BaseRecipe, ChatRecipe
from aquachat.data.chat import ChatSource, ConversationDataset, MixturePart, conversation_batches
from aquachat.data.corpus import Corpus
from aquachat.data.loader import TextSource, validation_batches
from aquachat.data.packing import TrainOn
from aquachat.errors import ConfigError
from aquachat.files import write_json
from aquachat.model.batch import Batch
from aquachat.model.gpt import GPT
from aquachat.model.losses import cross_entropy_sum
from aquachat.model.scaling import base_iterations, config_for
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer
from aquachat.track.runs import MIXTURE_FILE
from aquachat.train.hooks import Hook
from aquachat.train.lineage import LoadedModel, Origin, default_origin, find_origin, load_model
from aquachat.train.loop import FitResult
from aquachat.train.objective import NextToken
from aquachat.train.schedule import chat_steps, make_schedule
from aquachat.train.session import Session, StagePlan, open_stage, run_stage
from aquachat.world import World

MakeHooks = Callable[[GPT, Tokenizer], Sequence[Hook]]
"""Evaluation that a stage asks for; given here because the loop knows neither tasks nor eval."""


def run_base(session: Session, tokenizer: Tokenizer, make_hooks: MakeHooks) -> FitResult:
    """Train a new model on a corpus of token shards.

    Raises:
        MissingFileError: the corpus is not there.
        ConfigError: the shape, batch or horizon cannot be used.
    """
    session = open_stage(session)
    recipe, world = session.recipe.base, session.world
    directory = session.home.corpus(recipe.corpus)
    corpus = Corpus.open(directory, "train", tokenizer_fingerprint=tokenizer.fingerprint)
    held_out = Corpus.open(directory, "validation", tokenizer_fingerprint=tokenizer.fingerprint)
    model = new_model(session, tokenizer)
    num_steps = recipe.num_iterations or base_iterations(
        model.num_parameters(), recipe.tokens_per_parameter, recipe.tokens_per_step
    )
    rows = max(1, recipe.device_batch_tokens // recipe.seq_len)
    source = TextSource(
        corpus,
        tokens_per_step=recipe.tokens_per_step,
        seq_len=recipe.seq_len,
        device_batch_size=rows,
        seed=session.recipe.run.seed,
        rank=world.rank,
        world_size=world.size,
        device=world.device,
        packing=recipe.packing,
        document_mask=recipe.document_mask,
        mixture=recipe.mixture,
    )
    bits = _bits_per_byte_hook(recipe, held_out, tokenizer, world, rows)
    plan = StagePlan(
        model=model,
        tokenizer=tokenizer,
        source=source,
        objective=NextToken(),
        schedule=make_schedule(recipe, num_steps=num_steps),
        hooks=[bits, _source_use_hook(recipe, source), *make_hooks(model, tokenizer)],
        step_metrics=source.step_metrics,
    )
    try:
        return run_stage(session, plan)
    finally:
        source.close()


def run_chat_stage(
    session: Session,
    make_parts: Callable[[], Sequence[MixturePart]],
    validation: ConversationDataset | None,
    make_hooks: MakeHooks,
) -> FitResult:
    """Mid-training or SFT: train the model of an earlier stage on conversations.

    Args:
        session: the stage as it was asked for.
        make_parts: builds the mixture, once it is clear that the stage may start.
        validation: conversations for `val/loss`; None for none.
        make_hooks: see `MakeHooks`.

    Raises:
        MissingFileError: there are no weights to start from.
        ConfigError: the mixture, batch or horizon cannot be used.
    """
    session = open_stage(session)
    recipe, world = session.train_recipe, session.world
    assert isinstance(recipe, ChatRecipe)
    loaded = open_origin(session)
    renderer = ChatRenderer(loaded.tokenizer)
    train_on: TrainOn = "all" if recipe.train_on == "all" else "assistant"
    source = ChatSource(
        make_parts(),
        renderer,
        examples_per_step=recipe.examples_per_step,
        max_tokens=min(recipe.max_tokens, loaded.model.config.max_seq_len),
        device_batch_tokens=recipe.device_batch_tokens,
        seed=session.recipe.run.seed,
        rank=world.rank,
        world_size=world.size,
        device=world.device,
        train_on=train_on,
        gather=world.gather_objects,
    )
    num_steps = chat_steps(recipe, source.mixture.epoch_examples())
    hooks = list(make_hooks(loaded.model, loaded.tokenizer))
    if validation is not None:
        hooks.insert(0, _chat_loss_hook(recipe, validation, renderer, world))
    plan = StagePlan(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        source=source,
        objective=NextToken(),
        schedule=make_schedule(recipe, num_steps=num_steps),
        hooks=hooks,
        origin=loaded.origin,
    )
    try:
        result = run_stage(session, plan)
        _write_mixture(session, source, result.step)
    finally:
        source.close()
    return result


def _write_mixture(session: Session, source: ChatSource, num_steps: int) -> None:
    """Write what the stage took from each source to `mixture.json`; all processes call this."""
    taken, tokens = source.accounting(num_steps), source.token_accounting(num_steps)
    if not session.world.is_main:
        return
    sources = [
        {
            "source": name,
            "rows": size,
            "taken": use.examples,
            "share": use.share,
            "epochs": use.epochs,
            **asdict(tokens[name]),
        }
        for (name, use), size in zip(taken.items(), source.mixture.sizes, strict=True)
    ]
    document = {"stage": session.stage, "steps": num_steps, "sources": sources}
    write_json(session.stage_dir / MIXTURE_FILE, document)


def new_model(session: Session, tokenizer: Tokenizer) -> GPT:
    """A freshly initialised model of the recipe's shape, the same for the same seed."""
    config = config_for(session.recipe.model, vocab_size=tokenizer.n_vocab)
    if session.recipe.base.seq_len > config.max_seq_len:
        raise ConfigError(
            f"rows of {session.recipe.base.seq_len} tokens do not fit the model's context of "
            f"{config.max_seq_len}",
            hint="lower `--seq-len`, or raise `model.max_seq_len`",
        )
    model = GPT(config)
    model.init_weights(seed=session.recipe.run.seed)
    return model.to(session.world.device)


def origin_of(session: Session) -> Origin:
    """The checkpoint a later stage starts from.

    Raises:
        MissingFileError: there is none; the hint names the stage that makes it.
    """
    if session.origin:
        return find_origin(session.origin, session.home, session.run)
    return default_origin(session.stage, session.home, session.run)


def open_origin(session: Session) -> LoadedModel:
    """The weights a later stage starts from, as `--from` says or from the stage before.

    Raises:
        MissingFileError: there are none.
        ConfigError: `--depth` asks for another depth than they have.
    """
    origin = origin_of(session)
    loaded = load_model(origin, session.world.device)
    found = loaded.model.config.num_layers
    if session.depth not in (None, found):
        raise ConfigError(
            f"`{origin.path}` has depth {found}, not {session.depth}",
            hint="leave `--depth` out, or name weights of that depth with `--from`",
        )
    return loaded


@torch.no_grad()
def mean_loss(model: GPT, batches: Iterable[Batch], world: World) -> float:
    """Cross-entropy in nats per target over all processes; nan where there is no target."""
    total, count = torch.zeros((), device=world.device), 0
    for batch in batches:
        hidden = model(batch.inputs, segments=batch.segments, compute_dtype=world.dtype)
        total += cross_entropy_sum(model, hidden, batch.targets)
        count += batch.num_targets
    nats, targets = world.sum_scalars(float(total), float(count))
    return nats / targets if targets else math.nan


def _bits_per_byte_hook(
    recipe: BaseRecipe, held_out: Corpus, tokenizer: Tokenizer, world: World, rows: int
) -> Hook:
    from aquachat.eval.lm import bits_per_byte

    def measure(model: GPT, step: int) -> Mapping[str, float]:
        batches = validation_batches(
            held_out,
            seq_len=recipe.seq_len,
            device_batch_size=rows,
            max_tokens=recipe.eval_tokens or None,
            rank=world.rank,
            world_size=world.size,
            device=world.device,
            document_mask=recipe.document_mask,
        )
        result = bits_per_byte(model, batches, tokenizer.token_bytes(), world)
        return {"val/bpb": result.bits_per_byte, "val/loss": result.nats_per_token}

    return Hook("bits per byte", recipe.eval_every, measure)


def _source_use_hook(recipe: BaseRecipe, source: TextSource) -> Hook:
    """Logs what was taken from each source of the corpus, counted exactly."""

    def measure(model: GPT, step: int) -> Mapping[str, float]:
        metrics: dict[str, float] = {}
        for name, use in source.accounting(step).items():
            metrics[f"data/tokens/{name}"] = use.tokens
            metrics[f"data/epochs/{name}"] = use.epochs
        return metrics

    return Hook("source use", recipe.eval_every, measure)


def _chat_loss_hook(
    recipe: ChatRecipe, validation: ConversationDataset, renderer: ChatRenderer, world: World
) -> Hook:
    def measure(model: GPT, step: int) -> Mapping[str, float]:
        batches = conversation_batches(
            validation,
            renderer,
            max_tokens=min(recipe.max_tokens, model.config.max_seq_len),
            device_batch_tokens=recipe.device_batch_tokens,
            rank=world.rank,
            world_size=world.size,
            device=world.device,
        )
        return {"val/loss": mean_loss(model, batches, world)}

    return Hook("validation loss", recipe.eval_every, measure)
