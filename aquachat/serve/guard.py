"""Who may ask, and what every answer says about security: the outermost layer of the server."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aquachat.serve.errors import ApiError
from aquachat.serve.wire import CompactJSON

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
OPEN_PREFIXES: Final = ("/v1", "/api", "/page")
"""Paths that are counted by their first part, so that no client can make up metrics."""


class Guard:
    """Checks `Host` and the bearer token, adds headers, and counts requests.

    On loopback a `Host` that is no name of this machine is refused: a foreign web page whose name
    was made to point here (DNS rebinding) sends its own. The page itself and `/health` need no
    token, so that a person can enter it and a supervisor can look.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Collection[str] | None,
        counts: Counter[tuple[str, int]],
    ) -> None:
        """Wrap `app`.

        Args:
            app: what is guarded.
            token: what clients must present; None asks for none.
            hosts: the names this server is asked by; None allows all.
            counts: of requests, by path and status.
        """
        self._app, self._counts, self._hosts = app, counts, hosts
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts[_label(scope["path"], message["status"]), message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["path"])
        if refusal is None:
            await self._app(scope, receive, send_guarded)
            return
        response = CompactJSON(refusal.to_json(), refusal.status, headers=refusal.headers)
        await response(scope, receive, send_guarded)

    def _refusal(self, headers: Headers, path: str) -> ApiError | None:
        if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
            return ApiError(421, "this server is not asked by that name", code="wrong_host")
        if self._token is None or not path.startswith(("/v1", "/api", "/metrics")):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        presented = given.strip().encode("latin-1", errors="replace")
        is_right = hmac.compare_digest(presented, self._token)
        if scheme.lower() == "bearer" and is_right:
            return None
        return ApiError(401, "the bearer token is missing or wrong", code="invalid_api_key")


def _host_name(host: str) -> str:
    """Without the port; `[::1]:8000` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _label(path: str, status: int) -> str:
    """A path as it is counted: only those there are."""
    known = ("/v1/chat/completions", "/v1/completions", "/health", "/metrics", "/")
    if path in known:
        return path
    if status in (404, 405):
        return "other"
    return next((prefix for prefix in OPEN_PREFIXES if path.startswith(prefix)), "other")
