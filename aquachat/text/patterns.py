"""The split patterns: how text is cut into the pieces that merges never cross.

All but GPT-2's are GPT-4's `cl100k_base` pattern with another limit on the digits of a piece. The
limit decides what numbers cost and whether their digits line up: see `split_pattern`.
"""

from __future__ import annotations

from typing import Final

from aquachat.errors import ConfigError

_GPT4_HEAD: Final = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
_GPT4_TAIL: Final = r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"


def split_pattern(num_digits: int) -> str:
    """GPT-4's pattern with numbers cut into pieces of at most `num_digits` characters.

    With 2, `1234` is `12|34`; with 1, each digit is a piece of its own. Pieces are cut from the
    left, so that with more than one digit the place value of a piece depends on the length of the
    number.

    Raises:
        ConfigError: `num_digits` is less than 1.
    """
    if num_digits < 1:
        raise ConfigError(
            f"numbers cannot be cut into pieces of {num_digits} digits",
            hint="give 1, 2 or 3 digits",
        )
    quantifier = "" if num_digits == 1 else f"{{1,{num_digits}}}"
    return f"{_GPT4_HEAD}{quantifier}{_GPT4_TAIL}"


SINGLE_DIGIT: Final = split_pattern(1)
"""One digit a piece, otherwise nanochat's pattern."""
NANOCHAT: Final = split_pattern(2)
"""nanochat's pattern: GPT-4's with at most two digits a piece."""
GPT4: Final = split_pattern(3)
"""GPT-4's pattern: at most three digits a piece."""
GPT2: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's pattern: a leading space belongs to words, numbers and symbols alike."""

PATTERNS: Final[dict[str, str]] = {
    "nanochat": NANOCHAT,
    "gpt4": GPT4,
    "single_digit": SINGLE_DIGIT,
    "gpt2": GPT2,
}
"""The patterns that have a name."""


def named_pattern(name: str) -> str:
    """The pattern of that name, one of `PATTERNS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PATTERNS:
        raise ConfigError(
            f"there is no split pattern named `{name}`",
            hint=f"choose one of {', '.join(f'`{known}`' for known in PATTERNS)}",
        )
    return PATTERNS[name]


def without_lookahead(pattern: str) -> str:
    r"""A pattern of a known family as plain alternatives, which a finite automaton can match.

    Cuts as `pattern` does where no two whitespace characters follow each other behind the last
    newline of a run (in GPT-2's, anywhere): only there does `\s+(?!\S)` make a difference. The
    possessive quantifiers, too, make none: what follows them is of another class.
    """
    return pattern.replace(r"|\s+(?!\S)", "").replace("?+", "?").replace("++", "+")


def is_gpt4_family(pattern: str) -> bool:
    """Whether a pattern is GPT-4's with any limit on the digits of a piece."""
    return pattern.startswith(_GPT4_HEAD) and pattern.endswith(_GPT4_TAIL)


def is_known_family(pattern: str) -> bool:
    """Whether a pattern treats whitespace as GPT-4's or GPT-2's does."""
    return pattern == GPT2 or is_gpt4_family(pattern)
