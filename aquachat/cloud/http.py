"""JSON over HTTP for providers: paced, bounded, and never a write twice.

Reads are retried with growing, jittered pauses. A write is sent once; what comes back is one of
three: its answer, `RefusedError` (nothing happened) or `AmbiguousWriteError` (look before doing it
again). Redirects are not followed: a 301 turns a POST into a GET, and would carry the key along.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlencode, urlsplit

from aquachat.cloud.clock import Clock
from aquachat.cloud.errors import (
    AmbiguousWriteError,
    AuthError,
    CloudError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    UnreadableError,
)
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.redaction import Redactor
from aquachat.cloud.wire import (
    NoAnswerWireError,
    NotSentWireError,
    Transport,
    WireAnswer,
    WireRequest,
    exchange,
)

READ_TRIES: Final = 6
MAX_READ_S: Final = 180.0
"""Pauses of one read add up to at most this, so nobody waits for ever."""
FIRST_PAUSE_S: Final = 2.0
MAX_PAUSE_S: Final = 45.0
RETRIED_STATUS: Final = frozenset({408, 409, 425, 429})
"""With 5xx: answers that another try of a read may change."""
UNCLEAR_STATUS: Final = frozenset({408, 409})
"""4xx that do not say that a write was left undone."""

WriteKind = Literal["launch", "write"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no success, in the words of the provider, redacted."""

    status: int
    code: str
    message: str
    suggestion: str = ""
    retry_after_s: float | None = None

    @property
    def is_upstream(self) -> bool:
        """Whether a service behind the API failed, which says nothing about what was done."""
        return self.status >= 500 or self.code.startswith("provider/")


ErrorParser = Callable[[Any], tuple[str, str, str]]
"""From the JSON of an error to (code, message, suggestion); empty where it does not say."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds after the connection stands."""

    read_s: float = 30.0
    write_s: float = 60.0


class JsonClient:
    """The HTTP side of one provider."""

    def __init__(
        self,
        *,
        service: str,
        base_url: str,
        headers: Mapping[str, str],
        user_agent: str,
        pacer: Pacer,
        clock: Clock,
        rng: random.Random,
        redactor: Redactor,
        parse_error: ErrorParser,
        keys_page: str,
        transport: Transport = exchange,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._service = service
        self._base_url = base_url.rstrip("/")
        self._headers = {
            **headers,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": user_agent,
            "Connection": "close",
        }
        self._pacer = pacer
        self._clock = clock
        self._rng = rng
        self._redactor = redactor
        self._parse_error = parse_error
        self._keys_page = keys_page
        self._transport = transport
        self._timeouts = timeouts or Timeouts()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Read a JSON document, with retries.

        Raises:
            CloudError: a class that says what to do, see `aquachat.cloud.errors`.
        """
        suffix = f"?{urlencode(query)}" if query else ""
        return self.read("GET", path + suffix, None)

    def read(self, method: str, path: str, body: Any) -> Any:
        """Read with any method; only for requests that change nothing, however often sent."""
        waited_s = 0.0
        for attempt in range(READ_TRIES):
            try:
                return self._decode_read(self._send(method, path, body, self._timeouts.read_s))
            except (NotSentError, UnreadableError, RateLimitedError) as error:
                pause_s = self._pause_s(attempt, error.retry_after_s)
                if attempt == READ_TRIES - 1 or waited_s + pause_s > MAX_READ_S:
                    raise
            self._clock.sleep(pause_s)
            waited_s += pause_s
        raise AssertionError("the last try returns or raises")

    def post(self, path: str, body: Any, *, kind: WriteKind) -> Any:
        """Send a write once.

        Raises:
            RefusedError: an answer that says no.
            NotSentError: no connection.
            AmbiguousWriteError: everything else, a success that cannot be read included.
        """
        try:
            answer = self._send("POST", path, body, self._timeouts.write_s, kind=kind)
        except UnreadableError as error:
            raise self._ambiguous(error.message) from error
        if 200 <= answer.status < 300:
            try:
                return _parse_json(answer)
            except ValueError as error:
                raise self._ambiguous("its answer is no JSON", answer.status) from error
        problem = self._problem(answer)
        unclear = answer.status in UNCLEAR_STATUS or answer.status < 300
        if problem.is_upstream or unclear:
            raise self._ambiguous(self._describe(problem), answer.status, problem.code)
        raise self._refused(problem, answer)

    def _send(
        self, method: str, path: str, body: Any, timeout_s: float, kind: str = "read"
    ) -> WireAnswer:
        self._pacer.wait(is_launch=kind == "launch")
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = WireRequest(method, self._base_url + path, headers, content, timeout_s)
        try:
            return self._transport(request)
        except NotSentWireError as error:
            host = urlsplit(self._base_url).netloc
            raise NotSentError(
                f"cannot reach {self._service} at `{host}`: {self._clean(str(error))}",
                hint="check the network, then run the same command again",
            ) from error
        except NoAnswerWireError as error:
            raise UnreadableError(
                f"{self._service} gave no usable answer: {self._clean(str(error))}",
                hint="run the same command again in a minute",
            ) from error

    def _decode_read(self, answer: WireAnswer) -> Any:
        if 200 <= answer.status < 300:
            try:
                return _parse_json(answer)
            except ValueError as error:
                raise UnreadableError(
                    f"{self._service} answered something that is no JSON",
                    hint="a proxy may stand between; run the same command again in a minute",
                ) from error
        problem = self._problem(answer)
        if problem.is_upstream or (answer.status in RETRIED_STATUS - {429}):
            raise _with(
                UnreadableError(
                    f"{self._service} is in trouble: {self._describe(problem)}",
                    hint="run the same command again in a minute",
                ),
                problem,
            )
        raise self._refused(problem, answer)

    def _problem(self, answer: WireAnswer) -> Problem:
        try:
            code, message, suggestion = self._parse_error(_parse_json(answer))
        except ValueError:
            code, message, suggestion = "", "", ""
        return Problem(
            answer.status,
            self._clean(code),
            self._clean(message),
            self._clean(suggestion),
            retry_after_s(answer.headers, self._clock.time()),
        )

    def _refused(self, problem: Problem, answer: WireAnswer) -> CloudError:
        hint = problem.suggestion.rstrip(".") or f"look at the account at {self._keys_page}"
        text = f"{self._service} refused: {self._describe(problem)}"
        kind: type[RefusedError] = RefusedError
        if 300 <= problem.status < 400:
            host = urlsplit(answer.headers.get("location", "")).netloc or "an unknown host"
            text = f"{self._service} has moved to `{self._clean(host)}`"
            hint = "update aquachat, or set the address that its documentation names"
        elif problem.status == 401:
            kind = AuthError
            text = f"{self._service} does not accept the key: {self._describe(problem)}"
            hint = f"make a new key at {self._keys_page} and put it into `.env`"
        elif problem.status == 403:
            kind = AuthError
        elif problem.status == 404:
            kind = NotFoundError
        elif problem.status == 429:
            kind = RateLimitedError
            hint = "wait a minute, then run the same command again"
        return _with(kind(text, hint=hint), problem)

    def _ambiguous(
        self, reason: str, status: int | None = None, code: str | None = None
    ) -> AmbiguousWriteError:
        error = AmbiguousWriteError(
            f"{self._service} may or may not have done what was asked: {reason}",
            hint="run `aquachat launch status`",
        )
        error.status, error.code = status, code
        return error

    def _describe(self, problem: Problem) -> str:
        named = f"HTTP {problem.status}" + (f", {problem.code}" if problem.code else "")
        return f"{problem.message.rstrip('.')} ({named})" if problem.message else named

    def _pause_s(self, attempt: int, asked_s: float | None) -> float:
        grown_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt)
        jittered_s = grown_s * self._rng.uniform(0.5, 1.5)
        return max(jittered_s, min(asked_s, 2 * MAX_PAUSE_S)) if asked_s else jittered_s

    def _clean(self, text: str) -> str:
        return self._redactor.clean(text)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except (TypeError, ValueError, OverflowError):
        return None


def _with(error: CloudError, problem: Problem) -> CloudError:
    error.status, error.code = problem.status, problem.code
    error.retry_after_s = problem.retry_after_s
    return error


def _parse_json(answer: WireAnswer) -> Any:
    """Raises ValueError for what is no JSON, a body nested too deep included."""
    try:
        return json.loads(answer.body)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
