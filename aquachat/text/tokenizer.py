"""Byte-level BPE: training in Rust, use through tiktoken.

Token ids are ranks (0..255 are not necessarily the bytes 0..255, but those our trainer makes are),
followed by the ids of the special tokens. tiktoken, numpy and the extension are imported where they
are used, so that importing this module costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, final

from aquachat.errors import ConfigError, DataError
from aquachat.text.bpe_training import (
    NUM_BYTES,
    BpeRequest,
    LearnedTokens,
    ProgressCallback,
    check_special_names,
    learn_from_files,
    learn_from_iterator,
)
from aquachat.text.long_whitespace import (
    MAX_RUN_CHARS,
    may_have_doubles,
    split_around_doubles,
)
from aquachat.text.patterns import NANOCHAT, is_known_family, without_lookahead
from aquachat.text.stream_decoder import StreamDecoder
from aquachat.text.tokenizer_files import (
    TokenizerFiles,
    bpe_text,
    read_tokenizer_files,
    write_tokenizer_files,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import tiktoken

__all__ = ["SPECIAL_TOKENS", "ProgressCallback", "StreamDecoder", "Tokenizer"]

SPECIAL_TOKENS: Final = (
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
)

CHARS_PER_STRETCH: Final = 100
"""A text cut into shorter stretches than this is encoded whole, with the slower pattern."""


@final
@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token ids and back; immutable, and equal to another that has the same fingerprint.

    Example:
        tokenizer = Tokenizer.train_from_iterator(["one text", "and another"], vocab_size=300)
        tokenizer.decode(tokenizer.encode_ordinary("text")) == "text"

    Raises:
        ConfigError: tokens or special tokens that repeat or are empty, or a single byte that no
            token holds (`tokens` must be able to spell any text).
    """

    tokens: tuple[bytes, ...]
    """The bytes of each token, by rank."""
    pattern: str = NANOCHAT
    """The regular expression that cuts text into pieces."""
    special_names: tuple[str, ...] = SPECIAL_TOKENS
    """The special tokens in the order of their ids, which follow the ranks."""
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How it was trained, for the record: JSON values, no part of the fingerprint."""

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens) or b"" in self.tokens:
            raise ConfigError("a token is empty or has two ranks")
        missing = {bytes([byte]) for byte in range(NUM_BYTES)}.difference(self.tokens)
        if missing:
            raise ConfigError(f"no token holds the single byte {min(missing)!r}")
        check_special_names(self.special_names)

    @classmethod
    def train_from_iterator(
        cls,
        iterator: Iterable[str],
        vocab_size: int,
        *,
        pattern: str = NANOCHAT,
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
        num_threads: int | None = None,
        progress: ProgressCallback | None = None,
        max_chars: int | None = None,
    ) -> Tokenizer:
        """Learn a vocabulary of `vocab_size` tokens, the special ones among them.

        A corpus with too few pairs to merge gives a smaller vocabulary; `n_vocab` tells. The result
        depends on neither the order of the documents nor `num_threads` (default: all cores). With
        `max_chars`, only that many characters are read, from the start.

        Raises:
            ConfigError: `vocab_size`, the pattern or the special tokens cannot be used.
            DataError: the pattern cannot be applied to a document.
            PreflightError: the compiled extension is missing.
            TypeError: a document is not a `str`.
        """
        request = BpeRequest(vocab_size, pattern, special_tokens, num_threads, progress, max_chars)
        return cls._learned(learn_from_iterator(iterator, request), request)

    @classmethod
    def train_from_files(
        cls,
        paths: Iterable[str | os.PathLike[str]],
        vocab_size: int,
        *,
        pattern: str = NANOCHAT,
        special_tokens: Sequence[str] = SPECIAL_TOKENS,
        num_threads: int | None = None,
        progress: ProgressCallback | None = None,
        max_chars: int | None = None,
    ) -> Tokenizer:
        """Learn a vocabulary from UTF-8 text files, each of which is one document.

        Large files are read in blocks, which changes no count. Otherwise as `train_from_iterator`.

        Raises:
            MissingFileError: there is no such file.
            DataError: a file cannot be read or is not UTF-8.
        """
        request = BpeRequest(vocab_size, pattern, special_tokens, num_threads, progress, max_chars)
        return cls._learned(learn_from_files(paths, request), request)

    @classmethod
    def _learned(cls, learned: LearnedTokens, request: BpeRequest) -> Tokenizer:
        training = {
            "vocab_size": request.vocab_size,
            "max_chars": request.max_chars,
            **learned.statistics,
        }
        return cls(learned.tokens, request.pattern, tuple(request.special_tokens), training)

    @property
    def n_vocab(self) -> int:
        """How many ids there are, special tokens included."""
        return len(self.tokens) + len(self.special_names)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The id of each special token."""
        first = len(self.tokens)
        return {name: first + index for index, name in enumerate(self.special_names)}

    def special_id(self, name: str) -> int:
        """The id of a special token.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.special_names:
            raise ConfigError(f"the tokenizer has no special token `{name}`")
        return len(self.tokens) + self.special_names.index(name)

    def mergeable_ranks(self) -> dict[bytes, int]:
        """The rank of each token that is not special."""
        return {token: rank for rank, token in enumerate(self.tokens)}

    def token_bytes(self) -> npt.NDArray[np.int32]:
        """The length of each token in bytes, 0 for special tokens: (n_vocab,) int32.

        Exact also for tokens that are no text of their own, such as half a character.
        """
        import numpy as np

        lengths = np.zeros(self.n_vocab, dtype=np.int32)
        lengths[: len(self.tokens)] = [len(token) for token in self.tokens]
        return lengths

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which nothing is special, whatever it looks like.

        A lone surrogate is encoded as U+FFFD.
        """
        parts = [encoding.encode_ordinary(stretch) for stretch, encoding in self._stretches(text)]
        return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))

    def encode(
        self,
        text: str,
        *,
        allowed_special: Collection[str] | Literal["all"] = frozenset(),
        disallowed_special: Collection[str] | Literal["all"] = "all",
    ) -> list[int]:
        """The ids of a text in which the names of `allowed_special` are special tokens.

        Raises:
            DataError: the text holds a name of `disallowed_special` (by default, any that is not
                allowed).
            ConfigError: a name is not that of a special token.
        """
        allowed = self._names(allowed_special)
        disallowed = self._names(disallowed_special) - (
            allowed if disallowed_special == "all" else frozenset()
        )
        if disallowed and (found := _any_of(disallowed).search(text)):
            raise DataError(
                f"the text holds the special token `{found.group()}`",
                hint="allow it with `allowed_special`, or use `encode_ordinary`",
            )
        if not allowed:
            return self.encode_ordinary(text)
        ids: list[int] = []
        start = 0
        for found in _any_of(allowed).finditer(text):
            ids += self.encode_ordinary(text[start : found.start()])
            ids.append(self.special_id(found.group()))
            start = found.end()
        return ids + self.encode_ordinary(text[start:])

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> list[list[int]]:
        """`encode_ordinary` of many texts, on `num_threads` threads (default: all cores)."""
        num_workers = min(num_threads or os.cpu_count() or 1, len(texts))
        if num_workers <= 1:
            return [self.encode_ordinary(text) for text in texts]
        self.encode_ordinary(texts[0][:1])
        with ThreadPoolExecutor(num_workers) as pool:
            return list(pool.map(self.encode_ordinary, texts))

    def encode_to_numpy(self, text: str) -> npt.NDArray[np.uint32]:
        """`encode_ordinary` as an array: (T,) uint32."""
        import numpy as np

        if not _is_encodable(text):
            return np.array(self.encode_ordinary(text), dtype=np.uint32)
        arrays: list[npt.NDArray[np.uint32]] = [
            encoding.encode_to_numpy(stretch, disallowed_special=())
            for stretch, encoding in self._stretches(text)
        ]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _stretches(self, text: str) -> Iterable[tuple[str, tiktoken.Encoding]]:
        """Stretches that together are the text, and what each has to be encoded with."""
        if not is_known_family(self.pattern):
            return ((text, self._encoding),)
        if not may_have_doubles(text, self.pattern):
            return ((text, self._plain_encoding),)
        stretches = list(split_around_doubles(text, self.pattern))
        if len(stretches) > len(text) // CHARS_PER_STRETCH and len(text) <= MAX_RUN_CHARS:
            return ((text, self._encoding),)
        return [
            (stretch, self._piece_encoding if is_piece else self._plain_encoding)
            for stretch, is_piece in stretches
        ]

    def single_token_id(self, text: str) -> int | None:
        """The id that a text is encoded to, or None where it is not exactly one."""
        ids = self.encode_ordinary(text)
        return ids[0] if len(ids) == 1 else None

    def decode(self, ids: Sequence[int], errors: str = "replace") -> str:
        """The text of ids; what is not UTF-8 becomes U+FFFD, special tokens their names.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ids.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        plain = [int(token_id) for token_id in ids]
        if plain and not (min(plain) >= 0 and max(plain) < self.n_vocab):
            bad = next(token_id for token_id in plain if not 0 <= token_id < self.n_vocab)
            raise DataError(f"token id {bad} is not in the vocabulary of {self.n_vocab}")
        return self._encoding.decode_bytes(plain)

    def decode_single_token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id.

        Raises:
            DataError: the id is not in the vocabulary.
        """
        if not 0 <= token_id < self.n_vocab:
            raise DataError(f"token id {token_id} is not in the vocabulary of {self.n_vocab}")
        if token_id < len(self.tokens):
            return self.tokens[token_id]
        return self.special_names[token_id - len(self.tokens)].encode()

    def to_tiktoken(self) -> tiktoken.Encoding:
        """The same tokenizer as a tiktoken encoding."""
        return self._make_encoding(f"aquachat-{self.fingerprint[:12]}", self.pattern)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ranks, pattern and special tokens, in hexadecimal."""
        rest = json.dumps([self.pattern, list(self.special_names)], ensure_ascii=True)
        digest = hashlib.sha256(bpe_text(self.tokens))
        digest.update(rest.encode())
        return digest.hexdigest()

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write `bpe.txt` and `manifest.json`, replacing an older tokenizer atomically."""
        files = TokenizerFiles(self.tokens, self.pattern, self.special_names, self.training)
        write_tokenizer_files(Path(directory), files)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Tokenizer:
        """Read what `save` wrote.

        Raises:
            MissingFileError: the folder or one of its files is not there.
            DataError: a file is truncated, altered or from another tokenizer.
        """
        files = read_tokenizer_files(Path(directory))
        try:
            return cls(files.tokens, files.pattern, files.special_names, files.training)
        except ConfigError as error:
            raise DataError(f"`{directory}` holds no usable tokenizer: {error.message}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Tokenizer(n_vocab={self.n_vocab}, fingerprint={self.fingerprint[:12]!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        return self.to_tiktoken()

    @cached_property
    def _plain_encoding(self) -> tiktoken.Encoding:
        """Faster, and equal where no whitespace is doubled."""
        return self._make_encoding("aquachat-plain", without_lookahead(self.pattern))

    @cached_property
    def _piece_encoding(self) -> tiktoken.Encoding:
        """Encodes any text as a single piece."""
        return self._make_encoding("aquachat-piece", r"(?s:.+)")

    def _make_encoding(self, name: str, pattern: str) -> tiktoken.Encoding:
        import tiktoken

        return tiktoken.Encoding(
            name,
            pat_str=pattern,
            mergeable_ranks=self.mergeable_ranks(),
            special_tokens=self.special_tokens,
        )

    def _names(self, names: Collection[str] | Literal["all"]) -> frozenset[str]:
        if names == "all":
            return frozenset(self.special_names)
        chosen = frozenset(names)
        for name in chosen.difference(self.special_names):
            raise ConfigError(f"the tokenizer has no special token `{name}`")
        return chosen


def _any_of(names: Collection[str]) -> re.Pattern[str]:
    """Matches any of the names, the longest where one begins another."""
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))


def _is_encodable(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
