"""Encoding batches of text in other processes, answered in order.

Processes, since threads gain little: on two cores tiktoken took 40% more processor time a token in
two threads than in one, and 10% more in two processes. What is written depends on neither.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

from aquachat.data.encoding_worker import READY, BatchEncoder, Encoded, TextEncoder
from aquachat.data.hygiene.document_guard import DocumentGuard
from aquachat.errors import DataError

START_BYTES: Final = 4 << 20
"""Text after which other processes are started: less is encoded before they are up."""
START_COMMAND: Final = "from aquachat.data.encoding_worker import main; main()"
"""Not `-m`, which would give the classes of the module another name than they have here."""
BATCHES_AHEAD: Final = 2
"""Batches that wait for each process."""


class TextBatch(Protocol):
    """What can be encoded."""

    @property
    def contents(self) -> Sequence[bytes]:
        """Texts in UTF-8."""
        ...

    @property
    def searched(self) -> Sequence[int]:
        """The places of those that the guard searches."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of all contents."""
        ...


BatchT = TypeVar("BatchT", bound=TextBatch)


class EncodingPool(Generic[BatchT]):
    """Encodes batches here until `num_workers` processes are up, and then there.

    Args:
        encoder: turns text into ids; sent to the processes as a pickle.
        dtype: of the ids.
        num_workers: how many processes; below 2 all is done here.
        guard: what texts are searched for; sent too.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        dtype: str,
        num_workers: int,
        guard: DocumentGuard | None = None,
    ) -> None:
        self._encoder = BatchEncoder(encoder, dtype, guard)
        self._num_workers = num_workers
        self._seen_bytes = 0
        self._threads: ThreadPoolExecutor | None = None
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        self._workers: list[_Worker] = []
        self._starting: list[Future[None]] = []

    def __enter__(self) -> EncodingPool[BatchT]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def encode(self, batches: Iterable[BatchT]) -> Iterator[tuple[BatchT, Encoded]]:
        """Each batch with its ids, in the order of `batches`, which is read a little ahead.

        Raises:
            DataError: a process ended unexpectedly.
        """
        pending: deque[tuple[BatchT, Future[Encoded]]] = deque()
        for batch in batches:
            self._seen_bytes += batch.size_bytes
            pending.append((batch, self._submit(batch)))
            while len(pending) > BATCHES_AHEAD * self._num_workers or (
                pending and pending[0][1].done()
            ):
                ready, answer = pending.popleft()
                yield ready, answer.result()
        while pending:
            ready, answer = pending.popleft()
            yield ready, answer.result()

    def _submit(self, batch: BatchT) -> Future[Encoded]:
        if self._num_workers > 1 and self._threads is None and self._seen_bytes > START_BYTES:
            self._start()
        if self._threads is not None and any(start.done() for start in self._starting):
            return self._threads.submit(self._encode_there, batch)
        here: Future[Encoded] = Future()
        here.set_result(self._encoder.encode(batch.contents, batch.searched))
        return here

    def _start(self) -> None:
        self._threads = ThreadPoolExecutor(self._num_workers, "encoding")
        setting = pickle.dumps(self._encoder, pickle.HIGHEST_PROTOCOL)
        self._workers = [_Worker() for _ in range(self._num_workers)]
        self._starting = [
            self._threads.submit(self._welcome, worker, setting) for worker in self._workers
        ]

    def _welcome(self, worker: _Worker, setting: bytes) -> None:
        worker.start(setting)
        self._free.put(worker)

    def _encode_there(self, batch: BatchT) -> Encoded:
        for start in self._starting:
            if start.done():
                start.result()
        worker = self._free.get()
        try:
            return worker.encode(batch)
        finally:
            self._free.put(worker)


class _Worker:
    """One `encoding_worker` process."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", START_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def start(self, setting: bytes) -> None:
        answer = self._ask(setting)
        assert answer == READY, answer

    def encode(self, batch: TextBatch) -> Encoded:
        request = ([*batch.contents], [*batch.searched])
        answer = self._ask(pickle.dumps(request, pickle.HIGHEST_PROTOCOL))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Encoded), answer
        return answer

    def end(self) -> None:
        """Stop the process; what it was doing is lost."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _ask(self, message: bytes) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
            # From a pipe that only our own child can write to; nothing of a user is unpickled.
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            self._process.kill()
            code = self._process.wait()
            raise DataError(
                f"a process that encodes text ended unexpectedly (exit code {code})",
                hint="try again with `--num-workers 1`; a process that was killed often means that "
                "memory ran out",
            ) from error
