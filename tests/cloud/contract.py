"""Every exchange with the fake of Lambda, held against Lambda's own specification.

The specification is read from AQUACHAT_TEST_DATA and never copied; where that is unset nothing is
checked, and `test_contract.py` says so by skipping. What the specification cannot say (429, an
unknown field in a request) the fake checks itself.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from tests.cloud.fake_cloud import Exchange, FakeCloud
from tests.cloud.fake_lambda import FakeLambda

SPECIFICATION = Path("api") / "lambda_openapi.json"


@cache
def specification() -> Any | None:
    """`openapi_core.OpenAPI`, with the fake as the server; None where there is no data."""
    named = os.environ.get("AQUACHAT_TEST_DATA", "")
    if not named:
        return None
    from openapi_core import OpenAPI

    content = json.loads((Path(named) / SPECIFICATION).read_text("utf-8"))
    content["servers"] = [{"url": "http://fake"}]
    return OpenAPI.from_dict(content)


def check_exchanges(cloud: FakeCloud) -> int:
    """Validate what was said between client and fake; returns how many exchanges were new."""
    api = specification()
    if not isinstance(cloud, FakeLambda) or api is None or cloud.speaks_of_the_future:
        return 0
    checked = 0
    for exchange in cloud.exchanges:
        if not exchange.is_faulty:
            checked += _check(_normal(exchange.method), exchange.path, *_texts(exchange))
    return checked


def _texts(exchange: Exchange) -> tuple[str, int, str]:
    return _normal(exchange.request.decode()), exchange.status, _normal(exchange.response.decode())


def _normal(text: str) -> str:
    """The same exchange with other jobs, times and ids needs no second check."""
    text = re.sub(r"aquachat-[0-9a-f]{8}-[0-9a-f]{8}", "aquachat-00000000-00000000", text)
    text = re.sub(r'"value": "[0-9a-f.]+"', '"value": "0"', text)
    return re.sub(r"[0-9a-f]{32}", "0" * 32, text)


@cache
def _seen() -> set[tuple[str, str, str, int, str]]:
    return set()


def _check(method: str, path: str, request: str, status: int, response: str) -> int:
    key = (method, _normal(path), request, status, response)
    if key in _seen():
        return 0
    from openapi_core.testing import MockRequest, MockResponse

    api = specification()
    assert api is not None
    mock = MockRequest(
        "http://fake",
        method.lower(),
        path,
        headers={"Authorization": "Bearer x"},
        data=request.encode() if request else None,
        content_type="application/json",
    )
    api.validate_request(mock)
    api.validate_response(mock, MockResponse(response.encode(), status_code=status))
    _seen().add(key)
    return 1
