"""The application: all routes behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from aquachat import __version__
from aquachat.serve import attempts, openai_api, runs_api, site
from aquachat.serve.errors import ApiError
from aquachat.serve.guard import Guard
from aquachat.serve.metrics import CONTENT_TYPE
from aquachat.serve.openapi import openapi_document
from aquachat.serve.service import Service
from aquachat.serve.wire import CLIENT_LEFT, CompactJSON


def make_app(service: Service, *, token: str | None, hosts: Collection[str] | None) -> ASGIApp:
    """The ASGI application; its lifespan starts and stops the model's thread."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.worker.start()
        try:
            yield
        finally:
            service.worker.stop()

    async def health(request: Request) -> Response:
        is_well = service.worker.is_running and not service.is_stopping
        document = {
            "status": "ok" if is_well else "stopping",
            "model": service.served.name,
            "version": __version__,
            "needs_token": token is not None,
        }
        return CompactJSON(document, 200 if is_well else 503)

    async def metrics(request: Request) -> Response:
        worker = service.worker
        capacity = {"active": worker.max_rows, "all": worker.capacity}
        text = service.metrics.text(worker.counts, capacity)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def openapi(request: Request) -> Response:
        return CompactJSON(openapi_document(service.served.name))

    app = Starlette(
        routes=[
            *openai_api.routes(service),
            *attempts.routes(service),
            *runs_api.routes(service),
            Route("/health", health, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            *site.routes(),
        ],
        exception_handlers={
            ApiError: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _client_left,
        },
        lifespan=lifespan,
    )
    return Guard(app, token=token, hosts=hosts, counts=service.metrics.requests)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return CompactJSON(error.to_json(), error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of all others."""
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    allowed = (error.headers or {}).get("Allow")
    message = f"{request.method} {request.url.path[:100]}: {error.detail}"
    refusal = ApiError(error.status_code, message, code=code, allowed_methods=allowed)
    return await _refused(request, refusal)


async def _client_left(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)
