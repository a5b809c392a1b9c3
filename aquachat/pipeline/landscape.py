"""`aquachat report --landscape`: the loss around a run's final weights, on a fixed small batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Final

from aquachat.data.chat import conversation_batches
from aquachat.data.corpus import Corpus
from aquachat.data.loader import validation_batches
from aquachat.errors import MissingFileError
from aquachat.model.batch import Batch
from aquachat.pipeline.context import RunContext
from aquachat.pipeline.progress import ProgressBar
from aquachat.pipeline.training import validation_conversations
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer
from aquachat.track.surface import Landscape, write_landscape
from aquachat.train.checkpoint import latest_checkpoint, list_checkpoints
from aquachat.train.landscape import num_losses, random_surface, trajectory_surface
from aquachat.train.lineage import STAGES, LoadedModel, Origin, load_model
from aquachat.train.stages import mean_loss

MAX_EXAMPLES: Final = 8
"""Conversations of the batch, the first of those that `val/loss` is measured on."""
MAX_TEXT_TOKENS: Final = 1024
"""Of the batch for a model that has seen base training only."""


def measure_landscape(context: RunContext, progress: ProgressBar) -> Landscape:
    """Measure both surfaces, and write them to `landscape.json` of the run.

    The plain cross-entropy, on held-out conversations of the SFT mixture where the run has come
    that far, else on held-out text: also after reinforcement learning, whose own loss says nothing
    about a point away from the policy.

    Raises:
        MissingFileError: the run has no checkpoint, or its held-out data is gone.
        DataError: a checkpoint is damaged.
    """
    began = time.perf_counter()
    final = _final(context)
    loaded = load_model(final, context.world.device)
    loaded.model.eval()
    data, batches = _batches(context, loaded)
    checkpoints = {
        Origin(path).name: path
        for stage in STAGES[: STAGES.index(final.stage) + 1]
        for path in list_checkpoints(context.home.stage(context.run, stage))
    }
    checkpoints = {name: path for name, path in checkpoints.items() if name != final.name}
    checkpoints[final.name] = final.path
    measure = partial(mean_loss, loaded.model, batches, context.world)
    first = time.perf_counter()
    measure()
    each_s, count = time.perf_counter() - first, num_losses(len(checkpoints))
    targets = sum(batch.num_targets for batch in batches)
    context.reporter.note(
        f"landscape: {count} losses on {targets:,} targets of {data}, about {each_s * count:.0f} s"
    )
    progress.update(completed=0, total=count, description="landscape")
    done = iter(range(1, count + 1))

    def advance() -> None:
        progress.update(completed=next(done), total=count)

    seed = context.recipe.run.seed
    surfaces = [random_surface(loaded.model, measure, seed=seed, advance=advance)]
    trajectory = trajectory_surface(loaded.model, checkpoints, measure, advance)
    surfaces += [trajectory] if trajectory is not None else []
    seconds = round(time.perf_counter() - began, 2)
    landscape = Landscape(final.name, data, targets, count, seconds, seed, surfaces)
    write_landscape(context.home.run(context.run), landscape)
    return landscape


def _final(context: RunContext) -> Origin:
    for stage in reversed(STAGES):
        path = latest_checkpoint(context.home.stage(context.run, stage))
        if path is not None:
            return Origin(path)
    raise MissingFileError(
        f"run `{context.run}` has no checkpoint to look around",
        hint=f"train it first: `aquachat train base --run {context.run}`",
    )


def _batches(context: RunContext, loaded: LoadedModel) -> tuple[str, Sequence[Batch]]:
    """The fixed batch, on the device, and what it is in words."""
    recipe, device = context.recipe, context.world.device
    stage = loaded.origin.stage
    chat = recipe.mid if stage == "mid" else recipe.sft
    conversations = None if stage == "base" else validation_conversations(context, chat)
    if conversations is not None:
        batches = conversation_batches(
            conversations,
            ChatRenderer(loaded.tokenizer),
            max_tokens=min(chat.max_tokens, loaded.model.config.max_seq_len),
            device_batch_tokens=chat.device_batch_tokens,
            max_examples=MAX_EXAMPLES,
            device=device,
        )
        return "held-out conversations", list(batches)
    return "held-out text", _text(context, loaded.tokenizer)


def _text(context: RunContext, tokenizer: Tokenizer) -> list[Batch]:
    recipe = context.recipe.base
    name = recipe.corpus or context.recipe.tokenize.name
    held_out = Corpus.open(
        context.home.corpus(name), "validation", tokenizer_fingerprint=tokenizer.fingerprint
    )
    batches = validation_batches(
        held_out,
        seq_len=min(recipe.seq_len, MAX_TEXT_TOKENS),
        device_batch_size=max(1, MAX_TEXT_TOKENS // recipe.seq_len),
        max_tokens=MAX_TEXT_TOKENS,
        device=context.world.device,
        document_mask=recipe.document_mask,
    )
    return list(islice(batches, 1))
