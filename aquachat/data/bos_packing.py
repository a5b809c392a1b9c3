"""Packing documents into rows by their lengths alone: nothing is lost and little is padded.

A document longer than a row is cut into full rows and a rest, and the rests and the short documents
are put together best fit first, longest first (best-fit decreasing; H. Ding and others, "Fewer
truncations improve language modeling", 2024). Lengths are whole numbers up to the row length T, so
all documents of one length are placed at once, and the number of steps does not grow with that of
the documents (M. M. Krell and others, "Efficient sequence packing", 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pieces:
    """Documents cut for rows of T positions. All (pieces,) int64, in the order of the documents."""

    document: NDArray[np.int64]
    """Which of the given documents."""
    start: NDArray[np.int64]
    """The first of its tokens; a piece that starts behind 0 gets a `<|bos|>` before it."""
    num_tokens: NDArray[np.int64]

    @property
    def num_positions(self) -> NDArray[np.int64]:
        """Places taken in a row: the tokens, and the `<|bos|>` of a piece that goes on."""
        return self.num_tokens + (self.start > 0)


def cut_documents(lengths: NDArray[np.int64], row_length: int) -> Pieces:
    """Cut documents of these lengths: at T tokens, and then every T - 1.

    Example:
        cut_documents(np.array([9, 2]), 4).num_tokens   # [4, 3, 2, 2]
    """
    further = row_length - 1
    num_pieces = 1 - (-np.maximum(lengths - row_length, 0) // further)
    document = np.repeat(np.arange(len(lengths)), num_pieces)
    firsts = np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    number = np.arange(len(document)) - firsts
    start = np.where(number == 0, 0, row_length + (number - 1) * further)
    room = np.where(number == 0, row_length, further)
    return Pieces(document, start, np.minimum(lengths[document] - start, room))


def best_fit_moves(counts: Sequence[int], row_length: int) -> Iterator[tuple[int, int, int]]:
    """How to place pieces, as (length, room, count): `count` pieces go where `room` is left.

    A room of `row_length` is a new row. Lengths come in falling order.

    Args:
        counts: how many pieces have each length, from 0 to T.
        row_length: T.
    """
    rows_with = [0] * (row_length + 1)
    rooms = 0  # bit r is set where a row with room r is open
    for length in range(row_length, 0, -1):
        left = counts[length]
        while left:
            fitting = rooms >> length
            room = length + (fitting & -fitting).bit_length() - 1 if fitting else row_length
            # One piece for each row that will be needed: the others follow where these leave room.
            count = -(-left // (room // length))
            if fitting:
                count = min(count, rows_with[room])
                rows_with[room] -= count
                if not rows_with[room]:
                    rooms &= ~(1 << room)
            yield length, room, count
            left -= count
            if room > length:
                rows_with[room - length] += count
                rooms |= 1 << (room - length)


def count_rows(lengths: NDArray[np.int64], row_length: int) -> int:
    """How many rows `pack_documents` makes of documents of these lengths."""
    counts = _histogram(cut_documents(lengths, row_length).num_positions, row_length)
    rows_with = np.zeros(row_length + 1, dtype=np.int64)
    for length, room, count in best_fit_moves(counts, row_length):
        rows_with[room] -= count if room < row_length else 0
        rows_with[room - length] += count
    fill = row_length - np.repeat(np.arange(row_length + 1), rows_with)
    return len(fill) - _num_dissolved(fill[::-1], row_length)


def pack_documents(
    lengths: NDArray[np.int64], row_length: int
) -> tuple[Pieces, NDArray[np.int64], int]:
    """Pieces of all documents, the row of each piece, and how many rows there are.

    Where best fit leaves much room (documents a little longer than half a row), the emptiest rows
    are dissolved, and their documents cut to fill the gaps of the others.

    Args:
        lengths: (documents,) tokens, at least 1.
        row_length: T, at least 2.
    """
    pieces = cut_documents(lengths, row_length)
    row_of, num_rows = pack_lengths(pieces.num_positions, row_length)
    fill = np.bincount(row_of, weights=pieces.num_positions, minlength=num_rows).astype(np.int64)
    order = np.argsort(fill, kind="stable")
    num_dissolved = _num_dissolved(fill[order], row_length)
    if num_dissolved == 0:
        return pieces, row_of, num_rows
    is_kept = np.ones(num_rows, dtype=bool)
    is_kept[order[:num_dissolved]] = False
    gaps = order[num_dissolved:]
    gaps = gaps[row_length - fill[gaps] >= smallest_gap(row_length)]
    stays = is_kept[row_of]
    poured, gap_of = _pour(_chosen(pieces, ~stays), row_length - 1 - fill[gaps])
    packed = _joined(_chosen(pieces, stays), poured)
    rows = np.concatenate((row_of[stays], gaps[gap_of]))
    return packed, (np.cumsum(is_kept) - 1)[rows], num_rows - num_dissolved


def pack_lengths(lengths: NDArray[np.int64], row_length: int) -> tuple[NDArray[np.int64], int]:
    """Best-fit decreasing: the row of each piece, (pieces,) int64, and how many rows there are.

    Args:
        lengths: (pieces,) from 1 to T.
        row_length: T.
    """
    by_length = np.argsort(-lengths, kind="stable")
    row_of = np.empty(len(lengths), dtype=np.int64)
    rows_by_room: list[list[NDArray[np.int64]]] = [[] for _ in range(row_length + 1)]
    num_rows = placed = 0
    for length, room, count in best_fit_moves(_histogram(lengths, row_length), row_length):
        if room == row_length:
            rows = np.arange(num_rows, num_rows + count)
            num_rows += count
        else:
            rows = _take(rows_by_room[room], count)
        row_of[by_length[placed : placed + count]] = rows
        placed += count
        if room > length:
            rows_by_room[room - length].append(rows)
    return row_of, num_rows


def smallest_gap(row_length: int) -> int:
    """Room that is worth cutting a document for; less is padded."""
    return max(2, row_length // 64)


def _num_dissolved(fill: NDArray[np.int64], row_length: int) -> int:
    """How many of the emptiest rows fit into the gaps of the others; `fill` is rising."""
    room = row_length - fill
    usable = np.where(room >= smallest_gap(row_length), room - 1, 0)
    left = usable.sum() - np.cumsum(usable)
    return int(np.count_nonzero(np.cumsum(fill) <= left))


def _pour(pieces: Pieces, rooms: NDArray[np.int64]) -> tuple[Pieces, NDArray[np.int64]]:
    """Cut pieces so that, end to end, they fill `rooms`; also the room of each new piece.

    A room has one more position than is told here, for the `<|bos|>` of a piece that begins in it
    and goes on with a document.
    """
    piece_ends, room_ends = np.cumsum(pieces.num_positions), np.cumsum(rooms)
    ends = np.union1d(piece_ends, room_ends[room_ends < piece_ends[-1]])
    begins = np.concatenate(([0], ends[:-1]))
    source = np.searchsorted(piece_ends, begins, side="right")
    room = np.searchsorted(room_ends, begins, side="right")
    offset = begins - (piece_ends - pieces.num_positions)[source]
    # The first position of a piece that goes on is its `<|bos|>`, not a token.
    has_bos = pieces.start[source] > 0
    start = pieces.start[source] + np.where(has_bos, np.maximum(offset - 1, 0), offset)
    num_tokens = ends - begins - (has_bos & (offset == 0))
    cut = Pieces(pieces.document[source], start, num_tokens)
    return _chosen(cut, num_tokens > 0), room[num_tokens > 0]


def _histogram(lengths: NDArray[np.int64], row_length: int) -> list[int]:
    counts: list[int] = np.bincount(lengths, minlength=row_length + 1).tolist()
    return counts


def _chosen(pieces: Pieces, mask: NDArray[np.bool_]) -> Pieces:
    return Pieces(pieces.document[mask], pieces.start[mask], pieces.num_tokens[mask])


def _joined(first: Pieces, second: Pieces) -> Pieces:
    return Pieces(
        np.concatenate((first.document, second.document)),
        np.concatenate((first.start, second.start)),
        np.concatenate((first.num_tokens, second.num_tokens)),
    )


def _take(stack: list[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """Take `count` rows off a stack of groups of rows."""
    taken = []
    while count:
        rows = stack.pop()
        if len(rows) > count:
            stack.append(rows[count:])
            rows = rows[:count]
        taken.append(rows)
        count -= len(rows)
    return taken[0] if len(taken) == 1 else np.concatenate(taken)
