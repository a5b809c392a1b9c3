"""Engines that answer without a model, to check the meter itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch

from aquachat.infer.types import Completion, SamplingParams
from aquachat.tasks.base import ChoiceItem, Task
from aquachat.tasks.choice_task import ChoiceTask
from aquachat.tasks.multiple_choice import choice_example, rotate
from aquachat.text.render import ChatRenderer, StopReason
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


class AnsweringEngine:
    """Replies with a letter that a function of the gold letter chooses."""

    context_tokens = 10_000

    def __init__(self, task: Task, choose: Callable[[str], str]) -> None:
        self._choose = choose
        self._gold: dict[tuple[int, ...], str] = {}
        for index in range(len(task)):
            example = task[index]
            item = example.item
            turned = (
                [choice_example(rotate(item, by)) for by in range(len(item.options))]
                if item is not None
                else [example]
            )
            for each in turned:
                prompt = RENDERER.prompt(each.conversation.without_last())
                self._gold[tuple(prompt)] = each.answer

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        on_finished: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        replies = []
        for prompt in prompts:
            answers = [self._choose(self._gold[tuple(prompt)]) for _ in range(params.num_samples)]
            replies.append([self._completion(answer) for answer in answers])
        if on_finished is not None:
            on_finished(len(prompts) * params.num_samples)
        return replies

    def _completion(self, answer: str) -> Completion:
        text = TOKENIZER.encode_ordinary(f"I think.\nAnswer: {answer}")
        ids = (*text, RENDERER.assistant_end_id)
        ones = (0.0,) * len(ids)
        return Completion(ids, ones, (True,) * len(ids), StopReason.STOP)

    def next_logits(
        self, prompts: Sequence[Sequence[int]], candidates: Sequence[int]
    ) -> torch.Tensor:
        logits = torch.zeros(len(prompts), len(candidates))
        prime = len(RENDERER.answer_prime())
        for line, prompt in zip(logits, prompts, strict=True):
            answer = self._choose(self._gold[tuple(prompt[:-prime])])
            line[list(candidates).index(TOKENIZER.single_token_id(f" {answer}"))] = 3.0
        return logits


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
