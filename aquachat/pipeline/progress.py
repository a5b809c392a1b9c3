"""The part of a progress bar that the pipeline uses; `cli.progress` has the bars."""

from __future__ import annotations

from typing import Protocol


class ProgressBar(Protocol):
    """Shows how far a task is."""

    def update(
        self,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
    ) -> None:
        """Set what is done, what there is to do, or what is being done."""
        ...
