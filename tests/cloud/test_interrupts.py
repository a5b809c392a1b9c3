"""SIGTERM and a closed terminal run the clean-up."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from aquachat.cloud.interrupts import raising_signals
from aquachat.errors import Interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_an_exception_with_its_exit_code(number: int, code: int) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # a second one does not stop the clean-up

    with raising_signals(), pytest.raises(Interrupted) as caught:
        work()
    assert caught.value.exit_code == code
    assert signal.getsignal(number) == before


def test_another_thread_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with raising_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
