"""The questions of a CORE task as tokens: examples, question, and the tokens that are scored.

The protocol is nanochat's `core_eval`, written anew: examples are drawn by the number of the
question, options are compared over the tokens in which they differ, and what does not fit the
context is cut at the start.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aquachat.eval.core_tasks import CoreItem, CoreTask, TaskKind
from aquachat.infer.scoring import Continuation, ScoringRequest
from aquachat.text.patterns import is_gpt4_family

FEWSHOT_SEED: Final = 1234
"""Plus the number of the question."""
EXAMPLE_END: Final = "\n\n"


class PromptTokenizer(Protocol):
    """What prompts need of a tokenizer."""

    @property
    def pattern(self) -> str:
        """How text is cut into pieces."""
        ...

    def encode_ordinary(self, text: str) -> list[int]:
        """Text -> ids."""
        ...

    def special_id(self, name: str) -> int:
        """The id of a special token."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A row of tokens, of which those from `start` on are scored."""

    tokens: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class CoreQuestion:
    """One question, ready to be scored: all continuations of all requests are its options."""

    requests: tuple[ScoringRequest, ...]
    num_tokens: int
    """Of the longest option with what comes before it, after cutting."""
    num_cut: int
    """Tokens cut from the start of the longest option; 0 where all fit."""


@dataclass(slots=True)
class PromptMaker:
    """Makes the questions of one task.

    Args:
        tokenizer: of the model.
        task: kind, delimiter and number of examples.
        items: all rows in the order of `read_items`; the first `num_asked` are asked.
        num_asked: examples come from these, or from all rows where these are too few.
        context_tokens: the longest row that the model takes.
    """

    tokenizer: PromptTokenizer
    task: CoreTask
    items: Sequence[CoreItem]
    num_asked: int
    context_tokens: int
    _examples: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Tokens of rows as examples: each is drawn several times."""

    def question(self, index: int) -> CoreQuestion:
        """Question number `index`."""
        spans = self.spans(index)
        num_cut = max(len(span.tokens) for span in spans) - self.context_tokens
        if num_cut > 0:
            spans = [_cut(span, self.context_tokens) for span in spans]
        longest = max(len(span.tokens) for span in spans)
        return CoreQuestion(_requests(spans), longest, max(0, num_cut))

    def spans(self, index: int) -> list[Span]:
        """The options of question `index` with the examples before them, uncut."""
        item, task = self.items[index], self.task
        examples = self.example_indexes(index)
        rows = self._encode(examples, item.texts(task.delimiter))
        if task.kind is TaskKind.SCHEMA:
            common = common_suffix(rows)
            return [Span(row, max(1, len(row) - common)) for row in rows]
        if task.kind is TaskKind.MULTIPLE_CHOICE:
            common = common_prefix(rows)
            return [Span(row, common) for row in rows]
        # A space at the end is part of the next token. Where the tokenizer merges more than that
        # across the end of the context, the merged token is scored.
        without = self._encode(examples, [(item.contexts[0] + task.delimiter).rstrip()])
        return [Span(rows[0], common_prefix([*without, *rows]))]

    def example_indexes(self, index: int) -> list[int]:
        """The rows shown before question `index`: drawn without it, by its number alone."""
        count = self.task.num_fewshot
        pool = self.num_asked if self.num_asked > count else len(self.items)
        drawn = random.Random(FEWSHOT_SEED + index).sample(range(pool - 1), count)
        return [place + (place >= index) for place in drawn]

    def _encode(self, examples: Sequence[int], texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Each text after the examples and the token that begins a document."""
        bos = self.tokenizer.special_id("<|bos|>")
        if self._can_join(examples, texts):
            head = (bos, *(token for index in examples for token in self._example(index)))
            return [(*head, *self.tokenizer.encode_ordinary(text)) for text in texts]
        before = "".join(self._example_text(index) for index in examples)
        return [(bos, *self.tokenizer.encode_ordinary(before + text)) for text in texts]

    def _can_join(self, examples: Sequence[int], texts: Sequence[str]) -> bool:
        """Whether the tokens of the whole are those of its parts, one after the other.

        With GPT-4's split pattern no piece crosses from a line's end to what is not a space.
        """
        starts = [self._example_text(index)[:1] for index in examples]
        starts += [text[:1] for text in texts]
        is_cut = all(start and not start.isspace() for start in starts[1:])
        return not examples or (is_cut and is_gpt4_family(self.tokenizer.pattern))

    def _example(self, index: int) -> tuple[int, ...]:
        if index not in self._examples:
            tokens = self.tokenizer.encode_ordinary(self._example_text(index))
            self._examples[index] = tuple(tokens)
        return self._examples[index]

    def _example_text(self, index: int) -> str:
        item = self.items[index]
        return item.texts(self.task.delimiter)[item.gold] + EXAMPLE_END


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with."""
    count = 0
    for tokens in zip(*rows, strict=False):
        if any(token != tokens[0] for token in tokens):
            break
        count += 1
    return count


def common_suffix(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows end with."""
    return common_prefix([row[::-1] for row in rows])


def _cut(span: Span, limit: int) -> Span:
    """The last `limit` tokens; the first of them has nothing before it, so it is not scored."""
    excess = max(0, len(span.tokens) - limit)
    return Span(span.tokens[excess:], max(1, span.start - excess) if excess else span.start)


def _requests(spans: Sequence[Span]) -> tuple[ScoringRequest, ...]:
    """One request where the options share their start, else one for each."""
    shared = min(common_prefix([span.tokens for span in spans]), *(s.start for s in spans))
    if shared:
        continuations = [Continuation(s.tokens[shared:], s.start - shared) for s in spans]
        return (ScoringRequest(spans[0].tokens[:shared], tuple(continuations)),)
    return tuple(
        ScoringRequest(span.tokens[:1], (Continuation(span.tokens[1:], span.start - 1),))
        for span in spans
    )
