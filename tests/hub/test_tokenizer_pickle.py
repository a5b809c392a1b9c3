from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import DataError, MissingFileError
from aquachat.hub.tokenizer_pickle import read_tiktoken_pickle
from aquachat.text import Tokenizer


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_encoding_is_read_in_every_protocol(
    tmp_path: Path, tokenizer: Tokenizer, protocol: int
):
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(pickle.dumps(tokenizer.to_tiktoken(), protocol=protocol))
    assert read_tiktoken_pickle(file) == tokenizer


class Hostile:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.proof}",))


def test_a_pickle_that_is_a_program_is_not_run(tmp_path: Path, tokenizer: Tokenizer):
    proof, file = tmp_path / "ran", tmp_path / "tokenizer.pkl"
    for content in (Hostile(proof), [tokenizer.to_tiktoken(), Hostile(proof)]):
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=r"posix.system|nt.system") as caught:
            read_tiktoken_pickle(file)
        assert "tokenizer.json" in str(caught.value.hint)
    assert not proof.exists()


def test_the_reader_allows_no_other_name_of_tiktoken(tmp_path: Path):
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(pickle.dumps(tiktoken.get_encoding))
    with pytest.raises(DataError, match=r"tiktoken.registry.get_encoding"):
        read_tiktoken_pickle(file)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_pickle_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, data: st.DataObject
):
    content = bytearray(pickle.dumps(tokenizer.to_tiktoken()))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    file = tmp_path_factory.getbasetemp() / "tokenizer.pkl"
    file.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        read_tiktoken_pickle(file)


@pytest.mark.parametrize(
    "change",
    [
        {"mergeable_ranks": {b"a": 0}},
        {"mergeable_ranks": {"a": 0}},
        {"special_tokens": {"<|bos|>": 5}},
        {"pat_str": None},
    ],
)
def test_an_encoding_that_cannot_be_ours_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, change: dict[str, Any]
):
    encoding = tokenizer.to_tiktoken()
    state = {**encoding.__getstate__(), **change}
    content = pickle.dumps(Pickled(state))
    assert any(op.name == "BUILD" for op, _, _ in pickletools.genops(content))
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"encoding|cannot be used"):
        read_tiktoken_pickle(file)


class Pickled:
    """Pickles as a `tiktoken.Encoding` with this state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return (tiktoken.Encoding.__new__, (tiktoken.Encoding,), self.state)


def test_a_named_encoding_and_a_missing_file_are_refused(tmp_path: Path):
    with pytest.raises(MissingFileError, match="there is no"):
        read_tiktoken_pickle(tmp_path / "tokenizer.pkl")
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(pickle.dumps("cl100k_base"))
    with pytest.raises(DataError, match="no pickle of a trained"):
        read_tiktoken_pickle(file)
