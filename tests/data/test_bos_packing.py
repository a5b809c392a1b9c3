from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.bos_packing import (
    best_fit_moves,
    count_rows,
    cut_documents,
    pack_documents,
    pack_lengths,
    smallest_gap,
)

lengths = st.lists(st.integers(1, 90), min_size=1, max_size=80).map(
    lambda values: np.array(values, dtype=np.int64)
)


@settings(deadline=None, max_examples=200)
@given(lengths=lengths, row_length=st.integers(2, 40))
def test_every_token_of_every_document_is_in_one_piece(
    lengths: np.ndarray, row_length: int
) -> None:
    pieces, row_of, num_rows = pack_documents(lengths, row_length)
    assert (pieces.num_tokens > 0).all()
    for document, length in enumerate(lengths):
        mine = pieces.document == document
        order = np.argsort(pieces.start[mine])
        starts, counts = pieces.start[mine][order], pieces.num_tokens[mine][order]
        assert np.array_equal(starts, np.cumsum(counts) - counts)
        assert counts.sum() == length
    fill = np.bincount(row_of, weights=pieces.num_positions, minlength=num_rows)
    assert len(fill) == num_rows
    assert fill.min() > 0
    assert fill.max() <= row_length


@settings(deadline=None, max_examples=200)
@given(lengths=lengths, row_length=st.integers(2, 40))
def test_rows_are_counted_without_being_made(lengths: np.ndarray, row_length: int) -> None:
    assert count_rows(lengths, row_length) == pack_documents(lengths, row_length)[2]


@settings(deadline=None, max_examples=100)
@given(lengths=lengths, row_length=st.integers(90, 120))
def test_lengths_are_packed_best_fit_decreasing(lengths: np.ndarray, row_length: int) -> None:
    row_of, num_rows = pack_lengths(lengths, row_length)
    rooms: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = [room for room in rooms if room >= length]
        room = min(fitting) if fitting else row_length
        if fitting:
            rooms.remove(room)
        rooms.append(room - length)
    fill = np.bincount(row_of, weights=lengths, minlength=num_rows).astype(int)
    assert sorted(fill.tolist()) == sorted(row_length - room for room in rooms)


def test_moves_place_everything_and_name_rooms_that_are_there() -> None:
    moves = list(best_fit_moves([0, 3, 0, 3, 0, 2, 0, 0, 1], 8))
    assert moves == [(8, 8, 1), (5, 8, 2), (3, 3, 2), (3, 8, 1), (1, 5, 1), (1, 4, 1), (1, 3, 1)]


def test_a_document_is_cut_where_rows_end_and_goes_on_behind_a_bos() -> None:
    pieces = cut_documents(np.array([9, 2]), 4)
    assert pieces.num_tokens.tolist() == [4, 3, 2, 2]
    assert pieces.start.tolist() == [0, 4, 7, 0]
    assert pieces.num_positions.tolist() == [4, 4, 3, 2]


@pytest.mark.parametrize("row_length", [128, 512, 2048])
@pytest.mark.parametrize("mean", [50, 1200, 30_000])
def test_little_is_padded_whatever_the_lengths(row_length: int, mean: int) -> None:
    random = np.random.default_rng(mean)
    lengths = 1 + (mean * random.lognormal(0.0, 0.3, 3000)).astype(np.int64)
    pieces, _, num_rows = pack_documents(lengths, row_length)
    places = num_rows * row_length
    assert places - pieces.num_positions.sum() <= smallest_gap(row_length) / row_length * places
    whole = lengths <= row_length
    cut = np.unique(pieces.document[pieces.start > 0])
    assert whole[cut].sum() <= 0.4 * max(1, whole.sum())


def test_half_and_a_bit_is_cut_rather_than_padded() -> None:
    lengths = np.full(1000, 70)
    assert pack_lengths(lengths, 100)[1] == 1000
    assert count_rows(lengths, 100) <= 715
