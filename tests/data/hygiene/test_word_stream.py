# ruff: noqa: RUF001 - characters that look like others are the point here
from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aquachat.data.hygiene import folding
from aquachat.data.hygiene.word_stream import word_numbers, word_stream
from aquachat.data.hygiene.words import normalised_question

ODD = (
    "a1_ ,.-+%<=\t\n\0\x01\x1cZ",
    "é’—−…\xa0\ufeff½²ßĲŉΐΣσςµµ°×÷√≠ⓐⓑ①٣۴३，０１Ａａ＋－ﬁ™㎏㍿각がガｶﾞΑ\u0345",
    "e\u0301\u0338\u0327=\u0338ᄀ\u1161\u11a8각\u11a8को\u0942ไทยไम\U0001d7d8\U0001f600𝐀𠀀",
)
characters = st.one_of(
    st.sampled_from([*"".join(ODD)]), st.characters(codec="utf-8"), st.sampled_from([*"ab3, "])
)
texts = st.text(characters, max_size=60)


def words_of(text: str) -> list[int]:
    return word_numbers(normalised_question(text).split()).tolist()


@settings(deadline=None, max_examples=300)
@given(st.lists(texts, max_size=6))
@example(["3,000", "1,234,567,89", ",000", "3,0000", "12,345,", "3,00", "٣,٠٠٠", "3，000"])
@example(["plain words " * 20 + "café e\u0301", "x" * 300 + " ½ " + "y" * 300, "é"])
@example(["", " ", "a", "\u0301", "a\u0301", "\ufeff"])
def test_a_stream_has_the_words_of_the_normalised_texts(documents: list[str]) -> None:
    stream = word_stream([text.encode() for text in documents])
    expected = [words_of(text) for text in documents]
    assert stream.numbers.tolist() == [number for words in expected for number in words]
    counts = np.diff(np.append(stream.starts, len(stream.numbers)))
    assert counts.tolist() == [len(words) for words in expected]


@pytest.mark.parametrize("around", ["word{}word {}", "1{}2 {}é{} {},000"])
def test_every_character_of_the_basic_plane_is_what_it_is_normalised_to(around: str) -> None:
    chosen = [chr(code) for code in range(0x80, 0x10000) if not 0xD800 <= code < 0xE000]
    texts = [around.replace("{}", character) + " " * 200 for character in chosen]
    stream = word_stream([text.encode() for text in texts])
    expected = [word_numbers(normalised_question(text).split()) for text in texts]
    differing = [
        character
        for character, want, start, end in zip(
            chosen,
            expected,
            stream.starts,
            np.append(stream.starts[1:], len(stream.numbers)),
            strict=True,
        )
        if not np.array_equal(stream.numbers[start:end], want)
    ]
    assert differing == []


def test_what_may_become_one_with_the_character_before_is_not_changed_in_place() -> None:
    """The second parts of all canonical compositions."""
    table = folding._easy_characters()
    for code in range(0x80, sys.maxunicode + 1):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and parts[0][0] != "<" and int(parts[1], 16) < len(table):
            assert table[int(parts[1], 16)] == folding._HARD


def test_words_have_numbers_by_their_first_bytes() -> None:
    words = ["question", "questions", "quest", "q", "é", "-", "+", "12345678", "1234567"]
    numbers = word_numbers(words).tolist()
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == len(words) - 1
    assert numbers[3] == ord("q")
