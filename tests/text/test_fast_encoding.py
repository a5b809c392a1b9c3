"""Encoding without the pattern's lookahead gives the ids that tiktoken gives with it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.text_documents import read_documents
from aquachat.text import tokenizer as tokenizer_module
from aquachat.text.patterns import PATTERNS
from aquachat.text.tokenizer import Tokenizer

MERGES = (
    b"th",
    b"e ",
    b" t",
    b"  ",
    b"    ",
    b"\n\n",
    b"\n ",
    b"ab",
    b"12",
    b".\n",
    b"'s",
    b"\r\n",
)
TOKENIZERS = {
    name: Tokenizer(tokens=(*(bytes([byte]) for byte in range(256)), *MERGES), pattern=pattern)
    for name, pattern in PATTERNS.items()
}
ENCODINGS = {name: tokenizer.to_tiktoken() for name, tokenizer in TOKENIZERS.items()}
AWKWARD = " \t\n\r\v\f\x1c\x85\xa0\u2028\u3000ab1'sS!.ſé中\u0301\u200b"


@pytest.fixture
def always_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "CHARS_PER_STRETCH", 1)


def check(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = ENCODINGS[name].encode_ordinary(text)
    assert tokenizer.encode_ordinary(text) == ids
    assert np.array_equal(tokenizer.encode_to_numpy(text), ids)


@pytest.mark.usefixtures("always_cut")
@pytest.mark.parametrize("name", PATTERNS)
@settings(deadline=None, max_examples=300)
@given(text=st.text(alphabet=st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=40))
def test_any_text_has_the_ids_of_the_whole_pattern(name: str, text: str) -> None:
    check(name, text)


@pytest.mark.long
@pytest.mark.usefixtures("always_cut")
@pytest.mark.parametrize("name", PATTERNS)
def test_a_hundred_thousand_texts_have_the_ids_of_the_whole_pattern(name: str) -> None:
    chance = random.Random(name)
    for _ in range(100_000):
        check(name, "".join(chance.choices(AWKWARD, k=chance.randrange(30))))


@pytest.mark.long
@pytest.mark.parametrize("name", PATTERNS)
def test_every_character_has_the_ids_of_the_whole_pattern_beside_spaces(name: str) -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        check(name, f"a  {char}{char} {char}b{char}\n {char}")


@pytest.mark.parametrize("name", PATTERNS)
def test_long_texts_with_few_and_with_many_runs(name: str) -> None:
    check(name, "a line of text\n\n" * 100 + "  indented   twice  ")
    check(name, "x  y\n    z \n" * 200)


@pytest.mark.parametrize("name", ["nanochat", "gpt2"])
def test_real_text_has_the_ids_of_the_whole_pattern(name: str, real_data: Path) -> None:
    for number, text in enumerate(read_documents(real_data / "pretrain" / "shard_00000.parquet")):
        if number % 20 == 0:
            assert text is not None
            check(name, text)
