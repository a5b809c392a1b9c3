from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aquachat.data import corpus_writer, split_tokens
from aquachat.data.corpus import Corpus, verify_corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.errors import DataError, MissingFileError
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
BOS = TOKENIZER.special_id("<|bos|>")


def texts_of(corpus: Corpus) -> list[str]:
    documents = [corpus.document(i).tolist() for i in range(corpus.num_documents)]
    assert all(ids[0] == BOS for ids in documents)
    return [TOKENIZER.decode(ids[1:]) for ids in documents]


@settings(deadline=None, max_examples=40)
@given(
    documents=st.lists(st.text(max_size=30), min_size=1, max_size=30),
    shard_tokens=st.integers(1, 80),
)
def test_every_document_comes_back_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], shard_tokens: int
) -> None:
    directory = tmp_path_factory.mktemp("corpus")
    sources = {"a": ["first document"], "b": documents}
    report = write_corpus(directory, sources, TOKENIZER, shard_tokens=shard_tokens)
    corpus = Corpus.open(directory, tokenizer_fingerprint=TOKENIZER.fingerprint)
    visible = [text for text in documents if text and not text.isspace()]
    assert texts_of(corpus) == ["first document", *visible]
    assert corpus.num_tokens == corpus.lengths.sum() == report.num_tokens("train")
    counted = report.sources["b"]
    assert counted.documents == len(visible)
    assert counted.empty_documents == len(documents) - len(visible)
    assert counted.text_bytes == sum(len(text.encode()) for text in visible)
    assert counted.bytes_per_token == (1.0 if visible else 0.0)
    assert corpus.sources == report.splits["train"]
    verify_corpus(directory)


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    class Wide:
        n_vocab = 65_537
        fingerprint = "wide"

        def special_id(self, name: str) -> int:
            return 65_536

        def encode_to_numpy(self, text: str) -> NDArray[np.uint32]:
            return np.array([ord(char) for char in text], dtype=np.uint32)

    write_corpus(tmp_path / "c", {"a": ["xy"]}, Wide())
    assert Corpus.open(tmp_path / "c").document(0).tolist() == [65_536, 120, 121]
    assert (tmp_path / "c" / "shard_00000.bin").stat().st_size == 12


def test_lone_surrogates_are_replaced_and_not_fatal(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", {"a": ["a\ud800b"]}, TOKENIZER)
    assert texts_of(Corpus.open(tmp_path / "c")) == ["a\ufffdb"]


def test_validation_is_chosen_by_the_text_alone(tmp_path: Path) -> None:
    documents = [f"document {i % 1000}" for i in range(2000)]
    for name, order in (("a", documents), ("b", documents[::-1])):
        write_corpus(tmp_path / name, {"s": order}, TOKENIZER, validation_fraction=0.1)
    train = texts_of(Corpus.open(tmp_path / "a"))
    held_out = texts_of(Corpus.open(tmp_path / "a", "validation"))
    assert sorted(train + held_out) == sorted(documents)
    assert not set(train) & set(held_out)
    assert 140 <= len(held_out) <= 260
    assert sorted(texts_of(Corpus.open(tmp_path / "b", "validation"))) == sorted(held_out)


def test_validation_sources_go_to_validation_whole(tmp_path: Path) -> None:
    report = write_corpus(
        tmp_path, {"a": ["train"]}, TOKENIZER, validation_sources={"a": ["val"], "b": ["other"]}
    )
    assert texts_of(Corpus.open(tmp_path)) == ["train"]
    assert texts_of(Corpus.open(tmp_path, "validation")) == ["val", "other"]
    assert report.sources["a"].documents == 2


def test_same_documents_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_corpus(tmp_path / name, {"s": ["x", "yz"]}, TOKENIZER, shard_tokens=2)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_failure_midway_leaves_the_old_corpus(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "new " * 100
        raise DataError("the source is damaged")

    directory = tmp_path / "c"
    write_corpus(directory, {"a": ["old"]}, TOKENIZER)
    before = snapshot(directory)
    with pytest.raises(DataError, match="damaged"):
        write_corpus(directory, {"a": broken()}, TOKENIZER, shard_tokens=10)
    assert snapshot(directory) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(split_tokens.HashedFile):
        def write(self, content: bytes) -> None:
            if "documents" not in self.path.name:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(content)

    directory = tmp_path / "c"
    write_corpus(directory, {"a": ["old"]}, TOKENIZER)
    before = snapshot(directory)
    monkeypatch.setattr(split_tokens, "HashedFile", FullDisk)
    with pytest.raises(DataError, match="the disk is full"):
        write_corpus(directory, {"a": ["new"]}, TOKENIZER)
    assert snapshot(directory) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_at_the_last_flush_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateFullDisk(split_tokens.HashedFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._file = Path("/dev/full").open("wb")  # noqa: SIM115

    monkeypatch.setattr(split_tokens, "HashedFile", LateFullDisk)
    with pytest.raises(DataError, match="the disk is full"):
        write_corpus(tmp_path / "c", {"a": ["new"]}, TOKENIZER)
    assert list(tmp_path.iterdir()) == []


def test_a_shorter_corpus_leaves_no_shard_of_the_longer_one(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    write_corpus(directory, {"a": ["one", "two", "three"]}, TOKENIZER, shard_tokens=1)
    write_corpus(directory, {"a": ["one"]}, TOKENIZER, shard_tokens=1)
    assert sorted(snapshot(directory)) == ["documents.bin", "index.json", "shard_00000.bin"]


def test_no_document_is_an_error_that_names_the_sources(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no source has a document for training \(a, b\)"):
        write_corpus(tmp_path / "c", {"a": [], "b": [" \n"]}, TOKENIZER)
    assert not (tmp_path / "c").exists()


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a": ["x"]}, TOKENIZER)
    with pytest.raises(DataError, match="written with tokenizer") as caught:
        Corpus.open(tmp_path, tokenizer_fingerprint="other")
    assert "aquachat tokenize" in (caught.value.hint or "")


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no corpus"):
        Corpus.open(tmp_path / "none")
    write_corpus(tmp_path, {"a": ["hello"]}, TOKENIZER)
    with pytest.raises(MissingFileError, match="no validation split"):
        Corpus.open(tmp_path, "validation")
    shard = tmp_path / "shard_00000.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"shard_00000\.bin` has 11 bytes, not 12"):
        Corpus.open(tmp_path)
    shard.write_bytes(whole[:-1] + b"?")
    with pytest.raises(DataError, match="not what was written"):
        verify_corpus(tmp_path)
    shard.unlink()
    with pytest.raises(MissingFileError, match="lacks"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "other"}'])
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(DataError, match="index"):
        Corpus.open(tmp_path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a": ["x"]}, TOKENIZER)
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "version": 2}))
    with pytest.raises(DataError, match="has version 2"):
        Corpus.open(tmp_path)


def test_sources_are_read_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_writer, "BATCH_BYTES", 100)
    told: list[int] = []
    read = 0

    def documents() -> Iterator[str]:
        nonlocal read
        for _ in range(52):
            read += 1
            yield "x" * 20
            assert read - sum(told) <= 6

    write_corpus(tmp_path, {"a": documents()}, TOKENIZER, progress=told.append)
    assert told == [5] * 10 + [2]


def test_documents_are_views_and_not_copies(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a": ["hello"]}, TOKENIZER)
    document = Corpus.open(tmp_path).document(0)
    assert isinstance(document, np.memmap)
    assert not document.flags.writeable
