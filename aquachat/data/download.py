"""Downloads that end with the right file or a clear error, and never with half a file.

They resume where they stopped, verify length and hash, wait and try again when a server is busy
or cuts the connection, and run several at a time.
"""

from __future__ import annotations

import queue
import random
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Final

from aquachat.data.addresses import address_key, file_name_of, shown_url
from aquachat.data.download_types import (
    DownloadEvent,
    DownloadEventKind,
    FetchedFile,
    RawFile,
    RetryPolicy,
)
from aquachat.data.http_headers import (
    content_range,
    encoding_of,
    linked_file,
    retry_after_s,
    whole_number,
)
from aquachat.data.http_transport import HttpTransport, Response, Transport
from aquachat.data.partial_file import DownloadRecord, PartialFile, complete_record
from aquachat.errors import DataError, Interrupted, RemoteError

BLOCK_BYTES: Final = 1 << 18
EVENT_BYTES: Final = 1 << 20
"""Progress is told at most once for so many bytes of a file."""
RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528)})
HINTS: Final[Mapping[int, str]] = {
    401: "the address needs a login",
    403: "the address needs a login, or its signature has run out",
    404: "check the address",
    410: "check the address: the file was removed",
}
JOIN_S: Final = 2.0


__all__ = [
    "DownloadEvent",
    "DownloadEventKind",
    "Downloader",
    "FetchedFile",
    "RawFile",
    "RetryPolicy",
]


class _Failure(Exception):
    """An attempt that did not bring the file, and may be repeated."""

    def __init__(
        self,
        reason: str,
        *,
        restart: bool = False,
        retry_after_s: float | None = None,
        weight: int = 1,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.weight = weight
        """Failures that this one counts as: nobody there is less likely to pass."""
        self.restart = restart
        self.retry_after_s = retry_after_s


class _Cancelled(Exception):
    """Another download failed, or the user pressed Ctrl-C."""


class Downloader:
    """Downloads files over HTTP.

    Args:
        transport: answers requests.
        policy: when to try again.
        num_workers: downloads at once.
        on_event: told of progress, retries and finished files, one call at a time.
        pause: waits so many seconds, or until the event is set.
        now: seconds since 1970, to read a `Retry-After` that is a date.
        draw: a random number in [0, 1), so that many clients do not come back together.
    """

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        policy: RetryPolicy | None = None,
        num_workers: int = 4,
        on_event: Callable[[DownloadEvent], None] | None = None,
        pause: Callable[[float, threading.Event], object] | None = None,
        now: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport or HttpTransport()
        self._policy = policy or RetryPolicy()
        self._num_workers = max(1, num_workers)
        self._on_event = on_event
        self._pause = pause or (lambda seconds, cancelled: cancelled.wait(seconds))
        self._now = now
        self._draw = draw
        self._lock = threading.Lock()
        self._open: set[Response] = set()

    def fetch(self, file: RawFile) -> FetchedFile:
        """Download one file; see `fetch_all`."""
        return self.fetch_all([file])[0]

    def fetch_all(self, files: Sequence[RawFile]) -> list[FetchedFile]:
        """Download `files`, several at a time; a file that is there and unchanged is kept.

        The first failure ends the others. What they got so far stays beside the final names as
        `NAME.partial`, and the next call goes on from there.

        Raises:
            RemoteError: a server refused, could not be reached, or sends something wrong.
            DataError: the disk refused, or another program downloads one of the files.
            Interrupted: Ctrl-C.
        """
        assert len({file.path for file in files}) == len(files), "two files of one name"
        cancelled = threading.Event()
        jobs: queue.SimpleQueue[tuple[RawFile, Future[FetchedFile]]] = queue.SimpleQueue()
        futures: list[Future[FetchedFile]] = []
        for file in files:
            futures.append(Future())
            jobs.put((file, futures[-1]))
        threads = [
            threading.Thread(target=self._work, args=(jobs, cancelled), daemon=True)
            for _ in range(min(self._num_workers, len(files)))
        ]
        for thread in threads:
            thread.start()
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted with {sum(_is_done(future) for future in futures)} of {len(files)} "
                "downloads complete",
                hint="run the same command again: it goes on where it stopped",
            ) from error
        finally:
            self._end(threads, cancelled)
        failures = [future.exception() for future in futures if future.done()]
        real = [error for error in failures if error and not isinstance(error, _Cancelled)]
        if real:
            raise real[0]
        return [future.result() for future in futures]

    def _end(self, threads: Sequence[threading.Thread], cancelled: threading.Event) -> None:
        cancelled.set()
        with self._lock:
            for response in self._open:
                response.abort()
        deadline_s = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _work(
        self,
        jobs: queue.SimpleQueue[tuple[RawFile, Future[FetchedFile]]],
        cancelled: threading.Event,
    ) -> None:
        while True:
            try:
                file, future = jobs.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(self._fetch(file, cancelled))
            except BaseException as error:  # any: it is raised again in the thread that asked
                cancelled.set()
                future.set_exception(error)

    def _fetch(self, file: RawFile, cancelled: threading.Event) -> FetchedFile:
        if cancelled.is_set():
            raise _Cancelled
        shown, key = shown_url(file.url), address_key(file.identity or file.url)
        record = complete_record(file.path, key)
        was_there = record is not None and file.sha256 in (None, record.sha256)
        if record is None or not was_there:
            with PartialFile(file.path, DownloadRecord(key, shown)) as partial:
                record = self._download(file, partial, cancelled)
        assert record.num_bytes is not None
        assert record.sha256 is not None
        self._tell(DownloadEventKind.DONE, file, record.num_bytes, record.num_bytes)
        return FetchedFile(shown, file.path, record.num_bytes, record.sha256, was_there)

    def _download(
        self, file: RawFile, partial: PartialFile, cancelled: threading.Event
    ) -> DownloadRecord:
        failures = restarts = 0
        most = partial.size
        while True:
            try:
                digest = self._attempt(file, partial, cancelled)
                return partial.install(digest)
            except _Failure as failure:
                if cancelled.is_set():
                    raise _Cancelled from failure
                failures = failure.weight + (0 if partial.size > most else failures)
                most = max(most, partial.size)
                if failure.restart:
                    partial.begin(DownloadRecord(partial.record.key, partial.record.url), 0)
                    restarts += 1
                if failures >= self._policy.max_failures or restarts > self._policy.max_restarts:
                    raise self._given_up(file, failure.reason) from failure
                self._wait(file, partial, failure, failures, cancelled)

    def _attempt(self, file: RawFile, partial: PartialFile, cancelled: threading.Event) -> str:
        """One request, and its body to the end; returns the hash of the whole."""
        offset = partial.resume_offset
        validator = partial.record.validator
        if validator is None and file.sha256 is None:
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator is not None:
            headers["If-Range"] = validator
        try:
            response = self._transport.open(file.url, headers)
        except OSError as error:
            if isinstance(error, RemoteError):
                raise
            if isinstance(error, ssl.SSLCertVerificationError):
                raise RemoteError(
                    f"`{shown_url(file.url)}` has no valid certificate ({error.verify_message})",
                    hint="check the address, the clock of this machine, and SSL_CERT_FILE",
                ) from error
            nobody = isinstance(error, socket.gaierror | ConnectionRefusedError)
            raise _Failure(_network_problem(error), weight=2 if nobody else 1) from error
        with self._lock:
            self._open.add(response)
        try:
            self._check_status(response, file, partial)
            expected = self._begin(response, file, partial, offset)
            self._read_body(response, file, partial, cancelled, expected.num_bytes)
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()
        return _checked(file, partial, expected)

    def _check_status(self, response: Response, file: RawFile, partial: PartialFile) -> None:
        status = response.status
        if status in (200, 206):
            return
        if status == 416:
            raise _Failure(
                f"the server has no more than {partial.size:,} bytes (HTTP 416)", restart=True
            )
        if status in RETRIED:
            wait_s = retry_after_s(response.header("Retry-After"), self._now())
            raise _Failure(f"HTTP {status}", retry_after_s=wait_s)
        raise RemoteError(
            f"could not download `{shown_url(file.url)}`: HTTP {status}",
            hint=HINTS.get(status, "check the address, or try again later"),
        )

    def _begin(
        self, response: Response, file: RawFile, partial: PartialFile, offset: int
    ) -> DownloadRecord:
        """What the server says of the whole file; what is kept of the partial file is set."""
        start, total = 0, whole_number(response.header("Content-Length"))
        if response.status == 206:
            part = content_range(response.header("Content-Range"))
            if part is None or part[0] != offset:
                raise _Failure("the server sends another part than was asked for", restart=True)
            start, total = part
        encoding = encoding_of(response)
        if encoding and not file_name_of(file.url).endswith((".gz", ".tgz")):
            raise RemoteError(
                f"`{shown_url(file.url)}` comes compressed as {encoding}, which nobody asked for",
                hint="download it another way and name the file with `--source PATH`",
            )
        linked_bytes, linked_sha256 = linked_file(response)
        told = DownloadRecord(
            partial.record.key,
            partial.record.url,
            response.header("ETag"),
            response.header("Last-Modified"),
            total,
        )
        if start and not told.is_of_the_same_file(partial.record):
            raise _Failure("the file has changed on the server", restart=True)
        wanted = file.num_bytes if file.num_bytes is not None else linked_bytes
        if None not in (wanted, total) and wanted != total:
            raise _Failure(f"the server offers {total:,} bytes, not {wanted:,}", restart=True)
        total = total if wanted is None else wanted
        _check_space(partial, total)
        partial.begin(
            DownloadRecord(told.key, told.url, told.etag, told.last_modified, total), start
        )
        return DownloadRecord(
            told.key, told.url, num_bytes=total, sha256=file.sha256 or linked_sha256
        )

    def _read_body(
        self,
        response: Response,
        file: RawFile,
        partial: PartialFile,
        cancelled: threading.Event,
        total: int | None,
    ) -> None:
        told = partial.size
        self._tell(DownloadEventKind.PROGRESS, file, told, total)
        while True:
            if cancelled.is_set():
                raise _Cancelled
            try:
                block = response.read(BLOCK_BYTES)
            except OSError as error:
                raise _Failure(_network_problem(error)) from error
            if not block:
                return
            partial.write(block)
            if total is not None and partial.size > total:
                raise _Failure(f"the server sends more than {total:,} bytes", restart=True)
            if partial.size - told >= EVENT_BYTES:
                told = partial.size
                self._tell(DownloadEventKind.PROGRESS, file, told, total)

    def _wait(
        self,
        file: RawFile,
        partial: PartialFile,
        failure: _Failure,
        failures: int,
        cancelled: threading.Event,
    ) -> None:
        delay_s = self._policy.delay_s(failures, self._draw())
        if failure.retry_after_s is not None:
            delay_s = failure.retry_after_s + 0.1 * delay_s
            if failure.retry_after_s > self._policy.max_wait_s:
                raise self._given_up(
                    file, f"{failure.reason}, come back in {failure.retry_after_s:,.0f} s"
                )
        detail = f"{failure.reason}; trying again in {delay_s:.1f} s"
        self._tell(
            DownloadEventKind.RETRY, file, partial.size, partial.record.num_bytes, detail=detail
        )
        self._pause(delay_s, cancelled)

    def _given_up(self, file: RawFile, reason: str) -> RemoteError:
        return RemoteError(
            f"could not download `{shown_url(file.url)}`: {reason}",
            hint="check the network and the address, and run the same command again: it goes on "
            "where it stopped",
        )

    def _tell(
        self,
        kind: DownloadEventKind,
        file: RawFile,
        num_bytes: int,
        total: int | None,
        *,
        detail: str = "",
    ) -> None:
        if self._on_event is not None:
            with self._lock:
                self._on_event(DownloadEvent(kind, file, num_bytes, total, detail))


def _is_done(future: Future[FetchedFile]) -> bool:
    return future.done() and future.exception() is None


def _checked(file: RawFile, partial: PartialFile, expected: DownloadRecord) -> str:
    total = expected.num_bytes
    if total is not None and partial.size < total:
        raise _Failure(f"the connection ended after {partial.size:,} of {total:,} bytes")
    digest = partial.sha256()
    if expected.sha256 is not None and digest != expected.sha256:
        raise _Failure(
            f"its sha256 is {digest[:12]}..., not {expected.sha256[:12]}...", restart=True
        )
    return digest


def _check_space(partial: PartialFile, total: int | None) -> None:
    if total is None:
        return
    needed = total - partial.size
    free = shutil.disk_usage(partial.path.parent).free
    if needed > free:
        raise DataError(
            f"cannot write `{partial.final}`: it needs {needed:,} bytes and the disk has {free:,} "
            "left",
            hint="free some space, or set AQUACHAT_HOME to a folder on another disk",
        )


def _network_problem(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    return f"{error.strerror or error or type(error).__name__}"
