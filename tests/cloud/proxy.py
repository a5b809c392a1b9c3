"""A slow or breaking wire: a TCP proxy on loopback that delays, counts and cuts."""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from contextlib import suppress


class Proxy:
    """Passes bytes on after `delay_s` each way; used as a context manager.

    Bandwidth is not limited, so a delay of 0.04 is a round trip of 80 ms and nothing else.
    """

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self._target = port
        self.delay_s = delay_s
        self.cut_after_bytes: int | None = None
        """Of what the client sends over the present connection; used once."""
        self.cut_after_received: int | None = None
        """The same for what the server sends."""
        self.sent = 0
        """Bytes from clients, over all connections."""
        self.received = 0
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self.cut()

    def refuse(self) -> None:
        """Let nobody connect any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """Reset every connection, as when a network goes away."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RDWR)
                with suppress(OSError):
                    one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._pairs.append((client, server))
            self._pump(client, server, is_up=True)
            self._pump(server, client, is_up=False)

    def _pump(self, source: socket.socket, sink: socket.socket, *, is_up: bool) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()

        def receive() -> None:
            data = b"-"
            while data:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    data = b""
                waiting.put((time.monotonic() + self.delay_s, data))

        def send() -> None:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    with suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)
                    return
                try:
                    sink.sendall(data)
                except OSError:  # cut: what still waits here is not delivered, and not counted
                    return
                self._count(len(data), is_up=is_up)

        for work in (receive, send):
            threading.Thread(target=work, daemon=True).start()

    def _count(self, num_bytes: int, *, is_up: bool) -> None:
        if is_up:
            self.sent += num_bytes
            if self.cut_after_bytes is not None and self.sent >= self.cut_after_bytes:
                self.cut_after_bytes = None
                self.cut()
        else:
            self.received += num_bytes
            if self.cut_after_received is not None and self.received >= self.cut_after_received:
                self.cut_after_received = None
                self.cut()
