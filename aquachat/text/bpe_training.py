"""Learning a vocabulary through the compiled extension, with every argument checked first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from aquachat.errors import ConfigError, DataError, MissingFileError, PreflightError

ProgressCallback = Callable[[str, int, int | None], object]
"""Called with `("count", bytes so far, None)`, then with `("merge", merges so far, merges)`."""

NUM_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class BpeRequest:
    """What to learn, apart from the text.

    Raises:
        ConfigError: a value that cannot be used.
    """

    vocab_size: int
    """Tokens in all, the special ones among them."""
    pattern: str
    special_tokens: Sequence[str]
    num_threads: int | None
    """None for all cores."""
    progress: ProgressCallback | None
    max_chars: int | None
    """Characters to read, from the start; None for all."""

    def __post_init__(self) -> None:
        check_special_names(self.special_tokens)
        num_special = len(self.special_tokens)
        if self.vocab_size < NUM_BYTES + num_special:
            raise ConfigError(
                f"a vocabulary of {self.vocab_size} tokens cannot hold the {NUM_BYTES} bytes and "
                f"{num_special} special tokens",
                hint=f"ask for at least {NUM_BYTES + num_special}",
            )
        if self.num_threads is not None and self.num_threads < 1:
            raise ConfigError(f"training cannot use {self.num_threads} threads", hint="give 1")
        if self.max_chars is not None and self.max_chars < 0:
            raise ConfigError(f"training cannot read {self.max_chars} characters", hint="give 1")


@dataclass(frozen=True, slots=True)
class LearnedTokens:
    """Tokens by rank, and what they were learned from."""

    tokens: tuple[bytes, ...]
    statistics: dict[str, int]
    """`num_documents`, `num_bytes` and `num_unique_pieces` (of two bytes or more)."""


def learn_from_iterator(documents: Iterable[str], request: BpeRequest) -> LearnedTokens:
    """Learn from documents in memory.

    Raises:
        ConfigError: the pattern does not compile.
        DataError: the pattern cannot be applied to a document.
        PreflightError: the compiled extension is missing.
        TypeError: a document is not a `str`.
    """
    extension = _load_extension()
    return _learn(extension, extension.train_from_iterator, documents, request)


def learn_from_files(paths: Iterable[str | os.PathLike[str]], request: BpeRequest) -> LearnedTokens:
    """Learn from UTF-8 files, each of which is one document.

    Raises:
        MissingFileError: there is no such file.
        DataError: a file cannot be read or is not UTF-8; and as `learn_from_iterator`.
    """
    names = [os.fspath(path) for path in paths]
    for name in names:
        if not os.path.isfile(name):
            raise MissingFileError(f"there is no file `{name}` to train on")
    extension = _load_extension()
    return _learn(extension, extension.train_from_files, names, request)


def check_special_names(names: Sequence[str]) -> None:
    """Refuse special tokens that are empty or named twice.

    Raises:
        ConfigError: there is one.
    """
    if len(set(names)) != len(names) or "" in names:
        raise ConfigError(f"a special token is empty or named twice: {', '.join(names)}")


def _learn(
    extension: ModuleType, train: Callable[..., Any], source: object, request: BpeRequest
) -> LearnedTokens:
    try:
        extension.split("", request.pattern)
    except extension.TokenizerError as error:
        raise ConfigError(str(error)) from error
    try:
        tokens, statistics = train(
            source,
            request.vocab_size - len(request.special_tokens),
            request.pattern,
            num_threads=request.num_threads,
            progress=request.progress,
            max_chars=request.max_chars,
        )
    except extension.TokenizerError as error:
        raise DataError(str(error)) from error
    return LearnedTokens(tuple(tokens), statistics)


def _load_extension() -> ModuleType:
    try:
        from aquachat import _tokenizer
    except ImportError as error:
        raise PreflightError(
            "BPE training needs the compiled module `aquachat._tokenizer`, which is not installed",
            hint="install Rust, then run `pip install .` in the source folder, "
            "or copy a trained tokenizer here",
        ) from error
    return _tokenizer
