"""Engines that answer without a model, to check the meter itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from aquachat.eval.meter import KnownEngine
from aquachat.tasks.base import ChoiceItem, Task
from aquachat.tasks.choice_task import ChoiceTask
from aquachat.text.render import ChatRenderer
from tests.data.byte_tokenizer import byte_tokenizer

LETTERS = "ABCDE"


class LetterTokenizer:
    """Bytes, and one token for each letter with a space before it."""

    def __init__(self) -> None:
        self._bytes = byte_tokenizer()
        self._letters = {f" {c}": self._bytes.n_vocab + i for i, c in enumerate(LETTERS)}

    def encode_ordinary(self, text: str) -> list[int]:
        return self._bytes.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._bytes.decode(ids)

    def special_id(self, name: str) -> int:
        return self._bytes.special_id(name)

    def single_token_id(self, text: str) -> int | None:
        return self._letters.get(text)


TOKENIZER = LetterTokenizer()
RENDERER = ChatRenderer(TOKENIZER)


class AnsweringEngine(KnownEngine):
    """Replies with a letter that a function of the gold letter chooses."""

    context_tokens = 10_000

    def __init__(self, task: Task, choose: Callable[[str], str]) -> None:
        super().__init__(RENDERER, TOKENIZER, task, choose)


def make_task(count: int = 40, seed: int = 0) -> ChoiceTask:
    """Items with uneven gold letters, families, tiers and steps."""
    rng = random.Random(seed)
    items = []
    for index in range(count):
        options = tuple(str(value) for value in rng.sample(range(1000), 5))
        items.append(
            ChoiceItem(
                id=f"made/{index}",
                question=f"Which is it, {index}?",
                options=options,
                answer_index=rng.choice([0, 0, 0, 2, 4]),
                attributes={
                    "family": f"f{index % 3}",
                    "tier": "easy" if index % 2 else "hard",
                    "num_steps": 1 + index % 4,
                },
            )
        )
    return ChoiceTask("MADE", "test", items)
