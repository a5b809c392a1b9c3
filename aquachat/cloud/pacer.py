"""How fast a provider may be asked: one request a second, one order in twelve.

Lambda's documentation allows 1 request/s, and launches 1 per 12 s or 5 per minute; there is no
documented answer to more, so we keep below both.
"""

from __future__ import annotations

import threading
from typing import Final

from aquachat.cloud.clock import Clock

REQUEST_INTERVAL_S: Final = 1.1
LAUNCH_INTERVAL_S: Final = 12.5
MAX_QUEUE_S: Final = 120.0


class Pacer:
    """Gives each request a time slot; one for all threads that talk to a provider."""

    def __init__(
        self,
        clock: Clock,
        *,
        interval_s: float = REQUEST_INTERVAL_S,
        launch_interval_s: float = LAUNCH_INTERVAL_S,
    ) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._launch_interval_s = launch_interval_s
        self._lock = threading.Lock()
        self._last_s = float("-inf")
        self._last_launch_s = float("-inf")

    def wait(self, *, is_launch: bool = False) -> None:
        """Return when the next request (or order) may go out."""
        with self._lock:
            now = self._clock.time()
            slot = max(now, _due_s(self._last_s, self._interval_s, now))
            if is_launch:
                slot = max(slot, _due_s(self._last_launch_s, self._launch_interval_s, now))
                self._last_launch_s = slot
            self._last_s = slot
        self._clock.sleep(slot - now)


def _due_s(last_s: float, interval_s: float, now_s: float) -> float:
    if last_s - now_s > MAX_QUEUE_S:  # the clock was set back
        return now_s + interval_s
    return last_s + interval_s
