from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aquachat.infer.engine import Engine
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.text.tokenizer import Tokenizer
from tests.data.byte_tokenizer import byte_tokenizer
from tests.model.models import make_model

TOKENIZER: Tokenizer = byte_tokenizer()
VOCAB_SIZE = TOKENIZER.n_vocab
CPU = torch.device("cpu")


def make_engine(model: GPT, **options: Any) -> Engine:
    return Engine(model, TOKENIZER, **{"device": CPU, "dtype": torch.float32, **options})


def chat_model(arch: str = "nanochat", **shape: Any) -> GPT:
    return make_model(arch, **{"vocab_size": VOCAB_SIZE, "max_seq_len": 96, **shape})


def make_prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(256, (length,), generator=generator).tolist() for length in lengths]


@torch.no_grad()
def full_logits(model: GPT, tokens: Sequence[int]) -> Tensor:
    """(T, V) by a forward without a cache."""
    return model.logits(model(torch.tensor([list(tokens)]), compute_dtype=torch.float32)[0])


class ScriptedModel:
    """Stands in for a `GPT`: the token at each position is given, whatever came before.

    Notes the shape of the tokens of each forward.
    """

    def __init__(self, script: Sequence[int], *, max_seq_len: int = 200) -> None:
        self.config = GPTConfig(
            vocab_size=VOCAB_SIZE,
            num_layers=1,
            hidden_size=4,
            num_heads=2,
            num_kv_heads=2,
            max_seq_len=max_seq_len,
        )
        self.script = torch.tensor([*script, *[ord("x")] * max_seq_len])
        self.shapes: list[tuple[int, ...]] = []

    def __call__(
        self,
        tokens: Tensor,
        *,
        cache: Any,
        compute_dtype: torch.dtype,
        places: Tensor | None = None,
    ) -> Tensor:
        self.shapes.append(tuple(tokens.shape))
        wanted = self.script[cache.positions + 1]
        if places is not None:
            wanted = wanted[torch.arange(len(places)), places]
        return torch.nn.functional.one_hot(wanted, VOCAB_SIZE).float()

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden * 100.0
