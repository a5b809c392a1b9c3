"""A provider on loopback: real sockets, state, faults, and a meter that counts every cent."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-fake-0123456789abcdef"
JUPYTER_TOKEN = "jupyter-secret-0123456789"
HOST_KEY = "c2VjcmV0IGhvc3Qga2V5IG9mIHRoaXMgdGVzdA"


class FakeClock:
    """Time that passes only when somebody waits; shared by the client and the fake."""

    def __init__(self, start_s: float = 1_790_000_000.0) -> None:
        self._now_s = start_s
        self._lock = threading.Lock()

    def time(self) -> float:
        with self._lock:
            return self._now_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now_s += max(0.0, seconds)


class Fault(StrEnum):
    """What can go wrong with one exchange; `*_after` faults come after the work was done."""

    RATE_LIMIT = "429"
    RATE_LIMIT_HTML = "429 html"
    SERVER_ERROR = "500"
    BAD_GATEWAY = "502 html"
    UPSTREAM = "400 provider/"
    CONFLICT = "409"
    MOVED = "301"
    EXPIRED = "401"
    DROP = "drop"
    DROP_AFTER = "drop after"
    ERROR_AFTER = "500 after"
    GARBAGE_AFTER = "200 html after"
    CUT_AFTER = "cut off after"
    HANG_AFTER = "hang after"
    TRICKLE_AFTER = "trickle after"


@dataclass
class FakeMachine:
    id: str
    name: str
    price_cents: int
    created_s: float
    body: Mapping[str, Any]
    is_ours: bool = True
    active_s: float = 0.0
    ip_s: float = 0.0
    ended_s: float | None = None
    forced_status: str | None = None

    def is_billed(self, now_s: float) -> bool:
        return self.created_s <= now_s and (self.ended_s is None or now_s < self.ended_s)


@dataclass(frozen=True)
class Exchange:
    method: str
    path: str
    request: bytes
    status: int
    response: bytes
    headers: Mapping[str, str]
    time_s: float
    route: str
    is_faulty: bool


@dataclass
class Reply:
    status: int
    body: Any
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ending: Fault | None = None

    @property
    def payload(self) -> bytes:
        return json.dumps(self.body).encode() if self.content is None else self.content


class FakeCloud:
    """State and faults; a subclass speaks one provider's language."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.machines: dict[str, FakeMachine] = {}
        self.exchanges: list[Exchange] = []
        self.violations: list[str] = []
        self.num_handled = 0
        self.faults: dict[str, deque[Fault]] = {}
        # knobs
        self.boot_s = 240.0
        self.ip_late_s = 0.0
        self.slow_create_s = 0.0
        self.num_per_order = 1
        self.num_refused_orders = 0
        self.full_regions: set[str] = set()
        self.num_stale_lists = 0
        self.num_ignored_terminates = 0
        self.unendable: set[str] = set()
        self.status_of_next: deque[str | None] = deque()
        self.is_never_active = False
        self.chaos: Callable[[], Fault | None] = lambda: None
        self.has_unknown_fields = False
        self.accepted_key = KEY
        self.url_elsewhere = ""
        self.login = ("198.51.100.2", 22, "ubuntu")
        """Where every machine is reached: address, port, user."""
        self.on_birth: Callable[[FakeMachine], None] = lambda machine: None
        self.on_end: Callable[[FakeMachine], None] = lambda machine: None
        self.account = f"/account-{next(_ACCOUNTS)}"

    # the meter

    def running(self, *, ours: bool = True) -> list[FakeMachine]:
        now_s = self.clock.time()
        with self.lock:
            return [m for m in self.machines.values() if m.is_ours is ours and m.is_billed(now_s)]

    def billed_cents(self, *, ours: bool = True) -> float:
        """What all machines cost until now."""
        now_s = self.clock.time()
        with self.lock:
            return sum(
                m.price_cents * max(0.0, min(now_s, m.ended_s or now_s) - m.created_s) / 3600
                for m in self.machines.values()
                if m.is_ours is ours
            )

    def doubled_s(self) -> float:
        """How long more than one of our machines was on the bill."""
        now_s = self.clock.time()
        edges = []
        for m in self.machines.values():
            if m.is_ours and m.created_s < now_s:
                edges += [(m.created_s, 1), (min(now_s, m.ended_s or now_s), -1)]
        total, count, last_s = 0.0, 0, 0.0
        for at_s, step in sorted(edges):
            total += (at_s - last_s) * (count > 1)
            count, last_s = count + step, at_s
        return total

    @property
    def num_made(self) -> int:
        return sum(m.is_ours for m in self.machines.values())

    @property
    def speaks_of_the_future(self) -> bool:
        """Whether answers hold what no specification has yet."""
        words = {None, "unhealthy", "preempted"}
        strange = any(m.forced_status not in words for m in self.machines.values())
        return self.has_unknown_fields or strange

    # faults and routes

    def inject(self, route: str, *faults: Fault) -> None:
        self.faults.setdefault(route, deque()).extend(faults)

    def heal(self) -> None:
        self.faults.clear()
        self.chaos = lambda: None
        self.accepted_key = KEY
        self.num_stale_lists = self.num_ignored_terminates = self.num_refused_orders = 0
        self.slow_create_s = 0.0

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        with self.lock:
            route = self.route(method, path)
            queue = self.faults.get(route)
            fault = queue.popleft() if queue else self.chaos()
            reply = self._reply(fault, method, path, headers, body)
            reply.ending = fault
            self.exchanges.append(
                Exchange(
                    method,
                    path,
                    body,
                    reply.status,
                    reply.payload,
                    dict(headers),
                    self.clock.time(),
                    route,
                    fault is not None,
                )
            )
            self.num_handled += 1
            return reply

    def _reply(
        self,
        fault: Fault | None,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        html = b"<html><body>nginx</body></html>"
        match fault:
            case Fault.RATE_LIMIT:
                error = self.error("global/rate-limited", "Too many requests.")
                return Reply(429, error, headers={"Retry-After": "3"})
            case Fault.RATE_LIMIT_HTML:
                return Reply(429, None, html)
            case Fault.SERVER_ERROR:
                return Reply(500, self.error("global/internal-error", f"failed for {KEY}"))
            case Fault.BAD_GATEWAY:
                return Reply(502, None, html)
            case Fault.UPSTREAM:
                return Reply(400, self.error("provider/internal-unavailable", "Upstream."))
            case Fault.CONFLICT:
                return Reply(409, self.error("global/internal-error", "Conflict."))
            case Fault.MOVED:
                return Reply(301, None, b"", {"Location": "https://new.example.com/api"})
            case Fault.EXPIRED:
                return self.unauthorized()
            case Fault.DROP:
                return Reply(0, None, b"")
        user_agent = headers.get("User-Agent", "")
        if user_agent.startswith("Python-urllib") or not user_agent:
            return Reply(403, None, b"error code: 1010")
        if headers.get("Authorization") != f"Bearer {self.accepted_key}":
            return self.unauthorized()
        done = self.execute(method, path, json.loads(body) if body else None)
        if fault is Fault.ERROR_AFTER:
            return Reply(500, self.error("global/internal-error", "An internal error."))
        if fault is Fault.GARBAGE_AFTER:
            return Reply(200, None, html)
        return done

    def refuse_unknown(self, body: Mapping[str, Any], allowed: set[str]) -> bool:
        unknown = set(body) - allowed
        if unknown:
            self.violations.append(f"unknown fields {sorted(unknown)}")
        return bool(unknown)

    # for subclasses

    def route(self, method: str, path: str) -> str:
        raise NotImplementedError

    def execute(self, method: str, path: str, body: Any) -> Reply:
        raise NotImplementedError

    def error(self, code: str, message: str) -> Any:
        raise NotImplementedError

    def unauthorized(self) -> Reply:
        raise NotImplementedError

    def add(self, machine_id: str, name: str, price_cents: int, body: Mapping[str, Any]) -> None:
        created_s = self.clock.time() + self.slow_create_s
        active_s = created_s + (1e12 if self.is_never_active else self.boot_s)
        self.machines[machine_id] = FakeMachine(
            machine_id,
            name,
            price_cents,
            created_s,
            body,
            active_s=active_s,
            ip_s=active_s + self.ip_late_s,
            forced_status=self.status_of_next.popleft() if self.status_of_next else None,
        )
        self.on_birth(self.machines[machine_id])

    def add_foreign(self, machine_id: str, name: str, body: Mapping[str, Any]) -> None:
        """A machine of somebody else on the same account."""
        now_s = self.clock.time()
        self.machines[machine_id] = FakeMachine(machine_id, name, 100, now_s, body, is_ours=False)

    def end(self, machine: FakeMachine) -> None:
        if machine.id in self.unendable:
            return
        if self.num_ignored_terminates > 0:
            self.num_ignored_terminates -= 1
        elif machine.ended_s is None:
            machine.ended_s = max(self.clock.time(), machine.created_s)
            self.on_end(machine)

    def visible(self) -> list[FakeMachine]:
        """What a list shows; a stale one lacks what was made in the last ten minutes."""
        now_s = self.clock.time()
        made = [m for m in self.machines.values() if m.created_s <= now_s]
        if self.num_stale_lists > 0:
            self.num_stale_lists -= 1
            made = [m for m in made if m.created_s < now_s - 600 or not m.is_ours]
        return [m for m in made if m.ended_s is None or now_s - m.ended_s < 120]

    # the server

    prefix = ""

    @property
    def url(self) -> str:
        if self.url_elsewhere:
            return self.url_elsewhere
        return f"http://127.0.0.1:{_server().server_address[1]}{self.account}{self.prefix}"

    def start(self) -> None:
        _server().clouds[self.account] = self

    def close(self) -> None:
        del _server().clouds[self.account]


_ACCOUNTS = itertools.count(1)


@cache
def _server() -> _Server:
    """One server for all fakes of a process: starting and stopping one takes longer than a test."""
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clouds: dict[str, FakeCloud] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        return

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        account, slash, local = self.path[1:].partition("/")
        cloud = self.server.clouds["/" + account]
        reply = cloud.handle(self.command, slash + local, dict(self.headers), body)
        self.close_connection = True
        if reply.ending in (Fault.DROP, Fault.DROP_AFTER):
            reset = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            self.connection.close()
            return
        with suppress(OSError):
            if reply.ending is Fault.HANG_AFTER:
                self.connection.settimeout(5)
                self.connection.recv(1)  # until the client has had enough
                return
            payload = reply.payload
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if reply.ending is Fault.CUT_AFTER:
                payload = payload[: len(payload) // 2]
            if reply.ending is Fault.TRICKLE_AFTER:
                stop = threading.Event()
                for i in range(len(payload)):
                    self.wfile.write(payload[i : i + 1])
                    self.wfile.flush()
                    stop.wait(0.03)
            self.wfile.write(payload)

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()
