"""Whatever a provider answers is read, or is a sentence; it is never a bug."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import GpuRequest, LaunchSpec, Offer, dollars_from_cents
from aquachat.cloud.errors import AmbiguousWriteError, CloudError
from aquachat.cloud.hyperbolic import Hyperbolic
from aquachat.cloud.lambda_labs import LambdaLabs
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.payload import item_at, text_at, whole_at, word_at
from aquachat.cloud.wire import WireAnswer, WireRequest
from tests.cloud.fake_cloud import KEY, FakeClock
from tests.cloud.fake_hyperbolic import OPTIONS, FakeHyperbolic
from tests.cloud.fake_lambda import TYPES, FakeLambda

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def _lambda_answers() -> list[Any]:
    fake = FakeLambda(FakeClock())
    fake.add("1" * 32, "x", 75, {"instance_type_name": "gpu_1x_a10", "tags": []})
    described = fake._describe(fake.machines["1" * 32])
    types = {name: fake._type_item(name) for name in TYPES}
    return [{"data": [described]}, {"data": types}, {"data": {"instance_ids": ["1" * 32]}}]


def _hyperbolic_answers() -> list[Any]:
    fake = FakeHyperbolic(FakeClock())
    fake.add("7", "x", 275, {})
    fake.clock.sleep(1000.0)
    return [
        [fake._describe(fake.machines["7"])],
        [fake._option(option) for option in OPTIONS],
        fake._describe(fake.machines["7"]),
    ]


ANSWERS = {LambdaLabs: _lambda_answers(), Hyperbolic: _hyperbolic_answers()}


def _provider(kind: type[LambdaLabs | Hyperbolic], answer: Any) -> LambdaLabs | Hyperbolic:
    def transport(request: WireRequest) -> WireAnswer:
        return WireAnswer(200, {}, json.dumps(answer).encode())

    environ = {"LAMBDA_API_KEY": KEY, "HYPERBOLIC_API_KEY": KEY}
    clock = FakeClock()
    return kind(Surroundings(environ, clock, random.Random(0), Pacer(clock), transport))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(p for k, v in value.items() for p in _paths(v, (*path, k)))]
    if isinstance(value, list):
        return [path, *(p for i, v in enumerate(value) for p in _paths(v, (*path, i)))]
    return [path]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.deepcopy(value)
    at = value
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = new
    return value


@pytest.mark.parametrize("kind", ANSWERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_an_answer_with_anything_anywhere_is_read_or_a_sentence(
    kind: type[LambdaLabs | Hyperbolic], data: st.DataObject
) -> None:
    valid = data.draw(st.sampled_from(ANSWERS[kind]))
    path = data.draw(st.sampled_from(_paths(valid)))
    provider = _provider(kind, _replaced(valid, path, data.draw(JSON)))
    offer = Offer("x", "gpu_1x_a10", 1, "A10", None, terms={"gpuType": "x", "networkType": "y"})
    spec = LaunchSpec(offer, "us-west-1", "aquachat-x", ssh_key_name="me")
    asks = [
        lambda: provider.list(),
        lambda: provider.get("7"),
        lambda: provider.offers(GpuRequest()),
        lambda: provider.create(spec),
    ]
    for ask in asks:
        error = _error_of(ask)
        if error is not None:
            assert error.hint
            assert error.message.isprintable()
    order_error = _error_of(asks[-1])
    assert order_error is None or isinstance(order_error, AmbiguousWriteError)


def _error_of(ask: Callable[[], Any]) -> CloudError | None:
    try:
        ask()
    except CloudError as error:
        return error
    return None


@given(JSON, st.lists(st.text(max_size=4) | st.integers(0, 3), max_size=4))
def test_reading_at_a_path_never_fails(value: Any, path: list[str | int]) -> None:
    item_at(value, *path)
    assert isinstance(text_at(value, *path), str)
    assert word_at(value, *path).isprintable()
    assert whole_at(value, *path) is None or whole_at(value, *path) >= 0  # type: ignore[operator]


@given(JSON)
def test_a_price_is_a_price_or_none(value: Any) -> None:
    price = dollars_from_cents(value)
    assert price is None or 0 <= price < 10**7


@pytest.mark.parametrize(
    ("cents", "dollars"),
    [
        (275, "2.75"),
        ("275", "2.75"),
        (99.5, "0.995"),
        (0, "0"),
        (-1, None),
        (True, None),
        ("NaN", None),
        ("1e999999", None),
        ("about 3", None),
    ],
)
def test_cents_are_converted_once_and_exactly(cents: Any, dollars: str | None) -> None:
    found = dollars_from_cents(cents)
    assert (None if found is None else str(found)) == dollars
