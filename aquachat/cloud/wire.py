"""One HTTP exchange, and exactly how far it came.

Written on `http.client` because callers must know whether a request left this machine: a refused
connection created nothing, a lost answer may have. Nothing is retried, redirected or cached here.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from aquachat.errors import ConfigError

CONNECT_TIMEOUT_S: Final = 10.0
MAX_BODY_BYTES: Final = 8 << 20
_BLOCK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What to send. `headers` hold the key, so it has no place in a message."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout_s: float
    """For everything after the connection stands, however slowly bytes trickle in."""


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)


class NotSentWireError(Exception):
    """No connection: no byte of the request was sent."""


class NoAnswerWireError(Exception):
    """The request was sent, at least in part, and no whole answer came back."""


Transport = Callable[[WireRequest], WireAnswer]


def parse_base_url(url: str, *, variable: str) -> SplitResult:
    """Check the address of an API.

    Raises:
        ConfigError: it is no address, holds a password, or sends a key unencrypted elsewhere than
            to this machine.
    """
    hint = f"set {variable} to an address such as `https://host/path`"
    try:
        parts = urlsplit(url.strip())
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError(f"{variable} is no address", hint=hint) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{variable} must not hold a user name or password", hint=hint)
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ConfigError(f"{variable} is no address: `{url}`", hint=hint)
    if parts.query or parts.fragment:
        raise ConfigError(f"{variable} must end with a path: `{url}`", hint=hint)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(
            f"{variable} would send the key unencrypted to `{parts.hostname}`",
            hint=f"use `https://{parts.netloc}{parts.path}`",
        )
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine, without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def exchange(request: WireRequest) -> WireAnswer:
    """Send a request over a connection of its own and read the answer.

    Raises:
        NotSentWireError: no connection (name, route, refusal, certificate).
        NoAnswerWireError: time-out, reset, or an answer that is cut off or too long.
    """
    parts = urlsplit(request.url)
    connection = _connect(parts)
    timer = threading.Timer(request.timeout_s, _hang_up, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        connection.sock.settimeout(request.timeout_s)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(request.method, path, body=request.body, headers=dict(request.headers))
        with connection.getresponse() as response:
            body = _read(response)
            headers = {name.lower(): value for name, value in response.getheaders()}
            return WireAnswer(response.status, headers, body)
    except TimeoutError as error:
        raise NoAnswerWireError(f"no answer within {request.timeout_s:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerWireError(_reason(error)) from error
    finally:
        timer.cancel()
        connection.close()


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=CONNECT_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=CONNECT_TIMEOUT_S)
    connection.response_class = _WholeHead
    try:
        connection.connect()
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA refuses
        connection.close()
        raise NotSentWireError(_reason(error)) from error
    return connection


class _WholeHead(http.client.HTTPResponse):
    """Refuses an answer whose head was cut off, which `http.client` takes for a whole one."""

    def begin(self) -> None:
        """Read the head.

        Raises:
            http.client.HTTPException: it is no head, or ends without an empty line.
        """
        plain = self.fp
        lines: Any = _Lines(plain)
        self.fp = lines
        try:
            super().begin()
        finally:
            if self.fp is lines:
                self.fp = plain
        if lines.last not in (b"\r\n", b"\n"):
            raise http.client.HTTPException("the answer was cut off")


class _Lines:
    """A file that remembers the last line it gave."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which forgets the peer


def _read(response: http.client.HTTPResponse) -> bytes:
    blocks: list[bytes] = []
    size = 0
    while block := response.read(_BLOCK_BYTES):
        size += len(block)
        if size > MAX_BODY_BYTES:
            raise NoAnswerWireError(f"the answer is longer than {MAX_BODY_BYTES >> 20} MiB")
        blocks.append(block)
    if response.length:  # `read(n)` does not complain about a body that ends early
        raise NoAnswerWireError("the answer was cut off")
    return b"".join(blocks)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection was closed" if not str(error) else str(error)
