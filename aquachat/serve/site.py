"""The web page: a few files of the package, no others."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aquachat.serve.errors import ApiError

PAGE_FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "main.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "chat.js": "text/javascript; charset=utf-8",
    "aqua.js": "text/javascript; charset=utf-8",
    "runs.js": "text/javascript; charset=utf-8",
    "plot.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def routes() -> list[Route]:
    """The page at `/` and its files at `/page/NAME`."""

    async def index(request: Request) -> Response:
        return _file("index.html")

    async def file(request: Request) -> Response:
        return _file(request.path_params["name"])

    return [
        Route("/", index, methods=["GET"]),
        Route("/page/{name}", file, methods=["GET"]),
    ]


def _file(name: str) -> Response:
    media_type = PAGE_FILES.get(name)
    if media_type is None:
        raise ApiError(404, "there is no such page", code="not_found")
    content = files("aquachat.serve").joinpath("page", name).read_bytes()
    return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})
