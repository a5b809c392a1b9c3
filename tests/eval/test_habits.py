from __future__ import annotations

import pytest

from aquachat.eval.habits import calculator_calls, is_well_formed
from aquachat.text.render import StopReason
from tests.eval.engines import RENDERER, TOKENIZER

SPECIALS = ("<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>")


def encode(text: str) -> list[int]:
    """Ids of a text in which special tokens are spelt out."""
    ids: list[int] = []
    while text:
        special = next((name for name in SPECIALS if text.startswith(name)), None)
        if special is not None:
            ids.append(TOKENIZER.special_id(special))
            text = text.removeprefix(special)
        else:
            ids += TOKENIZER.encode_ordinary(text[0])
            text = text[1:]
    return ids


@pytest.mark.parametrize(
    ("reply", "finish", "answer", "expected"),
    [
        ("12 km B\nAnswer: B", StopReason.STOP, "B", True),
        ("**Answer: B**\n \n", StopReason.STOP, "B", True),
        ("Answer: B", StopReason.LENGTH, "B", False),
        ("Answer: B", StopReason.MALFORMED, "B", False),
        ("Answer: A\nAnswer: B", StopReason.STOP, "B", False),
        ("Answer: because\nAnswer: B", StopReason.STOP, "B", False),
        ("Answer: B\nI am sure.", StopReason.STOP, "B", False),
        ("Answer: F", StopReason.STOP, None, False),
        ("", StopReason.STOP, None, False),
    ],
)
def test_a_well_formed_reply_ends_in_its_one_answer_line(
    reply: str, finish: StopReason, answer: str | None, expected: bool
) -> None:
    assert is_well_formed(reply, finish, answer) is expected


@pytest.mark.parametrize(
    ("reply", "calls", "executed"),
    [
        ("none", 0, 0),
        ("<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>2", 1, 1),
        ("<|python_start|>1/0<|python_end|>", 1, 0),
        ("<|python_start|>2*3<|python_end|>6<|python_start|>2+<|python_end|>", 2, 1),
        ("<|python_start|>1+1", 0, 0),
        ("<|python_start|>1+1<|python_end|> <|python_start|>1+1", 1, 1),
        ("<|python_start|>print(1)<|python_end|>", 0, 0),
        ("<|python_start|><|python_end|>", 0, 0),
        ("<|python_start|>+<|python_end|>", 0, 0),
        # A result that the model wrote itself is no sign of a call that worked.
        ("<|python_start|>9**9**9<|python_end|><|output_start|>1<|output_end|>", 1, 0),
    ],
)
def test_calls_are_counted_when_closed_and_of_the_calculators_alphabet(
    reply: str, calls: int, executed: int
) -> None:
    tokens = encode(reply)
    found = calculator_calls(RENDERER, tokens, RENDERER.parse(tokens).parts)
    assert (len(found), sum(call.is_executed for call in found)) == (calls, executed)
