from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tiktoken.load import load_tiktoken_bpe

from aquachat.errors import DataError, MissingFileError
from aquachat.text import Tokenizer
from aquachat.text.patterns import PATTERNS


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    tokenizer.save(tmp_path / "new" / "tok")
    return tmp_path / "new" / "tok"


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | changes), encoding="utf-8")


def test_loading_gives_what_was_saved(saved: Path, tokenizer: Tokenizer) -> None:
    loaded = Tokenizer.load(saved)
    assert loaded == tokenizer
    assert loaded.special_tokens == tokenizer.special_tokens
    assert loaded.training == tokenizer.training
    assert sorted(os.listdir(saved)) == ["bpe.txt", "manifest.json"]


def test_any_pattern_and_special_tokens_survive(tmp_path: Path) -> None:
    tokens = tuple(bytes([byte]) for byte in reversed(range(256)))
    names = ("<|é|>", "<|b|>")
    original = Tokenizer(tokens, PATTERNS["gpt2"], names, {"kind": "byte", "sizes": [1, 2]})
    original.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.tokens, loaded.pattern, loaded.special_names, loaded.training) == (
        tokens,
        PATTERNS["gpt2"],
        names,
        {"kind": "byte", "sizes": [1, 2]},
    )


def test_the_manifest_says_what_is_saved(saved: Path, tokenizer: Tokenizer) -> None:
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["format_version"] == 1
    assert manifest["pattern"] == tokenizer.pattern
    assert manifest["special_tokens"] == tokenizer.special_tokens
    assert manifest["n_vocab"] == tokenizer.n_vocab == 600


def test_tiktoken_reads_the_ranks(saved: Path, tokenizer: Tokenizer) -> None:
    assert load_tiktoken_bpe(str(saved / "bpe.txt")) == tokenizer.mergeable_ranks()


def test_saving_again_replaces_the_older_tokenizer(saved: Path, documents: list[str]) -> None:
    other = Tokenizer.train_from_iterator(documents, 400)
    other.save(saved)
    assert Tokenizer.load(saved) == other
    assert sorted(os.listdir(saved)) == ["bpe.txt", "manifest.json"]


def test_a_kill_between_the_two_files_is_noticed(
    saved: Path, documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_replace = os.replace

    def killed_at_the_manifest(source: str, target: Path) -> None:
        if target.name == "manifest.json":
            raise KeyboardInterrupt
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        Tokenizer.train_from_iterator(documents, 400).save(saved)
    assert sorted(os.listdir(saved)) == ["bpe.txt", "manifest.json"]
    with pytest.raises(DataError, match="is not the file"):
        Tokenizer.load(saved)


@pytest.mark.parametrize("name", ["bpe.txt", "manifest.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(MissingFileError, match=name) as caught:
        Tokenizer.load(saved)
    assert "aquachat tokenize" in str(caught.value.hint)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="absent"):
        Tokenizer.load(tmp_path / "absent")


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -9])
def test_a_truncated_file_is_refused(saved: Path, keep: int) -> None:
    for name in ("bpe.txt", "manifest.json"):
        contents = (saved / name).read_bytes()
        (saved / name).write_bytes(contents[:keep])
        if name == "manifest.json" and contents[:keep].rstrip() == contents.rstrip():
            continue
        with pytest.raises(DataError, match=name):
            Tokenizer.load(saved)
        (saved / name).write_bytes(contents)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"pattern": 3}, "no usable `pattern`"),
        ({"special_tokens": ["<|bos|>"]}, "no usable `special_tokens`"),
        ({"special_tokens": {"<|bos|>": "591"}}, "without an id"),
        ({"special_tokens": {"<|bos|>": 7}}, r"the ids \[7\]"),
        ({"n_vocab": 601}, "do not follow"),
        ({"training": None}, "no usable `training`"),
    ],
)
def test_a_wrong_manifest_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    change_manifest(saved, **changes)
    with pytest.raises(DataError, match=message):
        Tokenizer.load(saved)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"YQ== 97\n", b"YQ== 98\n", "rank 98"),
        (b"YQ== 97\n", b"Y! 97\n", "line 98 .* is not a token"),
        (b"YQ== 97\n", b"YQ==\n", "line 98 .* is not a token"),
        (b"YQ== 97\n", b"Yg== 97\n", "two ranks"),
    ],
)
def test_wrong_ranks_are_refused_even_with_their_hash(
    saved: Path, old: bytes, new: bytes, message: str
) -> None:
    import hashlib

    path = saved / "bpe.txt"
    contents = path.read_bytes().replace(old, new)
    path.write_bytes(contents)
    change_manifest(saved, bpe_sha256=hashlib.sha256(contents).hexdigest())
    with pytest.raises(DataError, match=message):
        Tokenizer.load(saved)
