"""What the engine knows of the tokens: which end a reply, and how a calculator call is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aquachat.text.calculator import evaluate
from aquachat.text.render import (
    ASSISTANT_END,
    ASSISTANT_START,
    BOS,
    OUTPUT_END,
    OUTPUT_START,
    PYTHON_END,
    PYTHON_START,
    USER_END,
    USER_START,
    TextTokenizer,
)

MAX_REMEMBERED_CALLS: Final = 100_000


@dataclass(slots=True)
class Calculator:
    """Answers calculator calls with the tokens to force into a reply."""

    tokenizer: TextTokenizer
    start_id: int
    end_id: int
    output_start_id: int
    output_end_id: int
    _remembered: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)

    def forced_tokens(self, reply: Sequence[int]) -> tuple[int, ...]:
        """What follows a reply that ends with `<|python_end|>`.

        Empty where no call is open, or where the calculator cannot evaluate it: then nothing is
        forced, the model goes on by itself, and `ChatRenderer.parse` shows a call without a result.
        """
        body = len(reply) - 1
        start = body - 1
        while start >= 0 and reply[start] not in (self.start_id, self.end_id):
            start -= 1
        if start < 0 or reply[start] != self.start_id:
            return ()
        call = tuple(reply[start + 1 : body])
        if call not in self._remembered:
            if len(self._remembered) >= MAX_REMEMBERED_CALLS:
                self._remembered.clear()
            self._remembered[call] = self._answer(call)
        return self._remembered[call]

    def _answer(self, call: tuple[int, ...]) -> tuple[int, ...]:
        result = evaluate(self.tokenizer.decode(call))
        if result is None:
            return ()
        ids = self.tokenizer.encode_ordinary(result)
        return (self.output_start_id, *ids, self.output_end_id)


@dataclass(frozen=True, slots=True)
class ChatVocabulary:
    """The special tokens that generation obeys."""

    stop_ids: tuple[int, ...]
    """End a reply well: `<|assistant_end|>`."""
    misplaced_ids: tuple[int, ...]
    """End a reply as malformed: nothing after them would be read."""
    calculator: Calculator | None

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> ChatVocabulary:
        """The special tokens of a chat tokenizer."""
        special = tokenizer.special_id
        return cls(
            stop_ids=(special(ASSISTANT_END),),
            misplaced_ids=tuple(map(special, (BOS, USER_START, USER_END, ASSISTANT_START))),
            calculator=Calculator(
                tokenizer,
                start_id=special(PYTHON_START),
                end_id=special(PYTHON_END),
                output_start_id=special(OUTPUT_START),
                output_end_id=special(OUTPUT_END),
            ),
        )
