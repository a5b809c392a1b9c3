"""Progress on stderr: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from aquachat.pipeline.progress import ProgressBar

PLAIN_INTERVAL_S = 30.0
"""A log file shows at most one line per bar in this time, and one at the end."""


class Progress(ProgressBar, Protocol):
    """A running task, as `Output.progress` hands it out."""

    def advance(self, amount: float = 1) -> None:
        """Add to what is done."""
        ...


class QuietProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def advance(self, amount: float = 1) -> None:
        """Show nothing."""

    def update(
        self,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
    ) -> None:
        """Show nothing."""


class PlainProgress:
    """Writes `description: 250 of 1,000 (25%), 12 s` at most every `interval_s`, and at the end."""

    def __init__(
        self,
        description: str,
        total: float | None,
        *,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = PLAIN_INTERVAL_S,
    ) -> None:
        self._description = description
        self._total = total
        self._completed = 0.0
        self._write = write
        self._clock = clock
        self._interval_s = interval_s
        self._started_s = self._shown_s = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._show()

    def advance(self, amount: float = 1) -> None:
        """Add to what is done."""
        self.update(completed=self._completed + amount)

    def update(
        self,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
    ) -> None:
        """Set what is done, what there is to do, or what is being done."""
        self._completed = self._completed if completed is None else completed
        self._total = self._total if total is None else total
        self._description = description or self._description
        if self._clock() - self._shown_s >= self._interval_s:
            self._show()

    def _show(self) -> None:
        now_s = self._clock()
        done = f"{self._completed:,.0f}"
        if self._total:
            done += f" of {self._total:,.0f} ({self._completed / self._total:.0%})"
        self._write(f"{self._description}: {done}, {now_s - self._started_s:.0f} s")
        self._shown_s = now_s


class BarProgress:
    """A bar at the bottom of the terminal; log lines scroll above it."""

    def __init__(self, description: str, total: float | None, *, color: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar: Any = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, no_color=not color, highlight=False),
            redirect_stdout=False,  # stdout holds the answer, byte for byte
        )
        self._task = self._bar.add_task(description, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def advance(self, amount: float = 1) -> None:
        """Add to what is done."""
        self._bar.advance(self._task, amount)

    def update(
        self,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
    ) -> None:
        """Set what is done, what there is to do, or what is being done."""
        changes = {"completed": completed, "total": total, "description": description}
        self._bar.update(
            self._task, **{name: value for name, value in changes.items() if value is not None}
        )
