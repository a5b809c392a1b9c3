"""Rows that belong together, and a held-out slice that takes them whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from aquachat.data.hygiene.minhash import near_pairs
from aquachat.data.hygiene.ngrams import NgramIndex

HELDOUT_ROWS: Final = 5000
HELDOUT_FRACTION: Final = 0.2


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Which rows of a pool are held out."""

    rows: frozenset[int]
    num_groups: int
    """Groups that were held out."""
    largest_group: int
    """Rows in the largest group of the whole pool."""


def choose_held_out(
    questions: Sequence[str],
    texts: Sequence[str],
    *,
    max_rows: int = HELDOUT_ROWS,
    fraction: float = HELDOUT_FRACTION,
) -> HeldOut:
    """Rows to hold out: `max_rows`, or `fraction` of a smaller pool, in whole groups.

    Rows with the same question, near duplicates, and rows of which one holds words of the other's
    question in the sense of `aquachat.data.hygiene.ngrams` stay on one side. Groups are taken in
    the order of a hash of their alphabetically first question, so neither the order of the rows nor
    the size of a group decides; one that no longer fits is passed over.

    Args:
        questions: of each row, normalised.
        texts: all that is learned from each row, normalised.
        max_rows: at most so many.
        fraction: at most this part of the pool.
    """
    target = min(max_rows, int(fraction * len(questions)))
    groups = group_rows(questions, texts)
    chosen: set[int] = set()
    num_groups = 0
    for group in sorted(groups, key=lambda rows: _hash_of(min(questions[row] for row in rows))):
        if len(chosen) + len(group) <= target:
            chosen.update(group)
            num_groups += 1
    return HeldOut(frozenset(chosen), num_groups, max(map(len, groups), default=0))


def group_rows(questions: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Rows that must stay together; see `choose_held_out`."""
    first_of: dict[str, int] = {}
    own = [first_of.setdefault(question, row) for row, question in enumerate(questions)]
    rows_of_distinct = list(first_of.values())
    distinct = list(first_of)
    links = list(enumerate(own))
    links += [
        (rows_of_distinct[pair.left], rows_of_distinct[pair.right]) for pair in near_pairs(distinct)
    ]
    links += [
        (row, rows_of_distinct[question]) for row, question in NgramIndex(distinct).links(texts)
    ]
    return connected(len(questions), links)


def connected(count: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The groups of 0..count-1 that links join, each in order, by their first members."""
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for node in range(count):
        groups.setdefault(root(node), []).append(node)
    return list(groups.values())


def _hash_of(question: str) -> bytes:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()
