"""What a downloader is asked for, what it tells on the way, and what it brings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file to download, and what is known of it."""

    url: str
    path: Path
    """Its final name here."""
    num_bytes: int | None = None
    sha256: str | None = None
    identity: str | None = None
    """What names the bytes where several addresses give them, as mirrors do; else the address."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A whole file, as it lies here."""

    url: str
    """As it may be shown: without secrets."""
    path: Path
    num_bytes: int
    sha256: str
    was_there: bool
    """Whether an earlier download was used."""


class DownloadEventKind(StrEnum):
    """What happened."""

    PROGRESS = "progress"
    RETRY = "retry"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class DownloadEvent:
    """Something that a person may want to see; events come one at a time."""

    kind: DownloadEventKind
    file: RawFile
    num_bytes: int
    total_bytes: int | None = None
    detail: str = ""
    """Of a retry: why, and after how long."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to wait.

    A failure after new bytes counts as the first: a connection that is cut every minute still
    brings a large file home.
    """

    max_failures: int = 6
    """In a row, without a byte that was not there before."""
    max_restarts: int = 3
    """Times that what was downloaded turned out to be wrong and was thrown away."""
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    max_wait_s: float = 600.0
    """A server that asks for more (`Retry-After`) is not waited for."""

    def delay_s(self, failures: int, draw: float) -> float:
        """The wait after so many failures; `draw` in [0, 1) spreads clients apart."""
        longest: float = min(self.max_delay_s, self.first_delay_s * 2.0 ** (failures - 1))
        return longest * (0.5 + 0.5 * draw)
