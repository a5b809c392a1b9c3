"""What client and fake say to each other is what Lambda's own specification allows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aquachat.cloud.booting import launch_ready
from aquachat.cloud.ending import end_live
from aquachat.cloud.survey import survey
from tests.cloud.contract import check_exchanges, specification
from tests.cloud.fake_cloud import Fault
from tests.cloud.world import World


@pytest.fixture(autouse=True)
def _needs_data(real_data: Path) -> None:
    assert specification() is not None


def test_a_whole_launch_is_within_the_specification(lambda_world: World) -> None:
    session = lambda_world.session()
    plan = lambda_world.plan()
    launch_ready(session, plan)
    survey(session)
    end_live(session, plan.job, reason="done")
    routes = {exchange.route for exchange in lambda_world.cloud.exchanges}
    assert routes == {"offers", "check", "launch", "list", "get", "terminate"}
    check_exchanges(lambda_world.cloud)


def test_errors_are_within_the_specification(lambda_world: World) -> None:
    lambda_world.cloud.num_refused_orders = 1
    session = lambda_world.session()
    plan = lambda_world.plan()
    launch_ready(session, plan)
    with pytest.raises(Exception, match="does not exist"):
        session.provider.get("f" * 32)
    lambda_world.cloud.accepted_key = "another"
    with pytest.raises(Exception, match="does not accept"):
        session.provider.list()
    statuses = {exchange.status for exchange in lambda_world.cloud.exchanges}
    assert statuses == {200, 400, 401, 404}
    check_exchanges(lambda_world.cloud)


@pytest.mark.parametrize(
    ("change", "is_request"),
    [
        (lambda body: body.pop("region_name"), True),
        (lambda body: body["tags"].append({"key": "UPPER", "value": ""}), True),
        (lambda body: body.update(name="x" * 65), True),
        (lambda body: body.pop("data"), False),
        (lambda body: body["data"].update(instance_ids="one"), False),
    ],
)
def test_the_check_can_fail(lambda_world: World, change, is_request: bool) -> None:  # type: ignore[no-untyped-def]
    launch_ready(lambda_world.session(), lambda_world.plan())
    exchanges = lambda_world.cloud.exchanges
    index, order = next((i, e) for i, e in enumerate(exchanges) if e.route == "launch")
    body = json.loads(order.request if is_request else order.response)
    change(body)
    content = json.dumps(body).encode()
    field = {"request": content} if is_request else {"response": content}
    exchanges[index] = replace(order, **field)
    with pytest.raises(Exception, match=r".+"):
        check_exchanges(lambda_world.cloud)
    exchanges[index] = order


def test_faults_are_left_out_of_the_check(lambda_world: World) -> None:
    lambda_world.cloud.inject("offers", Fault.RATE_LIMIT)
    launch_ready(lambda_world.session(), lambda_world.plan())
    assert any(exchange.status == 429 for exchange in lambda_world.cloud.exchanges)
