"""A tokenizer on disk: `bpe.txt` and `manifest.json`, readable by eye and by tiktoken.

`bpe.txt` holds a line per token, its bytes in base64 and its rank (`aGVsbG8= 300`). `manifest.json`
holds the rest and the SHA-256 of `bpe.txt`. Both are written beside their place and renamed, the
manifest last, so that a kill leaves the old tokenizer, the new one, or one that refuses to load.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aquachat.errors import DataError, MissingFileError
from aquachat.files import write_bytes

BPE_FILE: Final = "bpe.txt"
MANIFEST_FILE: Final = "manifest.json"
FORMAT_VERSION: Final = 1

_HINT: Final = "train it again with `aquachat tokenize`, or copy the whole folder again"


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What the two files hold."""

    tokens: tuple[bytes, ...]
    pattern: str
    special_names: tuple[str, ...]
    training: Mapping[str, Any]


def bpe_text(tokens: Sequence[bytes]) -> bytes:
    r"""The contents of `bpe.txt`, for example `b"AA== 0\nAQ== 1\n"` for the tokens 0 and 1."""
    lines = (b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens))
    return b"".join(lines)


def write_tokenizer_files(directory: Path, files: TokenizerFiles) -> None:
    """Write both files into a folder, which is made where it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    contents = bpe_text(files.tokens)
    num_tokens = len(files.tokens)
    manifest = {
        "format_version": FORMAT_VERSION,
        "pattern": files.pattern,
        "special_tokens": {
            name: num_tokens + index for index, name in enumerate(files.special_names)
        },
        "n_vocab": num_tokens + len(files.special_names),
        "bpe_sha256": hashlib.sha256(contents).hexdigest(),
        "training": dict(files.training),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(directory / BPE_FILE, contents)
    write_bytes(directory / MANIFEST_FILE, text.encode())


def read_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read and verify both files.

    Raises:
        MissingFileError: the folder or one of the files is not there.
        DataError: a file is truncated, from another tokenizer, or not in this format.
    """
    manifest_path, bpe_path = directory / MANIFEST_FILE, directory / BPE_FILE
    manifest = _parse_manifest(manifest_path, _read(manifest_path))
    contents = _read(bpe_path)
    if hashlib.sha256(contents).hexdigest() != manifest["bpe_sha256"]:
        raise DataError(
            f"`{bpe_path}` is not the file that `{manifest_path.name}` was written with "
            f"({len(contents)} bytes, another SHA-256)",
            hint=_HINT,
        )
    tokens = _parse_bpe(bpe_path, contents)
    special_ids: dict[str, int] = manifest["special_tokens"]
    expected = list(range(len(tokens), len(tokens) + len(special_ids)))
    if sorted(special_ids.values()) != expected or manifest["n_vocab"] != len(tokens) + len(
        special_ids
    ):
        raise DataError(
            f"`{manifest_path}` gives special tokens the ids {sorted(special_ids.values())}, "
            f"which do not follow the {len(tokens)} ranks of `{bpe_path.name}`",
            hint=_HINT,
        )
    return TokenizerFiles(
        tokens=tokens,
        pattern=manifest["pattern"],
        special_names=tuple(sorted(special_ids, key=special_ids.__getitem__)),
        training=manifest["training"],
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"there is no tokenizer file `{path}`", hint=_HINT) from error


def _parse_manifest(path: Path, contents: bytes) -> dict[str, Any]:
    kinds = {
        "pattern": str,
        "special_tokens": dict,
        "n_vocab": int,
        "bpe_sha256": str,
        "training": dict,
    }
    try:
        manifest = json.loads(contents)
    except ValueError as error:
        raise DataError(f"`{path}` is not JSON ({error})", hint=_HINT) from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"`{path}` has the format version {version}, this program reads {FORMAT_VERSION}",
            hint=_HINT,
        )
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            raise DataError(f"`{path}` has no usable `{key}`", hint=_HINT)
    if not all(type(token_id) is int for token_id in manifest["special_tokens"].values()):
        raise DataError(f"`{path}` has a special token without an id", hint=_HINT)
    checked: dict[str, Any] = manifest
    return checked


def _parse_bpe(path: Path, contents: bytes) -> tuple[bytes, ...]:
    tokens: list[bytes] = []
    for line_number, line in enumerate(contents.splitlines(), start=1):
        try:
            encoded, rank = line.split()
            token = base64.b64decode(encoded, validate=True)
            in_order = int(rank) == len(tokens)
        except (ValueError, binascii.Error) as error:
            raise DataError(
                f"line {line_number} of `{path}` is not a token and its rank"
            ) from error
        if not in_order:
            raise DataError(f"line {line_number} of `{path}` has the rank {int(rank)}", hint=_HINT)
        tokens.append(token)
    return tuple(tokens)
