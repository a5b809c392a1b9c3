"""nanochat's `tokenizer.pkl` without running it: a pickle of a `tiktoken.Encoding`.

A pickle is a program. This reader lets it name one class, which is replaced by a plain record, and
nothing else; any other name ends the reading before anything is called.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, Final

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.text.tokenizer import Tokenizer

PICKLE_FILE: Final = "tokenizer.pkl"
MAX_PICKLE_BYTES: Final = 256 * 2**20
_ALLOWED: Final = {("tiktoken.core", "Encoding"), ("tiktoken", "Encoding")}
_HINT: Final = (
    "on the machine that has nanochat, write `tokenizer.json` or one of our folders instead, and "
    "name it with `--tokenizer`"
)


class _Encoding:
    """Stands for `tiktoken.Encoding` and keeps what its pickle says."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Encoding]:
        """The record, for tiktoken's class alone."""
        if (module, name) in _ALLOWED:
            return _Encoding
        raise pickle.UnpicklingError(f"it names `{module}.{name}`")

    def persistent_load(self, pid: Any) -> Any:
        """Nothing is loaded from elsewhere."""
        raise pickle.UnpicklingError("it refers to something outside itself")


def read_tiktoken_pickle(path: Path) -> Tokenizer:
    """The tokenizer that nanochat pickled.

    Raises:
        MissingFileError: there is no such file.
        DataError: it holds anything but ranks, a pattern and special tokens.
    """
    try:
        if path.stat().st_size > MAX_PICKLE_BYTES:
            raise DataError(f"`{path}` is too large for a tokenizer", hint=_HINT)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no `{path}`", hint=_HINT) from error
    try:
        found = _Reader(io.BytesIO(content)).load()
    except Exception as error:
        # What a damaged or hostile pickle raises is whatever its instructions lead to.
        raise DataError(f"`{path}` is not read: {error}", hint=_HINT) from error
    state = found.state if isinstance(found, _Encoding) else None
    if not isinstance(state, dict):
        raise DataError(f"`{path}` is no pickle of a trained `tiktoken.Encoding`", hint=_HINT)
    return _tokenizer_of(state, path)


def _tokenizer_of(state: dict[str, Any], path: Path) -> Tokenizer:
    try:
        ranks: dict[bytes, int] = dict(state["mergeable_ranks"])
        specials: dict[str, int] = dict(state["special_tokens"])
        pattern = state["pat_str"]
        tokens = sorted(ranks, key=ranks.__getitem__)
        names = sorted(specials, key=specials.__getitem__)
        ids = [*(ranks[token] for token in tokens), *(specials[name] for name in names)]
        types = {*map(type, tokens)} == {bytes} and {*map(type, names)} <= {str}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"`{path}` holds no usable encoding ({error!r})", hint=_HINT) from error
    if not types or not isinstance(pattern, str) or ids != list(range(len(ids))):
        raise DataError(
            f"`{path}` holds an encoding whose ids have gaps, or special tokens among the others",
            hint=_HINT,
        )
    try:
        return Tokenizer(tuple(tokens), pattern, tuple(names))
    except ConfigError as error:
        raise DataError(
            f"`{path}` holds no usable encoding: {error.message}", hint=_HINT
        ) from error
