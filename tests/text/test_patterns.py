from __future__ import annotations

import pytest

from aquachat.errors import ConfigError
from aquachat.text.bpe_reference import split_text
from aquachat.text.patterns import GPT4, NANOCHAT, SINGLE_DIGIT, named_pattern, split_pattern

SENTENCE = "It's 12345 km,  isn't IT'LL\n\n  x"


def test_nanochat_pattern_is_the_predecessors() -> None:
    assert NANOCHAT == (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"""
        r"""| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
    )


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("nanochat", "It|'s| |12|34|5| km|,| | isn|'t| IT|'LL|\n\n| | x"),
        ("gpt4", "It|'s| |123|45| km|,| | isn|'t| IT|'LL|\n\n| | x"),
        ("single_digit", "It|'s| |1|2|3|4|5| km|,| | isn|'t| IT|'LL|\n\n| | x"),
        ("gpt2", "It|'s| 12345| km|,| | isn|'t| IT|'|LL|\n\n | x"),
    ],
)
def test_each_named_pattern_cuts_a_sentence(name: str, pieces: str) -> None:
    assert split_text(SENTENCE, named_pattern(name)) == pieces.split("|")


def test_split_pattern_gives_the_named_ones() -> None:
    assert [split_pattern(digits) for digits in (1, 2, 3)] == [SINGLE_DIGIT, NANOCHAT, GPT4]


def test_unknown_names_and_no_digits_are_refused() -> None:
    with pytest.raises(ConfigError, match="no split pattern named `gpt5`"):
        named_pattern("gpt5")
    with pytest.raises(ConfigError, match="pieces of 0 digits"):
        split_pattern(0)
