"""SIGTERM and SIGHUP as an exception, so that the code that ends machines runs for them too."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from aquachat.errors import Interrupted

EXIT_CODES: Final = {"SIGTERM": 143, "SIGHUP": 129}


@contextmanager
def raising_signals() -> Iterator[None]:
    """Raise `Interrupted` for SIGTERM and a closed terminal inside the block.

    Ctrl-C raises KeyboardInterrupt already. After the first signal they are ignored until the
    block ends, since a second one would stop the clean-up; SIGKILL is what `reap` is for. Outside
    the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    numbers = [getattr(signal, name) for name in EXIT_CODES if hasattr(signal, name)]

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        name = signal.Signals(signum).name
        raise Interrupted(
            f"stopped by {name}",
            hint="`aquachat launch status` shows what is running",
            exit_code=EXIT_CODES[name],
        )

    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
