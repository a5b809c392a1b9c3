"""Text up to the first stop string, given out as early as it is certain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final


@final
class StopFilter:
    """Holds back what may be the beginning of a stop string.

    The law, a test: however a text is cut, what comes out together is the text before the stop
    string that is complete first (the longest of those that end in one place), or all of it.

    Example:
        stops = StopFilter(["END"])
        stops.push("a E")    # "a "
        stops.push("ND b")   # "", and stops.has_stopped
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        """Take some text; give what is certain to be before any stop string."""
        if self.has_stopped:
            return ""
        text = self._held + text
        found = [(text.find(stop), len(stop)) for stop in self._stops if stop in text]
        if found:
            self.has_stopped, self._held = True, ""
            place, _ = min(found, key=lambda each: (sum(each), each))
            return text[:place]
        most = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - most :]
        return text[: len(text) - most]

    def finish(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
