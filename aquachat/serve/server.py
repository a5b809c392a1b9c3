"""The process: a socket, uvicorn around the application, and an end in good order."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import uvicorn

from aquachat.errors import ConfigError
from aquachat.serve.app import make_app
from aquachat.serve.guard import LOOPBACK_NAMES
from aquachat.serve.service import Service

BACKLOG = 1024
SPARE_CONNECTIONS = 500
"""Beyond one for every reply that can run or wait."""


def open_socket(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Raises:
        ConfigError: the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}",
            hint="choose another with `--port`; 0 takes any that is free",
        ) from error
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(listener: socket.socket) -> str:
    """The address to type into a browser."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    service: Service,
    listener: socket.socket,
    *,
    host: str,
    token: str | None,
    grace_s: float,
    on_ready: Callable[[], None],
    on_server: Callable[[Stoppable], None] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; replies that run then have `grace_s` to finish.

    A second signal ends at once. An error in the model's thread ends the server and is raised.
    Outside the main thread, where no signal comes, `on_server` gets what stops it.
    """
    hosts = {*LOOPBACK_NAMES, host.lower()} if is_loopback(host) else None
    config = uvicorn.Config(
        make_app(service, token=token, hosts=hosts),
        http="h11",
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=service.worker.capacity + SPARE_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(grace_s) + 5),
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _Server(config, service, grace_s, on_ready)
    if on_server is not None:
        on_server(server)
    asyncio.run(server.serve(sockets=[listener]))
    service.worker.join()
    if service.worker.failure is not None:
        raise service.worker.failure


class Stoppable(Protocol):
    """A server that runs in another thread."""

    def stop(self) -> None:
        """Stop in good order; at the second call at once."""
        ...


class _Server(uvicorn.Server):
    """Says when it listens, refuses new requests once it is to stop, and cancels late ones."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        grace_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._service, self._grace_s, self._on_ready = service, grace_s, on_ready
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        self._loop = asyncio.get_running_loop()
        self._service.worker.on_failure = self._stop
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn does, but no signal is raised again: to be stopped is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop in good order; at the second call at once."""
        if self._loop is None or self._loop.is_closed():
            self.should_exit = True
        elif self.should_exit:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._service.worker.stop)
        else:
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        assert self._loop is not None
        self._service.is_stopping = self.should_exit = True
        self._loop.call_later(self._grace_s, self._service.worker.stop)
