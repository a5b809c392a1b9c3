"""HTTP as a downloader needs it: time-outs, redirects that stay safe, and bodies counted.

Built on `urllib.request`, which knows proxies and certificates. Two things differ from its
defaults: a redirect from https to http is refused, and a body that goes on after its
`Content-Length` is delivered in full, so that whoever counts it sees that the length was wrong.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, cast
from urllib.parse import quote, unquote, urljoin, urlsplit

import aquachat
from aquachat.data.addresses import HTTP_SCHEMES, shown_url
from aquachat.errors import RemoteError

DEFAULT_TIMEOUT_S: Final = 30.0
"""For connecting and for each read."""
DEFAULT_LINGER_S: Final = 2.0
MAX_REDIRECTS: Final = 10
REDIRECTS: Final = (301, 302, 303, 307, 308)


class Response(Protocol):
    """An answer whose body has not been read yet."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    def header(self, name: str) -> str | None:
        """A header of the answer, or of a redirect that led to it (as `X-Linked-ETag`)."""
        ...

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end.

        Raises:
            OSError: the connection was cut or took too long.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...

    def abort(self) -> None:
        """Let go of the connection from another thread; a `read` that waits ends at once."""
        ...


class Transport(Protocol):
    """Whatever answers requests."""

    def open(self, url: str, headers: Mapping[str, str]) -> Response:
        """Ask for `url` and follow redirects; an answer of any status is returned.

        Raises:
            OSError: no connection, or no answer in time.
            RemoteError: an answer that must not be followed.
        """
        ...


class _CountedResponse(http.client.HTTPResponse):
    """A response that does not stop at `Content-Length` where the server closes after it."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.socket = sock
        self.declared_bytes: int | None = None

    def begin(self, *arguments: Any, **options: Any) -> None:
        super().begin(*arguments, **options)
        self.declared_bytes = self.length
        if self.status in (200, 206) and self.length is not None and self.will_close:
            self.length = None


class _Connection(http.client.HTTPConnection):
    response_class = _CountedResponse


class _TlsConnection(http.client.HTTPSConnection):
    response_class = _CountedResponse


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(context=self._tls)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection = cast(Any, _TlsConnection)  # the stub knows only connections without a context
        return self.do_open(connection, req, context=self._tls)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


@dataclass(slots=True, eq=False)
class HttpResponse:
    """The end of a chain of redirects."""

    status: int
    _body: Any
    _headers: list[Mapping[str, str]]
    _linger_s: float
    _num_read: int = 0

    def header(self, name: str) -> str | None:
        """See `Response.header`."""
        own = name.lower().startswith("x-linked-")
        for headers in self._headers if own else self._headers[-1:]:
            if (value := headers.get(name)) is not None:
                return value
        return None

    def read(self, size: int) -> bytes:
        """See `Response.read`."""
        body = self._body
        if not isinstance(body, _CountedResponse):
            return b""
        declared = body.declared_bytes
        ended = declared is not None and self._num_read >= declared
        if ended and body.will_close and body.fp is not None:
            with contextlib.suppress(OSError):
                body.socket.settimeout(self._linger_s)
        try:
            block = body.read1(size)
        except (OSError, http.client.HTTPException) as error:
            if ended:  # a server that does not close, or not cleanly, after all was sent
                return b""
            if isinstance(error, OSError):
                raise
            raise ConnectionError(_http_problem(error)) from error
        self._num_read += len(block)
        return block

    def close(self) -> None:
        """See `Response.close`."""
        self._body.close()

    def abort(self) -> None:
        """See `Response.abort`."""
        if isinstance(self._body, _CountedResponse):
            with contextlib.suppress(OSError):
                self._body.socket.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class HttpTransport:
    """Requests over the network.

    Args:
        timeout_s: for connecting and for each read.
        linger_s: what a server may take to close a connection after the last byte.
    """

    timeout_s: float = DEFAULT_TIMEOUT_S
    linger_s: float = DEFAULT_LINGER_S

    def open(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        """See `Transport.open`."""
        seen: list[Mapping[str, str]] = []
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(url, {**_standing_headers(), **headers})
            seen.append(response.headers)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return HttpResponse(response.status, response, seen, self.linger_s)
            response.close()
            url = _next_url(url, location)
        raise RemoteError(
            f"`{shown_url(url)}` redirects more than {MAX_REDIRECTS} times",
            hint="check the address in a browser",
        )

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        """Made once: it reads the certificates of the system, which takes 20 ms."""
        return urllib.request.build_opener(_HttpHandler, _HttpsHandler, _NoRedirects)

    def _ask(self, url: str, headers: Mapping[str, str]) -> Any:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        request = urllib.request.Request(
            quote(parts._replace(netloc=host, fragment="").geturl(), safe=string.punctuation),
            headers=dict(headers),
        )
        if parts.username is not None:
            request.add_unredirected_header(
                "Authorization", _basic(parts.username, parts.password or "")
            )
        try:
            return self._opener.open(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            return error
        except urllib.error.URLError as error:
            if isinstance(error.reason, OSError):
                raise error.reason from error
            raise ConnectionError(str(error.reason)) from error
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(_http_problem(error)) from error


def _standing_headers() -> dict[str, str]:
    return {"User-Agent": f"aquachat/{aquachat.__version__}", "Accept-Encoding": "identity"}


def _basic(user: str, password: str) -> str:
    from base64 import b64encode

    login = f"{unquote(user)}:{unquote(password)}"
    return f"Basic {b64encode(login.encode()).decode()}"


def _next_url(url: str, location: str) -> str:
    target = urljoin(url, location.replace(" ", "%20"))
    scheme = urlsplit(target).scheme
    if scheme not in HTTP_SCHEMES:
        raise RemoteError(
            f"`{shown_url(url)}` redirects to `{shown_url(target)}`, which is no web address",
            hint="check the address in a browser",
        )
    if urlsplit(url).scheme == "https" and scheme == "http":
        raise RemoteError(
            f"`{shown_url(url)}` redirects to `{shown_url(target)}`, which is not encrypted",
            hint="name the unencrypted address yourself with `--source` if you trust it",
        )
    return target


def _http_problem(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed before the end"
    return f"the answer is no HTTP ({type(error).__name__})"


__all__ = ["HttpResponse", "HttpTransport", "Response", "Transport"]
