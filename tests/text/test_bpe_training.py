from __future__ import annotations

import builtins
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rustbpe
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import ConfigError, DataError, MissingFileError, PreflightError
from aquachat.text import SPECIAL_TOKENS, Tokenizer
from aquachat.text.bpe_reference import learn_tokens
from aquachat.text.patterns import GPT2, NANOCHAT, PATTERNS

NUM_SPECIAL = len(SPECIAL_TOKENS)

LETTERS = st.sampled_from("aab '1\n.é")
TEXTS = st.lists(st.text(LETTERS, max_size=40) | st.text(max_size=20), max_size=8)


def rustbpe_tokens(documents: list[str], num_ranks: int, pattern: str) -> tuple[bytes, ...]:
    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(iter(documents), num_ranks, pattern=pattern)
    ranks = sorted(peer.get_mergeable_ranks(), key=lambda item: item[1])
    return tuple(bytes(token) for token, _ in ranks)


def train(documents: Any, vocab_size: int, **options: Any) -> Tokenizer:
    return Tokenizer.train_from_iterator(documents, vocab_size, **options)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TEXTS, st.sampled_from(sorted(PATTERNS)), st.integers(256, 330))
def test_tokens_are_those_of_the_reference(
    documents: list[str], pattern: str, num_ranks: int
) -> None:
    documents = [text.encode("utf-8", "replace").decode() for text in documents]
    trained = train(documents, num_ranks, pattern=PATTERNS[pattern], special_tokens=())
    assert list(trained.tokens) == learn_tokens(documents, num_ranks, PATTERNS[pattern])


@pytest.mark.parametrize("name", sorted(PATTERNS))
@pytest.mark.parametrize("num_ranks", [256, 257, 300, 1000, 100_000])
def test_tokens_are_those_of_rustbpe(documents: list[str], name: str, num_ranks: int) -> None:
    trained = train(documents, num_ranks + NUM_SPECIAL, pattern=PATTERNS[name])
    assert trained.tokens == rustbpe_tokens(documents, num_ranks, PATTERNS[name])


def test_tokens_of_real_text_are_those_of_rustbpe(real_texts: list[str]) -> None:
    for num_ranks in (512, 8192, 32768):
        trained = train(real_texts, num_ranks + NUM_SPECIAL)
        assert trained.tokens == rustbpe_tokens(real_texts, num_ranks, NANOCHAT)


def test_vocabulary_does_not_depend_on_order_or_threads(documents: list[str]) -> None:
    many = documents * 20
    expected = train(many, 700, num_threads=1)
    shuffled = random.Random(1).sample(many, len(many))
    for num_threads in (1, 2, 3):
        trained = train(iter(shuffled), 700, num_threads=num_threads)
        assert trained == expected
        assert trained.training == expected.training


def test_a_smaller_vocabulary_is_a_prefix_of_a_larger_one(documents: list[str]) -> None:
    large = train(documents, 700)
    small = train(documents, 400)
    assert large.tokens[: len(small.tokens)] == small.tokens


def test_vocab_size_includes_the_special_tokens(documents: list[str]) -> None:
    trained = train(documents, 500)
    assert trained.n_vocab == 500
    assert len(trained.tokens) == 500 - NUM_SPECIAL
    assert trained.special_tokens["<|bos|>"] == 500 - NUM_SPECIAL


def test_a_small_corpus_gives_a_smaller_vocabulary() -> None:
    trained = train(["abab"], 10_000)
    assert trained.tokens[256:] == (b"ab", b"abab")
    assert trained.n_vocab == 258 + NUM_SPECIAL
    assert trained.special_id("<|bos|>") == 258
    assert trained.training["vocab_size"] == 10_000


def test_no_text_gives_the_bytes() -> None:
    assert train([], 1000).tokens == tuple(bytes([byte]) for byte in range(256))


def test_max_chars_counts_characters_and_cuts_the_last_document() -> None:
    documents = ["éé zz", "qq xx", "never read"]
    assert train(documents, 300, max_chars=7) == train(["éé zz", "qq"], 300)
    assert train(documents, 300, max_chars=7).training["num_documents"] == 2
    assert train(documents, 300, max_chars=0) == train([], 300)


def test_max_chars_stops_reading_the_iterator() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "some words "

    assert train(endless(), 270, max_chars=1000).training["num_bytes"] == 1000


def test_files_give_what_their_texts_give(tmp_path: Path, documents: list[str]) -> None:
    paths = []
    for index, text in enumerate(documents[:30]):
        path = tmp_path / f"{index}.txt"
        path.write_bytes(text.encode())
        paths.append(path)
    trained = Tokenizer.train_from_files(paths, 500)
    assert trained == train(documents[:30], 500)
    assert trained.training == train(documents[:30], 500).training


def test_a_file_of_many_blocks_gives_what_its_text_gives(tmp_path: Path) -> None:
    text = "a line of words, 12345 numbers!\n\n  indented\r\n" * 60_000
    path = tmp_path / "large.txt"
    path.write_bytes(text.encode())
    for pattern in (NANOCHAT, GPT2, r"\w+|[^\w]"):
        from_file = Tokenizer.train_from_files([path], 300, pattern=pattern)
        assert from_file == train([text], 300, pattern=pattern)
        assert from_file.training == train([text], 300, pattern=pattern).training
    limited = Tokenizer.train_from_files([path], 300, max_chars=1_500_000)
    assert limited == train([text], 300, max_chars=1_500_000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"absent\.txt"):
        Tokenizer.train_from_files([tmp_path / "absent.txt"], 300)


def test_a_file_that_is_not_utf8_is_named_with_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(DataError, match=r"latin\.txt.*byte 3"):
        Tokenizer.train_from_files([path], 300)


@pytest.mark.parametrize(
    "text",
    [
        " " * 2_000_000,
        " " * 2_000_000 + "x",
        "a" * 1_000_000,
        "\n" * 1_000_000,
        "7" * 1_000_000,
        "^" * 1_000_000,
        "中" * 300_000,
        "a\u0301" * 300_000,
    ],
    ids=["spaces", "spaces-x", "letters", "newlines", "digits", "symbols", "chinese", "marks"],
)
@pytest.mark.parametrize("pattern", [NANOCHAT, GPT2], ids=["nanochat", "gpt2"])
def test_endless_runs_are_trained_on(text: str, pattern: str) -> None:
    trained = train([text], 300, pattern=pattern)
    assert set(b"".join(trained.tokens[256:])) <= set(text.encode())


def test_one_long_word_of_random_letters_is_trained_on() -> None:
    rng = random.Random(2)
    word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=200_000))
    assert train([word], 20_000).n_vocab == 20_000


def test_a_custom_pattern_that_gives_up_is_a_known_error() -> None:
    with pytest.raises(DataError, match="could not be applied"):
        train([" " * 2_000_000], 300, pattern=r"\S+|\s+(?!\S)|\s+")


def test_a_pattern_that_loses_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"matches nothing at `, world`"):
        train(["hello, world"], 300, pattern=r"\p{L}+")


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not compile"):
        train(["text"], 300, pattern="(")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 264}, "264 tokens cannot hold the 256 bytes and 9 special"),
        ({"vocab_size": 300, "num_threads": 0}, "0 threads"),
        ({"vocab_size": 300, "max_chars": -1}, "-1 characters"),
        ({"vocab_size": 300, "special_tokens": ("<|a|>", "<|a|>")}, "named twice"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tokenizer.train_from_iterator(["text"], **options)


def test_a_document_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="must be a str, not bytes"):
        train(["fine", b"bytes"], 300)


def test_an_error_of_the_iterator_comes_through() -> None:
    def broken() -> Iterator[str]:
        yield "text"
        raise ZeroDivisionError("inside the iterator")

    with pytest.raises(ZeroDivisionError, match="inside the iterator"):
        train(broken(), 300)


def test_lone_surrogates_are_learned_as_the_replacement_character() -> None:
    assert train(["ab\ud800cd " * 5], 300) == train(["ab\ufffdcd " * 5], 300)


def test_progress_reaches_its_totals(documents: list[str]) -> None:
    calls: list[tuple[str, int, int | None]] = []
    trained = train(documents, 700, progress=lambda *call: calls.append(call))
    counts = [done for stage, done, _ in calls if stage == "count"]
    merges = [(done, total) for stage, done, total in calls if stage == "merge"]
    assert counts[-1] == sum(len(text.encode()) for text in documents)
    assert merges[-1] == (len(trained.tokens) - 256, 700 - NUM_SPECIAL - 256)
    assert counts == sorted(counts)
    assert merges == sorted(merges)


@pytest.mark.parametrize("stage", ["count", "merge"])
def test_an_error_of_the_callback_stops_training(documents: list[str], stage: str) -> None:
    def fail(current: str, done: int, total: int | None) -> None:
        if current == stage:
            raise KeyError(stage)

    with pytest.raises(KeyError, match=stage):
        train(documents, 700, progress=fail)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_stops_training() -> None:
    started = threading.Event()

    def endless() -> Iterator[str]:
        text = "many words to count " * 5000
        while True:
            started.set()
            yield text

    def interrupt() -> None:
        started.wait()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        train(endless(), 300)
    thread.join()


def test_without_the_extension_training_says_so_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.save(tmp_path)
    real_import = builtins.__import__

    def without_extension(
        name: str, namespace: Any = None, local: Any = None, names: Any = (), level: int = 0
    ) -> Any:
        if name == "aquachat" and names and "_tokenizer" in names:
            raise ImportError("no _tokenizer")
        return real_import(name, namespace, local, names, level)

    monkeypatch.setattr(builtins, "__import__", without_extension)
    with pytest.raises(PreflightError, match="needs the compiled module") as caught:
        train(["text"], 300)
    assert caught.value.hint is not None
    loaded = Tokenizer.load(tmp_path)
    assert loaded.decode(loaded.encode_ordinary("it still works")) == "it still works"
