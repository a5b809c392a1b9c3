"""Stopping a job without losing what it made: save, pull, and only then end its machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aquachat.cloud.attending import Attended
from aquachat.cloud.session import CloudSession
from aquachat.errors import DataError, RemoteError

PULL_S: Final = 900.0
WATCHER_POLL_S: Final = 5.0


def save_and_pull(attended: Attended, *, deadline_s: float = PULL_S) -> bool:
    """Let the work save and end, and bring its results here; False where that failed, and is said.

    Never raises for what goes wrong on the machine: it is about to be ended.
    """
    try:
        attended.remote.connect()
        attended.end_work()
        attended.say("pulling the results")
        attended.pull(deadline_s=deadline_s)
    except (RemoteError, DataError) as error:
        attended.say(f"the results could not be pulled: {error.message}")
        return False
    return True


def leave_to_watcher(
    session: CloudSession, attended: Attended, is_watched: Callable[[], bool]
) -> None:
    """Let the work end, and the launcher that is in charge pull and end the machine.

    Two processes must not pull into one folder. Returns when that launcher is gone, or has taken
    too long.
    """
    try:
        attended.remote.connect()
        attended.end_work()
    except RemoteError as error:
        attended.say(error.message)
        return
    attended.say("its launcher on this computer pulls the results and ends the machine")
    give_up_s = session.clock.time() + PULL_S
    while is_watched() and session.clock.time() < give_up_s:
        session.clock.sleep(WATCHER_POLL_S)
