from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat import _tokenizer
from aquachat.errors import ConfigError, DataError
from aquachat.text import SPECIAL_TOKENS, StreamDecoder, Tokenizer
from aquachat.text.bpe_reference import encode_text, split_text
from aquachat.text.long_whitespace import split_around_runs
from aquachat.text.patterns import NANOCHAT, PATTERNS

BYTES = tuple(bytes([byte]) for byte in range(256))

ODD_CHARACTERS = (
    "aAsS\u017f\u212a\u0130ll've're 1٣½Ⅷ'.!^_é\u0301中😀\ufffd\u200b"
    "  \n\r\t\x0b\x85\u00a0\u2003\u2028\u3000"
)
TEXTS = st.text(st.sampled_from(ODD_CHARACTERS), max_size=60) | st.text(
    st.characters(exclude_categories=["Cs", "Cn"]), max_size=40
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_ids_are_those_of_the_reference_and_decode_to_the_text(
    tokenizer: Tokenizer, text: str
) -> None:
    ids = tokenizer.encode_ordinary(text)
    assert ids == encode_text(text, tokenizer.mergeable_ranks(), tokenizer.pattern)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=TEXTS, name=st.sampled_from(sorted(PATTERNS)))
def test_the_scanner_the_regex_and_the_reference_cut_alike(text: str, name: str) -> None:
    pieces = split_text(text, PATTERNS[name])
    assert _tokenizer.split(text, PATTERNS[name]) == pieces
    assert _tokenizer.split(text, PATTERNS[name], regex=True) == pieces


def test_real_texts_are_cut_and_encoded_alike(real_texts: list[str]) -> None:
    tokenizer = Tokenizer.train_from_iterator(real_texts, 2000)
    ranks = tokenizer.mergeable_ranks()
    for text in real_texts[::5]:
        pieces = _tokenizer.split(text, NANOCHAT)
        assert pieces == split_text(text, NANOCHAT)
        ids = tokenizer.encode_ordinary(text)
        assert tokenizer.decode(ids) == text
        assert ids[:200] == encode_text(text[:3000], ranks, NANOCHAT)[:200]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text(st.sampled_from("ab1.! \n\r\t\u00a0"), max_size=40),
    name=st.sampled_from(sorted(PATTERNS)),
    max_run_chars=st.integers(1, 4),
)
def test_cutting_around_runs_of_whitespace_changes_no_piece(
    text: str, name: str, max_run_chars: int
) -> None:
    pattern = PATTERNS[name]
    pieces: list[str] = []
    for stretch, is_piece in split_around_runs(text, pattern, max_run_chars):
        pieces += [stretch] if is_piece else split_text(stretch, pattern)
    assert pieces == split_text(text, pattern)


@pytest.mark.parametrize("name", ["nanochat", "gpt2"])
@pytest.mark.parametrize(
    "text",
    [
        " " * 2_000_000,
        "word" + " " * 2_000_000 + "x",
        "!\n" + "\t" * 1_500_000 + "\n" + " " * 1_500_000 + "x",
        "\n" * 1_100_000 + "x",
        "a" * 1_000_000,
        "7" * 300_000,
    ],
    ids=["spaces", "spaces-x", "mixed", "newlines", "letters", "digits"],
)
def test_endless_runs_are_encoded_and_decoded(name: str, text: str) -> None:
    tokenizer = Tokenizer.train_from_iterator(
        ["   \n\n\t\t aaaa 7777" * 9], 290, pattern=PATTERNS[name]
    )
    ids = tokenizer.encode_ordinary(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_to_numpy(text).tolist() == ids
    short = [text[:300], text[-300:]]
    assert tokenizer.encode_batch(short, 2) == [tokenizer.encode_ordinary(each) for each in short]


def test_a_cut_run_has_the_ids_of_the_whole_run(tokenizer: Tokenizer) -> None:
    text = "word! " + " " * 500_100 + "\n   tail"
    ids = tokenizer.encode_ordinary(text)
    assert ids == tokenizer.to_tiktoken().encode_ordinary(text)


def test_special_tokens_in_text_are_ordinary(tokenizer: Tokenizer) -> None:
    for name in SPECIAL_TOKENS:
        ids = tokenizer.encode_ordinary(f"a{name}b")
        assert max(ids) < len(tokenizer.tokens)
        assert tokenizer.decode(ids) == f"a{name}b"


def test_special_tokens_follow_the_ranks_in_order(tokenizer: Tokenizer) -> None:
    first = len(tokenizer.tokens)
    expected = dict(zip(SPECIAL_TOKENS, range(first, first + 9), strict=True))
    assert tokenizer.special_tokens == expected
    assert all(tokenizer.special_id(name) == expected[name] for name in SPECIAL_TOKENS)
    assert tokenizer.n_vocab == first + 9


def test_encode_makes_allowed_names_special(tokenizer: Tokenizer) -> None:
    text = "<|bos|>hi<|user_end|> there<|bos|>"
    bos, end = tokenizer.special_id("<|bos|>"), tokenizer.special_id("<|user_end|>")
    middle = tokenizer.encode_ordinary("hi")
    rest = tokenizer.encode_ordinary(" there")
    assert tokenizer.encode(text, allowed_special="all") == [bos, *middle, end, *rest, bos]
    only_bos = tokenizer.encode(text, allowed_special={"<|bos|>"}, disallowed_special=())
    assert only_bos == [bos, *tokenizer.encode_ordinary("hi<|user_end|> there"), bos]
    assert tokenizer.decode(tokenizer.encode(text, allowed_special="all")) == text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(parts=st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|bos|", "x", " ", "  ", "\n"])))
def test_encode_gives_the_ids_of_tiktoken(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    expected = tokenizer.to_tiktoken().encode(text, allowed_special="all")
    assert tokenizer.encode(text, allowed_special="all") == expected


def test_encode_refuses_special_names_by_default(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"`<\|bos\|>`"):
        tokenizer.encode("hello <|bos|>")
    with pytest.raises(DataError, match=r"`<\|user_end\|>`"):
        tokenizer.encode("<|bos|><|user_end|>", allowed_special={"<|bos|>"})
    ordinary = tokenizer.encode("hello <|bos|>", disallowed_special=())
    assert ordinary == tokenizer.encode_ordinary("hello <|bos|>")


def test_names_that_are_not_special_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="no special token `<nope>`"):
        tokenizer.special_id("<nope>")
    with pytest.raises(ConfigError, match="no special token `<nope>`"):
        tokenizer.encode("x", allowed_special={"<nope>"})


def test_batches_and_arrays_hold_the_ids_of_single_texts(
    tokenizer: Tokenizer, documents: list[str]
) -> None:
    texts = ["", *documents[:40], "lone \ud800 surrogate"]
    expected = [tokenizer.encode_ordinary(text) for text in texts]
    for num_threads in (1, 2, None):
        assert tokenizer.encode_batch(texts, num_threads) == expected
    assert tokenizer.encode_batch([]) == []
    for text, ids in zip(texts, expected, strict=True):
        array = tokenizer.encode_to_numpy(text)
        assert array.dtype == np.uint32
        assert array.tolist() == ids


def test_a_lone_surrogate_is_encoded_as_the_replacement_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode_ordinary("a\ud800b")) == "a\ufffdb"


def test_token_bytes_are_exact_and_zero_for_special_tokens(tokenizer: Tokenizer) -> None:
    lengths = tokenizer.token_bytes()
    assert lengths.dtype == np.int32
    assert lengths.shape == (tokenizer.n_vocab,)
    assert lengths.tolist() == [len(token) for token in tokenizer.tokens] + [0] * 9
    assert lengths[0xE9] == 1


def test_bytes_of_a_text_are_the_sum_of_its_token_bytes(
    tokenizer: Tokenizer, documents: list[str]
) -> None:
    lengths = tokenizer.token_bytes()
    for text in documents[:50]:
        assert lengths[tokenizer.encode_ordinary(text)].sum() == len(text.encode())


def test_single_token_id_is_none_unless_there_is_exactly_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.single_token_id("a") == 97
    assert tokenizer.single_token_id("") is None
    assert tokenizer.single_token_id("the train zq") is None
    assert tokenizer.single_token_id("<|bos|>") is None
    longest = max(tokenizer.tokens, key=len).decode()
    assert tokenizer.single_token_id(longest) == tokenizer.mergeable_ranks()[longest.encode()]


def test_each_id_has_its_bytes(tokenizer: Tokenizer) -> None:
    for token, rank in tokenizer.mergeable_ranks().items():
        assert tokenizer.decode_single_token_bytes(rank) == token
    bos = tokenizer.special_id("<|bos|>")
    assert tokenizer.decode_single_token_bytes(bos) == b"<|bos|>"
    assert tokenizer.decode([bos, 0xE9]) == "<|bos|>\ufffd"
    assert tokenizer.decode(np.array([97, 98])) == "ab"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("bad_id", [-1, 600, 2**40])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer, bad_id: int) -> None:
    with pytest.raises(DataError, match=f"token id {bad_id} is not in the vocabulary of 600"):
        tokenizer.decode([97, bad_id])
    with pytest.raises(DataError, match=f"token id {bad_id}"):
        tokenizer.decode_single_token_bytes(bad_id)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ids=st.lists(st.integers(0, 599), max_size=40), text=TEXTS)
def test_streamed_text_is_the_decoded_text(tokenizer: Tokenizer, ids: list[int], text: str) -> None:
    for each in (ids, tokenizer.encode_ordinary(text)):
        decoder = StreamDecoder(tokenizer)
        pushed = [decoder.push(token_id) for token_id in each]
        assert "".join(pushed) + decoder.finish() == tokenizer.decode(each)
    if "\ufffd" not in text:
        assert not any("\ufffd" in stretch for stretch in pushed)


def test_a_character_is_held_back_until_it_is_whole() -> None:
    decoder = StreamDecoder(Tokenizer(BYTES))
    assert [decoder.push(byte) for byte in "é😀".encode()] == ["", "é", "", "", "", "😀"]
    assert decoder.push(0xC3) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.push(0x61) == "a"


def test_tokenizers_are_immutable_and_equal_by_fingerprint(documents: list[str]) -> None:
    one = Tokenizer.train_from_iterator(documents, 400)
    same = Tokenizer(one.tokens, training={"note": "the record is no part of it"})
    assert one == same
    assert hash(one) == hash(same)
    with pytest.raises(AttributeError):
        one.pattern = "x"  # type: ignore[misc]
    others = [
        Tokenizer(one.tokens[:-1]),
        Tokenizer(one.tokens, pattern=PATTERNS["gpt4"]),
        Tokenizer(one.tokens, special_names=SPECIAL_TOKENS[::-1]),
    ]
    assert len({each.fingerprint for each in [one, *others]}) == 4
    assert one != "text"


def test_a_tokenizer_survives_pickling_and_copying_after_use(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_ordinary("use it first")
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert again == tokenizer
        assert again.encode_ordinary("use it first") == ids


@pytest.mark.parametrize(
    ("tokens", "special_names", "message"),
    [
        (BYTES[1:], (), r"single byte b'\\x00'"),
        ((*BYTES, b"a"), (), "two ranks"),
        ((*BYTES, b""), (), "empty"),
        (BYTES, ("<|a|>", "<|a|>"), "named twice"),
        (BYTES, ("",), "empty"),
    ],
)
def test_vocabularies_that_cannot_work_are_refused(
    tokens: tuple[bytes, ...], special_names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Tokenizer(tokens, special_names=special_names)


def test_importing_the_tokenizer_loads_nothing_heavy() -> None:
    heavy = ["torch", "tiktoken", "numpy", "aquachat._tokenizer"]
    program = f"import sys, aquachat.text; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout.strip() == "[]"
