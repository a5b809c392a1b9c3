"""What is measured of a model without a chat format: CORE and bits per byte, of any checkpoint."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aquachat.data.corpus import Corpus, CorpusSplit
from aquachat.data.loader import validation_batches
from aquachat.data.retokenized import retokenized_batches
from aquachat.errors import ConfigError, MissingFileError
from aquachat.eval.centred import CentredScore
from aquachat.eval.core import CoreResult, evaluate_core
from aquachat.eval.core_tasks import TASKS_FILE
from aquachat.eval.lm import TextLoss, bits_per_byte
from aquachat.eval.results import EvalResult
from aquachat.infer.scoring import ContinuationScorer
from aquachat.model.gpt import GPT
from aquachat.pipeline.context import RunContext
from aquachat.text.tokenizer import Tokenizer
from aquachat.train.hooks import Hook
from aquachat.train.lineage import TOKENIZER_DIR, Origin, load_model

CORE_DATASET: Final = "core"
BPB_PROTOCOL: Final = "bpb"
BPB_SPLITS: Final[Mapping[str, tuple[CorpusSplit, str]]] = {
    "validation": ("validation", "val/bpb"),
    "train": ("train", "train/bpb"),
}
"""What follows `BPB/`, and the metric."""

Describe = Callable[[str], None]
"""Told what is being measured."""


@dataclass(slots=True)
class BaseMeasures:
    """What one checkpoint came to."""

    results: list[EvalResult] = field(default_factory=list)
    """One for each task of CORE: task `CORE`, the label as its split, protocol `core`."""
    losses: list[dict[str, Any]] = field(default_factory=list)
    """Bits per byte, as entries of `results`; they have no accuracy."""
    scores: list[CentredScore] = field(default_factory=list)
    """CORE, where all of it was asked for."""


def measure_base(
    context: RunContext, origin: Origin, references: Sequence[str], describe: Describe
) -> BaseMeasures:
    """Measure a checkpoint by each of `references`: `CORE`, `CORE/copa`, `BPB`, `BPB/train`.

    Raises:
        MissingFileError: CORE is not prepared, or there is no corpus.
        DataError: a file cannot be used.
        ConfigError: a part has no such name.
    """
    loaded = load_model(origin, context.world.device)
    measured = BaseMeasures()
    for reference in references:
        name, _, part = reference.partition("/")
        if name.upper() == "CORE":
            found = _core(context, loaded.model, loaded.tokenizer, part, describe)
            measured.results += [each.result for each in found.tasks]
            if not part:
                measured.scores.append(found.score)
        else:
            describe(f"BPB/{part or 'validation'}")
            measured.losses.append(_bits(context, loaded.model, loaded.tokenizer, part))
    return measured


def core_hooks(context: RunContext, model: GPT, tokenizer: Tokenizer) -> Sequence[Hook]:
    """CORE as base training goes, as often as the recipe asks for; warns where it cannot be had."""
    recipe = context.recipe.base
    if recipe.core_examples <= 0:
        return ()
    folder = context.home.data(CORE_DATASET)
    if not (folder / TASKS_FILE).is_file():
        context.reporter.warn(
            "CORE is not prepared, so base training does not measure it; `aquachat prepare core` "
            "makes it ready, `--set base.core_examples=0` leaves it out"
        )
        return ()

    def measure(model: GPT, step: int) -> Mapping[str, float]:
        found = evaluate_core(
            _scorer(context, model),
            tokenizer,
            folder,
            max_examples=recipe.core_examples,
            world=context.world,
        )
        return found.score.metrics()

    return [Hook("CORE", recipe.core_every, measure)]


def _scorer(context: RunContext, model: GPT) -> ContinuationScorer:
    return ContinuationScorer(model, device=context.world.device, dtype=context.world.dtype)


def _core(
    context: RunContext, model: GPT, tokenizer: Tokenizer, label: str, describe: Describe
) -> CoreResult:
    def report(task: str, done: int, total: int) -> None:
        describe(f"CORE/{task}, {done:,} of {total:,}")

    return evaluate_core(
        _scorer(context, model),
        tokenizer,
        context.home.data(CORE_DATASET),
        label=label or None,
        max_examples=context.recipe.eval.max_examples or None,
        world=context.world,
        progress=report,
    )


def _bits(context: RunContext, model: GPT, tokenizer: Tokenizer, part: str) -> dict[str, Any]:
    """An entry of `results` without stage and checkpoint."""
    started = time.perf_counter()
    name = part or "validation"
    if name not in BPB_SPLITS:
        closest = difflib.get_close_matches(name, BPB_SPLITS, n=1, cutoff=0.0)
        raise ConfigError(
            f"bits per byte have no split `{name}`", hint=f"did you mean `--task BPB/{closest[0]}`?"
        )
    split, metric = BPB_SPLITS[name]
    loss = _text_loss(context, model, tokenizer, split)
    return {
        "task": "BPB",
        "split": name,
        "protocol": BPB_PROTOCOL,
        **loss.to_json(),
        "metrics": {metric: loss.bits_per_byte},
        "seconds": time.perf_counter() - started,
    }


def _text_loss(
    context: RunContext, model: GPT, tokenizer: Tokenizer, split: CorpusSplit
) -> TextLoss:
    """As `val/bpb` is measured in base training: the same rows of the same text.

    A model of another vocabulary reads the same text in its own tokens.
    """
    recipe, world = context.recipe.base, context.world
    if not recipe.corpus:
        raise MissingFileError(
            f"run `{context.run}` names no corpus to measure bits per byte on",
            hint="name one with `--set base.corpus=NAME`; `aquachat tokenize` makes it",
        )
    directory = context.home.corpus(recipe.corpus)
    corpus = Corpus.open(directory, split)
    seq_len = min(recipe.seq_len, model.config.max_seq_len)
    shape: dict[str, Any] = {
        "seq_len": seq_len,
        "device_batch_size": max(1, recipe.device_batch_tokens // seq_len),
        "max_tokens": recipe.eval_tokens or None,
        "rank": world.rank,
        "world_size": world.size,
        "device": world.device,
    }
    if corpus.tokenizer_fingerprint == tokenizer.fingerprint:
        batches = validation_batches(corpus, **shape)
    else:
        writer = _tokenizer_of(context, corpus)
        batches = retokenized_batches(
            corpus, writer, tokenizer, source_seq_len=recipe.seq_len, **shape
        )
    return bits_per_byte(model, batches, tokenizer.token_bytes(), world)


def _tokenizer_of(context: RunContext, corpus: Corpus) -> Tokenizer:
    """The tokenizer that wrote a corpus: the run's own, or the one of the corpus's name."""
    tokenize = context.recipe.tokenize
    named = tokenize.tokenizer or tokenize.name or context.recipe.base.corpus
    for folder in (context.home.run(context.run) / TOKENIZER_DIR, context.home.tokenizer(named)):
        if folder.is_dir():
            found = Tokenizer.load(folder)
            if found.fingerprint == corpus.tokenizer_fingerprint:
                return found
    raise MissingFileError(
        f"the tokenizer {corpus.tokenizer_fingerprint[:12]} that wrote `{corpus.directory}` is not "
        "here, so its text cannot be read",
        hint="write the corpus again with `aquachat tokenize`",
    )
