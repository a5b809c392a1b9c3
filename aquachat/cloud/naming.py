"""What marks a machine as ours, so that it can be found again without a receipt.

Neither provider has an idempotency key, so every order carries one in its name, and in tags where
there are any: the job, the time of the order and how long it may run. That is enough for `launch
reap` on another computer, which has no ledger of this job, to know when it is over.

Example:
    name_of(Stamp("1a2b3c4d", 1_790_000_000, 240)) -> "aquachat-1a2b3c4d-6ab13b80-240m"
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

JOB_TAG: Final = "aquachat:run"
TIME_TAG: Final = "aquachat:t0"
HOURS_TAG: Final = "aquachat:max-h"

_JOB = re.compile(r"[0-9a-f]{8}")
_NAME = re.compile(r"aquachat-([0-9a-f]{8})-([0-9a-f]{8})-([0-9]{1,6})m")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Whose a machine is, and until when."""

    job: str
    """Eight hexadecimal digits."""
    ordered_at_s: int
    """Seconds since the epoch."""
    max_minutes: int

    @property
    def deadline_s(self) -> float:
        """When it must have ended, in seconds since the epoch."""
        return self.ordered_at_s + 60.0 * self.max_minutes


def new_job() -> str:
    """A job that there was not before."""
    return secrets.token_hex(4)


def is_job(text: str) -> bool:
    """Whether `text` has the form of a job."""
    return _JOB.fullmatch(text) is not None


def name_of(stamp: Stamp) -> str:
    """The name of an order; at most 35 characters."""
    return f"aquachat-{stamp.job}-{stamp.ordered_at_s:08x}-{stamp.max_minutes}m"


def tags_of(stamp: Stamp) -> dict[str, str]:
    """The same as tags, for people to read and for a machine that somebody renamed."""
    return {
        JOB_TAG: stamp.job,
        TIME_TAG: str(stamp.ordered_at_s),
        HOURS_TAG: f"{stamp.max_minutes / 60:.4f}",
    }


def stamp_of(name: str, tags: Mapping[str, str]) -> Stamp | None:
    """What a name or tags say; None unless they have exactly our form.

    A machine that somebody called `aquachat-dev` is not ours and is never touched.
    """
    if match := _NAME.fullmatch(name):
        return Stamp(match[1], int(match[2], 16), int(match[3]))
    job = tags.get(JOB_TAG, "")
    if not is_job(job):
        return None
    try:
        ordered_at_s = int(tags[TIME_TAG])
        max_minutes = round(float(tags[HOURS_TAG]) * 60)
    except (KeyError, ValueError, OverflowError):
        return None
    return Stamp(job, ordered_at_s, max_minutes)
