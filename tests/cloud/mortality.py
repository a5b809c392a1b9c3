"""A process that dies: after its last step it writes nothing and sends nothing, clean-up included.

Steps are the two sides of every HTTP request and of every ledger write. A death inside a write
leaves half a line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from aquachat.cloud.ledger import Ledger
from aquachat.cloud.wire import WireAnswer, WireRequest, exchange


class Killed(BaseException):
    """kill -9, as far as a test can have it inside one process."""


def raise_killed() -> None:
    raise Killed


@dataclass
class Life:
    dies_at: int | None = None
    die: Callable[[], None] = raise_killed
    num_steps: int = 0
    is_dead: bool = False

    def step(self) -> None:
        self.check()
        self.num_steps += 1
        if self.num_steps == self.dies_at:
            self.is_dead = True
            self.die()

    def is_last(self) -> bool:
        return self.num_steps + 1 == self.dies_at

    def check(self) -> None:
        if self.is_dead:
            self.die()

    def transport(self, request: WireRequest) -> WireAnswer:
        self.step()
        answer = exchange(request)
        self.step()
        return answer


class Interruption(Life):
    """Ctrl-C or SIGTERM at one step; everything afterwards works."""

    def __init__(self, at: int, signal: BaseException) -> None:
        super().__init__(at)
        self.signal = signal

    def step(self) -> None:
        self.num_steps += 1
        if self.num_steps == self.dies_at:
            raise self.signal

    def is_last(self) -> bool:
        return False


class MortalLedger(Ledger):
    """Dies before a write, in the middle of it, or after it."""

    life: Life

    def _write(self, line: bytes) -> None:
        self.life.step()
        if self.life.is_last():
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(handle, line[: len(line) // 2])
            os.close(handle)
        self.life.step()
        super()._write(line)
        self.life.step()
