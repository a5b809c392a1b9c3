"""A real HTTP server on loopback that misbehaves as it is told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; the defaults are an answer as it should be."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body that are sent before the connection is closed."""
    longer_by: int = 0
    """What `Content-Length` says beyond the truth; negative for too short."""
    wrong_bytes: bool = False
    ignores_range: bool = False
    without_validators: bool = False
    ignores_if_range: bool = False
    hangs_after: int | None = None
    """Bytes of the body after which nothing comes any more."""
    chunked: bool = False
    keeps_open: bool = False
    """Whether the server says that it keeps the connection open."""
    body: bytes | None = None


GOOD = Fault()


class Server:
    """Serves `files` by path; each request of a path takes the next of its `faults`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.changes: dict[str, list[bytes]] = {}
        """Content that a path has after its next requests."""
        self.released = threading.Event()
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def put(self, path: str, content: bytes, *faults: Fault) -> str:
        """Serve `content`, and return its address."""
        self.files[path] = content
        self.faults[path] = list(faults)
        return self.url + path

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.requests)

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with server._lock:
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                try:
                    with suppress(OSError):  # a client that leaves
                        server._answer(self)
                finally:
                    with server._lock:
                        server._now -= 1

            def log_message(self, *arguments: object) -> None:
                return

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        with self._lock:
            self.requests.append((path, dict(handler.headers.items())))
            queue = self.faults.get(path, [])
            fault = queue.pop(0) if queue else GOOD
            content = self.files.get(path)
            if content is not None and self.changes.get(path):
                self.files[path] = self.changes[path].pop(0)
        handler.close_connection = not fault.keeps_open
        if fault.status is None and content is None:
            fault = Fault(status=404)
        if fault.status is not None:
            body = fault.body if fault.body is not None else b"no"
            self._send(handler, fault.status, dict(fault.headers), body, fault)
            return
        assert content is not None
        etag = self.etags.get(path, f'"{sha256(content).hexdigest()[:12]}"')
        headers = dict(fault.headers)
        if not fault.without_validators:
            headers = {"ETag": etag, **headers}
        start = 0
        asked = handler.headers.get("Range")
        condition = handler.headers.get("If-Range")
        holds = condition in (None, etag) or fault.ignores_if_range
        if asked and holds and not fault.ignores_range:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self._send(handler, 416, {"Content-Range": f"bytes */{len(content)}"}, b"", fault)
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:] if fault.body is None else fault.body
        if fault.wrong_bytes:
            body = bytes(byte ^ 1 for byte in body)
        self._send(handler, 206 if "Content-Range" in headers else 200, headers, body, fault)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        fault: Fault,
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if fault.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(max(0, len(body) + fault.longer_by)))
        handler.send_header("Connection", "keep-alive" if fault.keeps_open else "close")
        handler.end_headers()
        handler.wfile.flush()
        end = fault.cut_after if fault.cut_after is not None else fault.hangs_after
        sent = body if end is None else body[:end]
        if fault.chunked:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b"")
            if end is None:
                handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.wfile.write(sent)
        handler.wfile.flush()
        if fault.hangs_after is not None:
            self.released.wait(20)
        if fault.cut_after is not None:
            handler.close_connection = True
