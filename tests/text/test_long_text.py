from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.text.long_text import Continued, in_parts, last_cut
from aquachat.text.patterns import PATTERNS
from aquachat.text.tokenizer import Tokenizer

MERGES = (b"th", b"e ", b" t", b"  ", b"\n\n", b"ab", b"12", b".\n", b"'s", b" a")
TOKENIZERS = {
    name: Tokenizer(tokens=(*(bytes([byte]) for byte in range(256)), *MERGES), pattern=pattern)
    for name, pattern in PATTERNS.items()
}
AWKWARD = "ab1 2\n\r\t.'s!éßſ中文。\u0301\u3000\u2028İ\u0661"


@pytest.mark.parametrize("name", PATTERNS)
@settings(deadline=None, max_examples=150)
@given(text=st.text(alphabet=st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=60))
def test_the_two_sides_of_a_cut_have_the_ids_of_the_whole(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    cut = last_cut(text)
    left, right = tokenizer.encode_ordinary(text[:cut]), tokenizer.encode_ordinary(text[cut:])
    assert left + right == tokenizer.encode_ordinary(text)


@settings(deadline=None)
@given(
    text=st.text(alphabet=AWKWARD, max_size=200),
    block=st.integers(1, 50),
    part_chars=st.integers(1, 30),
)
def test_parts_are_the_text_and_only_the_last_ends_it(
    text: str, block: int, part_chars: int
) -> None:
    blocks = [text[start : start + block] for start in range(0, len(text), block)]
    parts = list(in_parts(blocks, part_chars=part_chars, max_part_chars=part_chars * 3))
    assert "".join(parts) == text
    assert [isinstance(part, Continued) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(part) <= part_chars * 3 for part in parts[:-1])


@settings(deadline=None)
@given(text=st.text(alphabet=AWKWARD, max_size=60), first=st.integers(0, 60))
def test_a_search_that_begins_later_finds_the_same_or_nothing(text: str, first: int) -> None:
    cut = last_cut(text)
    assert last_cut(text, first) == (cut if cut >= first else 0)


def test_a_text_without_a_cut_ends_at_the_limit() -> None:
    assert last_cut("aaaa") == 0
    assert [len(part) for part in in_parts(["a" * 10], part_chars=2, max_part_chars=4)] == [4, 4, 2]


def test_an_example_of_a_cut_in_each_kind_of_text() -> None:
    assert last_cut("one two three") == 7
    assert last_cut("12,34\n56") == 6
    assert last_cut("中文。字字") == 2
    assert last_cut("...!!!") == 0
