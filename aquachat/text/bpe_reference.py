"""Byte-level BPE as plainly as it can be written: the oracle that the fast code is tested against.

Far too slow for real use. Splitting needs the `regex` package, which tiktoken depends on; its
version of Unicode may be another than that of the compiled code.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from aquachat.errors import PreflightError


def split_text(text: str, pattern: str) -> list[str]:
    """The pieces of a text, those of one character included.

    Raises:
        PreflightError: the `regex` package is not installed.
    """
    try:
        regex: Any = importlib.import_module("regex")
    except ImportError as error:
        raise PreflightError(
            "the reference tokenizer needs the package `regex`, which is not installed",
            hint="run `pip install regex`",
        ) from error
    return [found.group() for found in regex.finditer(pattern, text)]


def learn_tokens(documents: Iterable[str], num_ranks: int, pattern: str) -> list[bytes]:
    """The tokens by rank: the 256 bytes, then a token per merge, until nothing is left to merge.

    The pair with the highest count is merged, of equals the one with the smallest ids, the left id
    first. Every pair is counted anew for every merge.
    """
    pieces = Counter(
        tuple(piece.encode()) for text in documents for piece in split_text(text, pattern)
    )
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < num_ranks:
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, count in pieces.items():
            for pair in pairwise(ids):
                pairs[pair] += count
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged_pieces: Counter[tuple[int, ...]] = Counter()
        for ids, count in pieces.items():
            merged_pieces[_merged(ids, (left, right), len(tokens))] += count
        pieces = merged_pieces
        tokens.append(tokens[left] + tokens[right])
    return tokens


def encode_text(text: str, ranks: Mapping[bytes, int], pattern: str) -> list[int]:
    """The ids of a text: in each piece, the neighbours whose union has the lowest rank are joined.

    This is tiktoken's rule, which reads ranks and not merges.
    """
    ids: list[int] = []
    for piece in split_text(text, pattern):
        parts = [bytes([byte]) for byte in piece.encode()]
        while True:
            joined = [
                (ranks[left + right], index)
                for index, (left, right) in enumerate(pairwise(parts))
                if left + right in ranks
            ]
            if not joined:
                break
            _, index = min(joined)
            parts[index : index + 2] = [parts[index] + parts[index + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def _merged(ids: tuple[int, ...], pair: tuple[int, int], merged_id: int) -> tuple[int, ...]:
    """Replace every occurrence of a pair, from the left."""
    out: list[int] = []
    index = 0
    while index < len(ids):
        if ids[index : index + 2] == pair:
            out.append(merged_id)
            index += 2
        else:
            out.append(ids[index])
            index += 1
    return tuple(out)
