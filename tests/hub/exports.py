"""Small models in which no weight is zero, as checkpoints that can be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aquachat.model.gpt import GPT
from aquachat.paths import Home
from aquachat.text import Tokenizer
from aquachat.train.checkpoint import Checkpoint, save_checkpoint
from aquachat.train.lineage import LoadedModel, Origin, load_model
from tests.model.models import make_model
from tests.text.conftest import make_documents

VOCAB_SIZE = 600


def make_tokenizer() -> Tokenizer:
    return Tokenizer.train_from_iterator(make_documents(), VOCAB_SIZE)


def save_run(
    home: Home, tokenizer: Tokenizer, model: GPT, *, run: str = "mine", stage: str = "sft"
) -> Origin:
    """A run with one checkpoint at step 8, without having been trained."""
    tokenizer.save(home.run(run) / "tokenizer")
    state = {
        "stage": stage,
        "run": run,
        "model": model.config.to_json(),
        "tokenizer_fingerprint": tokenizer.fingerprint,
    }
    path = save_checkpoint(home.stage(run, stage), Checkpoint(8, model.state_dict(), {}, state))
    return Origin(path)


def make_loaded(
    folder: Path, tokenizer: Tokenizer, arch: str = "nanochat", **shape: Any
) -> LoadedModel:
    """A checkpoint in a home in `folder`, read back."""
    model = make_model(arch, **{"vocab_size": tokenizer.n_vocab, "max_seq_len": 256, **shape})
    origin = save_run(Home(folder / "home"), tokenizer, model)
    return load_model(origin, torch.device("cpu"))
