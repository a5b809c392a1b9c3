"""Several providers side by side."""

from __future__ import annotations

import json
from pathlib import Path

from aquachat.cloud.base import GpuRequest
from aquachat.cloud.launching import launch
from aquachat.cloud.providers import offers_of, open_session, with_keys
from aquachat.cloud.survey import reap, survey
from aquachat.errors import ConfigError
from aquachat.paths import Home
from tests.cloud.fake_cloud import Fault
from tests.cloud.world import world_of


def test_offers_of_all_providers_are_listed_cheapest_first(tmp_path: Path) -> None:
    with world_of("lambda", tmp_path / "a") as a, world_of("hyperbolic", tmp_path / "b") as b:
        providers = [a.session().provider, b.session().provider]
        offers, problems = offers_of(providers, GpuRequest(gpus=("h100",), count=1))
        assert problems == {}
        assert [str(offer.price_usd_per_hour) for offer in offers] == ["2.75", "3.19", "3.29"]
        a.cloud.inject("offers", *[Fault.SERVER_ERROR] * 6)
        offers, problems = offers_of(providers, GpuRequest())
        assert list(problems) == ["lambda"]
        assert {offer.provider for offer in offers} == {"hyperbolic"}
        _, problems = offers_of(providers, GpuRequest(supplier="acme"))
        assert {type(problem) for problem in problems.values()} == {ConfigError}


def test_providers_share_a_ledger_and_see_only_their_own_machines(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with world_of("lambda", tmp_path) as a, world_of("hyperbolic", tmp_path) as b:
        environ = a.environ() | b.environ()
        assert with_keys(environ) == ["lambda", "hyperbolic"]
        sessions = []
        for world in (a, b):
            session = open_session(
                world.kind, environ=environ, home=home, clock=world.clock, say=world.said.append
            )
            launch(session, world.plan())
            sessions.append(session)
        rows = [survey(session).rows for session in sessions]
        assert [len(found) for found in rows] == [1, 1]
        assert [found[0].machine.provider for found in rows] == ["lambda", "hyperbolic"]
        lines = [json.loads(line) for line in a.ledger_path.read_text().splitlines()]
        assert [line["event"] for line in lines] == ["intent", "created"] * 2
        reap(sessions[0])
        assert a.cloud.running() == []
        assert len(b.cloud.running()) == 1
        reap(sessions[1])
