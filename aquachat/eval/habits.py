"""What a reply looks like, whether right or wrong: its answer line and its calculator calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aquachat.text.calculator import evaluate
from aquachat.text.conversation import Part, PartKind
from aquachat.text.render import ChatRenderer, StopReason

_ANSWER_START: Final = re.compile(r"[*_ \t]*Answer[*_ \t]*:")
_EXPRESSION: Final = re.compile(r"[-+*/().,0-9 \t]*[0-9][-+*/().,0-9 \t]*")


@dataclass(frozen=True, slots=True)
class CalculatorCall:
    """A call that was opened and closed and holds only what expressions are made of."""

    expression: str

    @property
    def is_executed(self) -> bool:
        """Whether the calculator can evaluate it: `1/0` and `2+` it cannot."""
        return evaluate(self.expression) is not None


def is_well_formed(reply: str, finish: StopReason, answer: str | None) -> bool:
    r"""Whether a reply ends by itself in exactly one answer line, with a valid answer.

    Args:
        reply: its text, calculator calls left out.
        finish: why it ended.
        answer: what was read from it, None where that is no valid answer.

    Example:
        is_well_formed("4 km B\nAnswer: B", StopReason.STOP, "B")           # True
        is_well_formed("Answer: B\nAnswer: B", StopReason.STOP, "B")        # False
        is_well_formed("Answer: B\nso it is.", StopReason.STOP, "B")        # False
    """
    lines = [line for line in reply.split("\n") if line.strip()]
    starts = [_ANSWER_START.match(line) is not None for line in lines]
    return (
        finish is StopReason.STOP and answer is not None and sum(starts) == 1 and bool(starts[-1])
    )


def calculator_calls(
    renderer: ChatRenderer, tokens: Sequence[int], parts: Sequence[Part]
) -> list[CalculatorCall]:
    """The well-formed calls of a reply.

    Args:
        renderer: names the tokens that open and close a call.
        tokens: of the reply.
        parts: what the renderer reads in them.
    """
    bodies = [part.text for part in parts if part.kind is PartKind.PYTHON]
    # Parts do not tell whether the last call was closed; what came before it was.
    if parts and parts[-1].kind is PartKind.PYTHON:
        opened = _last_place(tokens, renderer.python_start_id)
        if _last_place(tokens, renderer.python_end_id) < opened:
            bodies.pop()
    return [CalculatorCall(body) for body in bodies if _EXPRESSION.fullmatch(body)]


def _last_place(tokens: Sequence[int], token: int) -> int:
    return max((place for place, found in enumerate(tokens) if found == token), default=-1)
