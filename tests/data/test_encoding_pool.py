from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import dataclass

import numpy as np
import pytest

from aquachat.data import encoding_pool
from aquachat.data.encoding_pool import EncodingPool
from aquachat.data.encoding_worker import encode_texts
from aquachat.errors import DataError
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()


@dataclass(frozen=True)
class Texts:
    contents: list[bytes]
    searched: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.contents))


BATCHES = [Texts([f"text {i}".encode() * j for j in range(i % 5)]) for i in range(60)]


@pytest.fixture(autouse=True)
def start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_pool, "START_BYTES", 0)


def when_started(pool: EncodingPool[Texts], batches: list[Texts]) -> Iterator[Texts]:
    """The batches, most of them only when the processes are up."""
    yield from batches[:5]
    wait(pool._starting)
    yield from batches[5:]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_batches_come_in_order_with_the_ids_they_have_here(num_workers: int) -> None:
    with EncodingPool[Texts](TOKENIZER, "<u2", num_workers) as pool:
        answers = list(pool.encode(when_started(pool, BATCHES)))
        assert len(pool._workers) == (num_workers if num_workers > 1 else 0)
    assert [batch for batch, _ in answers] == BATCHES
    for batch, encoded in answers:
        here = encode_texts(TOKENIZER, batch.contents, "<u2")
        assert encoded.ids.dtype == np.dtype("<u2")
        assert np.array_equal(encoded.ids, here.ids)
        assert np.array_equal(encoded.lengths, here.lengths)


def test_an_error_there_is_raised_here() -> None:
    batches = [*BATCHES[:20], Texts([b"\xff"]), *BATCHES]
    with EncodingPool[Texts](TOKENIZER, "<u2", 2) as pool, pytest.raises(UnicodeDecodeError):
        list(pool.encode(when_started(pool, batches)))


def test_a_process_that_is_killed_is_one_sentence() -> None:
    def killing(pool: EncodingPool[Texts]) -> Iterator[Texts]:
        yield from when_started(pool, BATCHES)
        for worker in pool._workers:
            os.kill(worker._process.pid, 9)
            worker._process.wait()
        yield from BATCHES

    with (
        EncodingPool[Texts](TOKENIZER, "<u2", 2) as pool,
        pytest.raises(DataError, match=r"ended unexpectedly \(exit code -9\)"),
    ):
        list(pool.encode(killing(pool)))


def test_all_processes_have_ended_when_the_pool_is_left() -> None:
    with EncodingPool[Texts](TOKENIZER, "<u2", 2) as pool:
        next(pool.encode(when_started(pool, BATCHES)))
        pool._start()
    assert all(worker._process.poll() is not None for worker in pool._workers)
