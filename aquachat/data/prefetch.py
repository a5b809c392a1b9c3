"""Making the next steps' batches in a background thread, which changes none of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `make(step)` ahead of time for the steps that follow the one asked for.

    Args:
        make: a pure function of the step, called in one thread, in order.
        depth: steps that are made ahead; 0 makes each when it is asked for, without a thread.
        name: of the thread.
    """

    def __init__(self, make: Callable[[int], T], depth: int, name: str) -> None:
        self.waited_s = 0.0
        """How long the last `get` took."""
        self._make = make
        self._depth = depth
        self._name = name
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: deque[tuple[int, Future[T]]] = deque()

    def get(self, step: int) -> T:
        """What `make(step)` gives; an exception it raised is raised here.

        Any step may be asked for; only one that follows the last is likely to be ready.
        """
        started = time.perf_counter()
        try:
            if self._depth == 0:
                return self._make(step)
            while self._ahead and self._ahead[0][0] != step:
                self._ahead.popleft()[1].cancel()
            self._submit_up_to(step, step)
            _, ready = self._ahead.popleft()
            self._submit_up_to(step + 1, step + self._depth)
            return ready.result()
        finally:
            self.waited_s = time.perf_counter() - started

    def close(self) -> None:
        """End the thread; what was made ahead is dropped. Another `get` starts it again."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread = None
        self._ahead.clear()

    def _submit_up_to(self, first: int, last: int) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, self._name)
        start = self._ahead[-1][0] + 1 if self._ahead else first
        for step in range(start, last + 1):
            self._ahead.append((step, self._thread.submit(self._make, step)))
