"""Engines whose accuracy is known without a model, to check that the meter shows it.

An oracle must score 100%, one that always says the same letter exactly 20% over all five option
orders, one that guesses 20% within its interval. They stand in for `infer.engine.Engine`, so that
rendering, option orders, parsing, grading and statistics are all the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aquachat.infer.types import Completion, SamplingParams
from aquachat.tasks.base import Task
from aquachat.tasks.multiple_choice import choice_example, rotate
from aquachat.text.answer import answer_line
from aquachat.text.render import ChatRenderer, StopReason, TextTokenizer


class KnownEngine:
    """Answers each question of a task with what `choose` makes of its right answer.

    Example:
        KnownEngine(renderer, tokenizer, task, lambda gold: gold)   # an oracle
        KnownEngine(renderer, tokenizer, task, lambda gold: "A")    # always A
    """

    context_tokens = 1_000_000

    def __init__(
        self,
        renderer: ChatRenderer,
        tokenizer: TextTokenizer,
        task: Task,
        choose: Callable[[str], str],
    ) -> None:
        self._renderer, self._tokenizer = renderer, tokenizer
        self._choose = choose
        self._gold: dict[tuple[int, ...], str] = {}
        for index in range(len(task)):
            example = task[index]
            orders = [example]
            if (item := example.item) is not None:
                orders = [choice_example(rotate(item, by)) for by in range(len(item.options))]
            for each in orders:
                prompt = renderer.prompt(each.conversation.without_last())
                self._gold[tuple(prompt)] = each.answer

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        on_finished: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """A sentence and the answer line, `params.num_samples` times."""
        replies = [
            [
                self._reply(self._choose(self._gold[tuple(prompt)]))
                for _ in range(params.num_samples)
            ]
            for prompt in prompts
        ]
        if on_finished is not None:
            on_finished(len(prompts) * params.num_samples)
        return replies

    def next_logits(self, prompts: Sequence[Sequence[int]], candidates: Sequence[int]) -> Tensor:
        """3 for the chosen letter and 0 for the others."""
        logits = torch.zeros(len(prompts), len(candidates))
        prime = len(self._renderer.answer_prime())
        for line, prompt in zip(logits, prompts, strict=True):
            letter = self._choose(self._gold[tuple(prompt[:-prime])])
            (token,) = self._renderer.letter_ids([letter])
            line[list(candidates).index(token)] = 3.0
        return logits

    def _reply(self, answer: str) -> Completion:
        text = self._tokenizer.encode_ordinary(f"I think.\n{answer_line(answer)}")
        ids = (*text, self._renderer.assistant_end_id)
        return Completion(ids, (0.0,) * len(ids), (True,) * len(ids), StopReason.STOP)
