"""The ledger of machines: what was ordered, made and ended, one JSON object a line.

Append-only and fsynced per record, because the record before an order is what finds the machine
again after a kill -9. A line that was torn by a crash is moved to `ledger.torn`; a line that cannot
be read stays where it is and is counted. No secret can get in: only named fields are written, and
their texts are redacted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from aquachat.cloud.clock import Clock
from aquachat.cloud.locking import locked
from aquachat.cloud.redaction import Redactor
from aquachat.errors import DataError
from aquachat.files import json_line, sync_directory, writing

VERSION: Final = 1
LOCK_WAIT_S: Final = 10.0
_TAIL_BLOCK_BYTES: Final = 4096


class Event(StrEnum):
    """What a record says."""

    INTENT = "intent"
    """An order is about to be sent."""
    REFUSED = "refused"
    """The order came to nothing, for certain."""
    UNKNOWN = "unknown"
    """Whether the order made a machine is not known."""
    ABSENT = "absent"
    """A day later still nothing of the order was to be seen."""
    CREATED = "created"
    """The provider named the machine of an order."""
    ADOPTED = "adopted"
    """A machine was found by its name instead."""
    STATUS = "status"
    """The provider's word for a machine changed."""
    LIMITS = "limits"
    """The job's limits were changed."""
    STARTED = "started"
    """Training was started on the machine, and goes on without a launcher."""
    STOPPED = "stopped"
    """A person stopped the job: its launcher must not order again."""
    TERMINATING = "terminating"
    """Ending a machine begins."""
    TERMINATED = "terminated"
    """Its end was confirmed by reading."""
    LEFT = "left"
    """Its end could not be confirmed: a person must look."""


DETAILS: Final = frozenset(
    (
        *("instance_type", "region", "gpus", "price_usd_per_hour", "max_hours", "max_cost_usd"),
        *("status", "reason", "cost_usd", "ordered_at_s", "confirmed_by"),
    )
)
"""The only further fields that a record can have."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the ledger."""

    event: Event
    job: str
    provider: str = ""
    order: str = ""
    """The name of the order, see `naming`."""
    instance_id: str = ""
    details: Mapping[str, str | int | float | None] = field(default_factory=dict)
    time_s: float = 0.0
    """Seconds since the epoch; `Ledger.append` sets it."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a ledger holds."""

    records: tuple[Record, ...]
    num_damaged: int = 0
    """Lines that are no record; a torn last line is not one of them."""


class Ledger:
    """The file `AQUACHAT_HOME/cloud/ledger.jsonl`."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        redactor: Redactor | None = None,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.path = path
        self._clock = clock
        self._redactor = redactor or Redactor()
        self._fsync = fsync

    @property
    def torn_path(self) -> Path:
        """Where torn lines are set apart."""
        return self.path.with_name("ledger.torn")

    def job_lock(self, job: str) -> Path:
        """The lock that the process in charge of a job holds for as long as it lives."""
        return self.path.parent / job / "alive.lock"

    def append(self, record: Record) -> Record:
        """Write a record; it is on disk when this returns. Gives it back with its time.

        Raises:
            DataError: the system refuses the write, or another process does not let go.
        """
        unknown = set(record.details) - DETAILS
        if unknown:
            raise ValueError(f"the ledger has no field {', '.join(sorted(unknown))}")
        row: dict[str, Any] = {"v": VERSION, "time_s": round(self._clock.time(), 3)}
        row |= {"event": str(record.event), "job": record.job, "provider": record.provider}
        row |= {"order": record.order, "instance_id": record.instance_id}
        row |= record.details
        cleaned = {
            key: self._redactor.clean(value) if isinstance(value, str) else value
            for key, value in row.items()
            if value not in ("", None)
        }
        lock = self.path.with_name("ledger.lock")
        with locked(lock, clock=self._clock, wait_s=LOCK_WAIT_S, holder="another aquachat"):
            self._write(json_line(cleaned))
        return replace(record, time_s=row["time_s"])

    def read(self) -> Contents:
        """Everything in the ledger; nothing is changed, and a missing file is an empty ledger.

        Raises:
            DataError: it is there and cannot be read, which must not look like an empty one.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Contents(())
        except OSError as error:
            raise DataError(
                f"cannot read `{self.path}`: {error.strerror}", hint="check its permissions"
            ) from error
        *lines, tail = content.split(b"\n")
        records = []
        num_damaged = 0
        for line in lines:
            record = _parse(line)
            if record is not None:
                records.append(record)
            elif line.strip():
                num_damaged += 1
        if (record := _parse(tail)) is not None:  # only its newline was lost
            records.append(record)
        return Contents(tuple(records), num_damaged)

    def _write(self, line: bytes) -> None:
        with writing(self.path):
            is_new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._set_torn_line_apart(handle)
                os.lseek(handle, 0, os.SEEK_END)
                _write_all(handle, line)
                self._fsync(handle)
            finally:
                os.close(handle)
            if is_new:
                sync_directory(self.path.parent)

    def _set_torn_line_apart(self, handle: int) -> None:
        size = os.fstat(handle).st_size
        start = _last_line_start(handle, size)
        if start == size:
            return
        os.lseek(handle, start, os.SEEK_SET)
        tail = os.read(handle, size - start)
        if _parse(tail) is not None:
            os.lseek(handle, 0, os.SEEK_END)
            _write_all(handle, b"\n")
            return
        torn = os.open(self.torn_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(torn, tail + b"\n")
            self._fsync(torn)
        finally:
            os.close(torn)
        os.ftruncate(handle, start)
        self._fsync(handle)


def _last_line_start(handle: int, size: int) -> int:
    """Where the bytes after the last newline begin; `size` where there are none."""
    end = size
    while end > 0:
        begin = max(0, end - _TAIL_BLOCK_BYTES)
        os.lseek(handle, begin, os.SEEK_SET)
        found = os.read(handle, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


def _parse(line: bytes) -> Record | None:
    """A record, or None for what is none (damage, an event of a newer version)."""
    try:
        row = json.loads(line)
        event = Event(row["event"])
        details = {key: row[key] for key in DETAILS if key in row}
        texts = {key: row.get(key, "") for key in ("job", "provider", "order", "instance_id")}
        if not all(isinstance(text, str) for text in texts.values()):
            return None
        return Record(event, **texts, details=details, time_s=float(row["time_s"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
