r"""Going around runs of whitespace that tiktoken's regex engine cannot take, or not at full speed.

The engine keeps a stack entry per character of `\s+(?!\S)`, and panics at a million. A pattern with
a lookahead goes through its backtracking matcher; without one tiktoken encodes twice as fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from aquachat.text.patterns import is_gpt4_family

MAX_RUN_CHARS: Final = 500_000
"""Texts and runs up to this length are left to the engine."""

_SPACES: Final = (
    "\t\v\f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space, which Python's `\\s` is not, without carriage return and line feed."""


_DOUBLE: Final = re.compile(f"[{_SPACES}]{{2,}}")
_RARE_SPACES: Final = _SPACES.replace(" ", "")


def may_have_doubles(text: str, pattern: str) -> bool:
    """Whether `split_around_doubles` might find one; quick, so that most texts need no more."""
    if not is_gpt4_family(pattern):
        return True
    return "  " in text or any(space in text for space in _RARE_SPACES)


def split_around_doubles(text: str, pattern: str) -> Iterator[tuple[str, bool]]:
    """Cut a text around whitespace that `patterns.without_lookahead` would cut in another way.

    As `split_around_runs`, for runs of two and more characters behind the last newline.
    """
    if not is_gpt4_family(pattern):
        yield from split_around_runs(text, pattern, 1)
        return
    start = 0
    for run in _DOUBLE.finditer(text):
        piece_end = run.end()
        if piece_end < len(text):
            if text[piece_end] in "\r\n":
                continue
            piece_end -= 1
        yield text[start : run.start()], False
        yield text[run.start() : piece_end], True
        start = piece_end
    yield text[start:], False


def split_around_runs(
    text: str, pattern: str, max_run_chars: int = MAX_RUN_CHARS
) -> Iterator[tuple[str, bool]]:
    """Cut a text around its long runs of whitespace, without changing a piece.

    Of a run, all up to the last newline goes with what is before it (in GPT-4's family; in GPT-2's,
    nothing does), the last character goes with what follows it, and the rest is one piece.

    Args:
        text: what to cut.
        pattern: GPT-2's, or one of GPT-4's family.
        max_run_chars: runs longer than this are long.

    Yields:
        Stretches that together are the text, and whether each is a piece of its own.
    """
    keeps_newlines = is_gpt4_family(pattern)
    start = 0
    for run in re.finditer(rf"[\r\n{_SPACES}]{{{max_run_chars + 1},}}", text):
        piece_start = run.start()
        if keeps_newlines:
            piece_start += len(run.group().rstrip(_SPACES))
        piece_end = run.end() if run.end() == len(text) else run.end() - 1
        if piece_start < piece_end:
            yield text[start:piece_start], False
            yield text[piece_start:piece_end], True
            start = piece_end
    yield text[start:], False
