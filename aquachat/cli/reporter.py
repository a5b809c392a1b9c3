"""How training shows itself on the command line: one progress bar a stage, notes and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from aquachat.cli.output import Output

_SHOWN = (
    ("train/loss", "loss {:.3f}"),
    ("rl/acc", "accuracy {:.1%}"),
    ("train/tokens_per_second", "{:,.0f} tokens/s"),
)


class CliReporter:
    """A `Reporter` over an `Output`; opens a bar when a stage takes its first step."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._stage: str | None = None
        self._bar: Any = None
        self._context: AbstractContextManager[Any] | None = None

    def note(self, text: str) -> None:
        """Say what is being done."""
        self._output.note(text)

    def warn(self, text: str) -> None:
        """Say what went not as asked."""
        self._output.warn(text)

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Move the bar of `stage`; the last step closes it."""
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._context = self._output.progress(stage, total)
            self._bar = self._context.__enter__()
        shown = [form.format(metrics[name]) for name, form in _SHOWN if name in metrics]
        self._bar.update(completed=step, description=", ".join([stage, *shown]))
        if step == total:
            self.close()

    def close(self) -> None:
        """Close the bar of the stage, if there is one."""
        if self._context is not None:
            self._context.__exit__(None, None, None)
        self._stage, self._bar, self._context = None, None, None


class SilentReporter:
    """For processes that are not the main one."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is shown, so nothing ends."""
