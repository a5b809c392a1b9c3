"""Reading the final answer out of a reply: the last line that says `Answer: B` or `Answer: 72`.

The rule is strict on purpose, since reinforcement learning finds every gap in it:

- the line holds nothing but `Answer:` and the answer, so `Answer: because`, `Answer: A train` and
  `so the Answer: B` name none;
- case counts: `Answer` is written so, and the letter is a capital, so the article in `Answer: a`
  is not option A;
- the last such line decides, also where its letter is not one of the item's: then there is none;
- parentheses, a full stop and Markdown's asterisks or underscores around are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from fractions import Fraction

from aquachat.text.calculator import parse_number

ANSWER_PRIME = "Answer:"
"""What stands before the letter on the answer line; a space and the letter follow."""

_LETTER_LINE = re.compile(
    r"^[*_ \t]*Answer[*_ \t]*:[*_ \t]*\(?(?P<letter>[A-Z])\)?[.*_ \t\r]*$", re.MULTILINE
)
_NUMBER_LINE = re.compile(
    r"^[*_ \t]*Answer[*_ \t]*:[*_ \t]*(?P<number>-?\$?[0-9.,/]+)[*_ \t\r]*$", re.MULTILINE
)

_TEXT_LINE = re.compile(r"^[*_ \t]*Answer[*_ \t]*:(?P<text>[^\n]*)$", re.MULTILINE)


def answer_line(answer: str) -> str:
    """The line that states an answer, `Answer: B`, without a line break."""
    return f"{ANSWER_PRIME} {answer}"


def parse_answer(reply: str, letters: Collection[str]) -> str | None:
    r"""The letter that `reply` gives as its answer, None where it gives none of `letters`.

    Example:
        parse_answer("12 * 2 = 24\nAnswer: C", "ABCDE")          # "C"
        parse_answer("Answer: C\nWait.\nAnswer: (D).", "ABCDE")  # "D"
        parse_answer("answer - all of the above", "ABCDE")        # None
    """
    letter = None
    for match in _LETTER_LINE.finditer(reply):
        letter = match["letter"]
    return letter if letter is not None and letter in letters else None


def parse_numeric_answer(reply: str) -> Fraction | None:
    r"""The number on the last line `Answer: <number>`, None where there is no such line.

    Example:
        parse_numeric_answer("48 + 24 = 72\nAnswer: $1,072.50")  # Fraction(2145, 2)
    """
    number = None
    for match in _NUMBER_LINE.finditer(reply):
        number = match["number"]
    return None if number is None else parse_number(number)


def parse_text_answer(reply: str) -> str | None:
    r"""The text on the last line `Answer: <text>`, None where there is none or it is empty.

    Example:
        parse_text_answer("The capital is Paris.\n**Answer: Paris**")  # "Paris"
    """
    text = ""
    for match in _TEXT_LINE.finditer(reply):
        text = match["text"].strip("*_ \t\r")
    return text or None
