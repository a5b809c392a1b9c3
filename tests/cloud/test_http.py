"""The client knows what happened, keeps the pace, and never sends a write twice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.cloud.access import Surroundings, base_url_of
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
from aquachat.cloud.http import MAX_READ_S, READ_TRIES, JsonClient, retry_after_s
from aquachat.cloud.lambda_labs import LambdaLabs
from aquachat.cloud.pacer import LAUNCH_INTERVAL_S, REQUEST_INTERVAL_S, Pacer
from aquachat.cloud.redaction import Redactor
from aquachat.cloud.wire import (
    MAX_BODY_BYTES,
    NoAnswerWireError,
    NotSentWireError,
    WireAnswer,
    WireRequest,
    exchange,
)
from aquachat.errors import ConfigError
from tests.cloud.fake_cloud import HOST_KEY, JUPYTER_TOKEN, KEY, FakeClock, Fault
from tests.cloud.world import World

Answer = WireAnswer | Exception


class Script:
    """A transport that gives prepared answers and remembers when it was asked."""

    def __init__(self, clock: FakeClock, *answers: Answer) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.times: list[float] = []
        self.requests: list[WireRequest] = []

    def __call__(self, request: WireRequest) -> WireAnswer:
        self.times.append(self.clock.time())
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _answer(status: int, body: bytes = b"{}", **headers: str) -> WireAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WireAnswer(status, named, body)


def _client(*answers: Answer) -> tuple[JsonClient, Script, FakeClock]:
    clock = FakeClock()
    script = Script(clock, *answers)
    client = JsonClient(
        service="Service",
        base_url="https://example.com/v1",
        headers={"Authorization": f"Bearer {KEY}"},
        user_agent="aquachat/test",
        pacer=Pacer(clock),
        clock=clock,
        rng=random.Random(0),
        redactor=Redactor([KEY], {}),
        parse_error=lambda body: (
            (body["code"], body["message"], "")
            if isinstance(body, dict) and "code" in body
            else ("", "", "")
        ),
        keys_page="https://example.com/keys",
        transport=script,
    )
    return client, script, clock


RETRIED: list[Answer] = [
    _answer(429),
    _answer(500),
    _answer(503, b"<html>"),
    _answer(409),
    _answer(200, b"<html>"),
    _answer(200, b"[" * 100_000),
    _answer(400, b'{"code": "provider/internal-unavailable", "message": "x"}'),
    NoAnswerWireError("no answer within 30 s"),
    NotSentWireError("connection refused"),
]


@pytest.mark.parametrize("answer", RETRIED, ids=repr)
def test_a_read_is_tried_again_and_then_a_sentence(answer: Answer) -> None:
    client, script, clock = _client(answer)
    start_s = clock.time()
    with pytest.raises(CloudError) as caught:
        client.get("/x")
    assert caught.value.hint
    assert len(script.times) == READ_TRIES
    assert clock.time() - start_s <= MAX_READ_S + 20
    client, script, _ = _client(answer, answer, _answer(200, b'{"a": 1}'))
    assert client.get("/x") == {"a": 1}
    assert len(script.times) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (401, AuthError),
        (403, AuthError),
        (404, NotFoundError),
        (301, RefusedError),
    ],
)
def test_a_read_that_is_refused_is_not_tried_again(status: int, kind: type[CloudError]) -> None:
    client, script, _ = _client(_answer(status))
    with pytest.raises(kind):
        client.get("/x")
    assert len(script.times) == 1


AMBIGUOUS: list[Answer] = [
    _answer(500),
    _answer(502, b"<html>"),
    _answer(504),
    _answer(408),
    _answer(409),
    _answer(100),
    _answer(200, b"<html>"),
    _answer(201, b""),
    _answer(400, b'{"code": "provider/x", "message": "x"}'),
    NoAnswerWireError("the connection was closed"),
]


@pytest.mark.parametrize("answer", AMBIGUOUS, ids=repr)
def test_a_write_without_a_clear_answer_is_sent_once_and_said_to_be_unclear(answer: Answer) -> None:
    client, script, _ = _client(answer)
    with pytest.raises(AmbiguousWriteError):
        client.post("/x", {}, kind="launch")
    assert len(script.times) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_answer(400), RefusedError),
        (_answer(400, b"<html>"), RefusedError),
        (_answer(401), AuthError),
        (_answer(403, b"error code: 1010"), AuthError),
        (_answer(404), NotFoundError),
        (_answer(429), RateLimitedError),
        (NotSentWireError("connection refused"), NotSentError),
    ],
    ids=repr,
)
def test_a_write_that_was_refused_is_sent_once_and_said_to_be_refused(
    answer: Answer, kind: type[CloudError]
) -> None:
    client, script, _ = _client(answer)
    with pytest.raises(kind) as caught:
        client.post("/x", {}, kind="launch")
    assert not isinstance(caught.value, AmbiguousWriteError)
    assert len(script.times) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_names_the_new_host(status: int) -> None:
    answer = _answer(status, location="https://new.example.org/api")
    for ask in (lambda c: c.get("/x"), lambda c: c.post("/x", {}, kind="launch")):
        client, script, _ = _client(answer)
        with pytest.raises(RefusedError, match=r"moved to `new\.example\.org`"):
            ask(client)
        assert len(script.times) == 1


def test_retry_after_is_honoured() -> None:
    client, script, _ = _client(_answer(429, retry_after="40"), _answer(200))
    client.get("/x")
    assert script.times[1] - script.times[0] >= 40


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("9" * 40, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": value}, 60.0) == seconds


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=30))
def test_requests_and_orders_keep_their_distance(calls: list[tuple[bool, float]]) -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    times, orders = [], []
    for is_launch, pause_s in calls:
        clock.sleep(pause_s)
        pacer.wait(is_launch=is_launch)
        times.append(clock.time())
        orders += [clock.time()] if is_launch else []
    assert all(b - a >= REQUEST_INTERVAL_S - 1e-6 for a, b in pairwise(times))
    assert all(b - a >= LAUNCH_INTERVAL_S - 1e-6 for a, b in pairwise(orders))


def test_a_clock_that_was_set_back_does_not_stop_the_pacer() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    pacer.wait(is_launch=True)
    clock._now_s -= 100_000
    before_s = clock.time()
    pacer.wait(is_launch=True)
    assert clock.time() - before_s <= LAUNCH_INTERVAL_S + 0.001


def test_every_request_has_our_user_agent_and_a_time_out() -> None:
    client, script, _ = _client(_answer(200))
    client.get("/x", {"a": "b c"})
    client.post("/y", {"z": 1}, kind="write")
    for request in script.requests:
        assert request.headers["User-Agent"] == "aquachat/test"
        assert 0 < request.timeout_s <= 60
    assert script.requests[0].url == "https://example.com/v1/x?a=b+c"
    assert script.requests[1].body == b'{"z": 1}'


ECHO = (
    f"Bearer {KEY} / {KEY} https://x/?token={JUPYTER_TOKEN} "
    f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{HOST_KEY}\\n-----END OPENSSH PRIVATE KEY-----"
)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
def test_no_secret_that_a_provider_echoes_is_in_an_error(status: int) -> None:
    body = f'{{"code": "{KEY}", "message": "{ECHO}"}}'.encode()
    asks: list[Callable[[JsonClient], Any]] = [
        lambda c: c.get("/x"),
        lambda c: c.post("/x", {}, kind="write"),
    ]
    for ask in asks:
        client, _, _ = _client(_answer(status, body))
        with pytest.raises(CloudError) as caught:
            ask(client)
        error = caught.value
        text = f"{error!r} {error} {error.hint} {error.code}"
        for secret in (KEY, HOST_KEY, JUPYTER_TOKEN):
            assert secret not in text
        assert "\n" not in error.message


def test_a_request_shows_neither_its_headers_nor_its_body() -> None:
    request = WireRequest("POST", "https://x", {"Authorization": KEY}, HOST_KEY.encode(), 1.0)
    assert KEY not in repr(request)
    assert HOST_KEY not in repr(request)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://192.168.1.1/x",
        "ftp://example.com",
        "example.com",
        "https://user:password@example.com",
        "https://example.com/?a=1",
        "http://127.0.0.1.example.com",
        "https://[bad",
        "https://example.com:99999",
    ],
)
def test_an_address_that_would_show_the_key_or_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        base_url_of({"AQUACHAT_LAMBDA_URL": url}, "AQUACHAT_LAMBDA_URL", "https://d.example/p")
    assert caught.value.hint
    assert "password@" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("", "https://d.example/p"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/p"),
        ("http://localhost:8080/", "http://localhost:8080/p"),
        ("http://[::1]:80/q/", "http://[::1]:80/q"),
        ("https://proxy.example/lambda", "https://proxy.example/lambda"),
    ],
)
def test_an_address_may_leave_the_path_out(url: str, found: str) -> None:
    assert base_url_of({"V": url}, "V", "https://d.example/p") == found


def test_nothing_listening_is_known_to_be_not_sent() -> None:
    with pytest.raises(NotSentWireError, match="refused"):
        exchange(WireRequest("GET", "http://127.0.0.1:9/x", {}, None, 1.0))


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP, Fault.DROP_AFTER, Fault.CUT_AFTER, Fault.HANG_AFTER, Fault.TRICKLE_AFTER],
)
def test_a_broken_answer_is_no_answer(lambda_world: World, fault: Fault) -> None:
    lambda_world.cloud.inject("list", fault)
    url = f"{lambda_world.cloud.url}/instances"
    headers = {"Authorization": f"Bearer {KEY}", "User-Agent": "x"}
    with pytest.raises(NoAnswerWireError):
        exchange(WireRequest("GET", url, headers, None, 0.2))


def test_an_endless_answer_is_cut_off(lambda_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lambda_world.cloud.add_foreign("huge", "x" * (MAX_BODY_BYTES + 1), {})
    lambda_world.cloud.machines["huge"].is_ours = True
    session = lambda_world.session()
    with pytest.raises(UnreadableError, match="longer than 8 MiB"):
        session.provider.list()
    lambda_world.cloud.exchanges.clear()


@pytest.mark.parametrize("key", ["abc12", "two words here", "line\nbreak-in-the-key", "ключ-ключ"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str) -> None:
    clock = FakeClock()
    around = Surroundings({"LAMBDA_API_KEY": key}, clock, random.Random(0), Pacer(clock))
    with pytest.raises(ConfigError) as caught:
        LambdaLabs(around)
    assert key not in f"{caught.value} {caught.value.hint}"


def test_a_missing_key_says_where_to_get_one() -> None:
    clock = FakeClock()
    with pytest.raises(ConfigError, match="LAMBDA_API_KEY") as caught:
        LambdaLabs(Surroundings({}, clock, random.Random(0), Pacer(clock)))
    assert re.search(r"https://\S+", caught.value.hint or "")


@given(st.text(max_size=200))
@settings(max_examples=40)
def test_cleaning_gives_one_short_printable_line(text: str) -> None:
    cleaned = Redactor([KEY], {}).clean(text + KEY + text)
    assert KEY not in cleaned
    assert len(cleaned) <= 300
    assert cleaned.isprintable()
