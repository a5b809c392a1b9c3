"""`aquachat launch` against a provider on loopback: shows what runs, ends it, and nothing else.

The clock is the fake's, so that pacing and confirming take no time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquachat.cloud import providers
from aquachat.cloud.launching import launch
from aquachat.cloud.limits import Limits
from tests.cli.programs import Cli, Outcome
from tests.cloud.fake_cloud import KEY, Fault
from tests.cloud.world import PROVIDERS, World, world_of


class Shell:
    """The command line of a person with one account."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self._cli = Cli(folder)
        self._cli.home = world.home

    def __call__(self, *arguments: str, code: int = 0) -> Outcome:
        self.world.clock.sleep(13.0)
        outcome = self._cli("launch", *arguments, code=code, **self.world.environ())
        assert KEY not in outcome.stdout + outcome.stderr
        return outcome

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)


@pytest.fixture(params=PROVIDERS)
def shell(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    with world_of(request.param, tmp_path / "home") as world:
        monkeypatch.setattr(providers, "SystemClock", lambda: world.clock)
        yield Shell(world, tmp_path)


def running(world: World, hours: float = 4.0) -> str:
    """A machine of ours whose launcher is gone; returns its job."""
    return launch(world.session(), world.plan(limits=Limits(hours))).job


def test_offers_are_listed_cheapest_first(shell: Shell) -> None:
    document = shell.json("offers", "--all")
    prices = [offer["price_usd_per_hour"] for offer in document["offers"]]
    assert len(prices) > 1
    assert prices == sorted(prices)
    assert document["problems"] == {}
    table = shell("offers", "--gpu", "h100").stdout
    assert "h100" in table.lower()
    assert "a10 " not in table.lower()


def test_a_price_limit_leaves_dearer_offers_out(shell: Shell) -> None:
    limit = min(offer["price_usd_per_hour"] for offer in shell.json("offers")["offers"])
    kept = shell.json("offers", "--max-price", str(limit))["offers"]
    assert kept
    assert all(offer["price_usd_per_hour"] <= limit for offer in kept)
    assert "is no price" in shell("offers", "--max-price", "cheap", code=2).stderr


def test_a_depth_adds_hours_and_dollars_and_sorts_by_the_whole_cost(shell: Shell) -> None:
    document = shell.json("offers", "--all", "--depth", "8")
    found = [offer["estimate"] for offer in document["offers"]]
    costs = [entry["cost_usd"] for entry in found if entry["cost_usd"] is not None]
    assert len(costs) > 1
    assert costs == sorted(costs)
    for offer in document["offers"]:
        entry = offer["estimate"]
        assert (entry["hours"] is None) == (entry["problem"] is not None)
        if entry["hours"] is not None:
            exact = entry["hours"] * offer["price_usd_per_hour"]
            assert exact <= entry["cost_usd"] <= exact + 0.01
            assert sum(entry["stage_hours"].values()) == pytest.approx(entry["hours"])
    assert document["workload"]["command"] == "aquachat run d8"
    outcome = shell("offers", "--depth", "8")
    assert "USD in all" in outcome.stdout
    for line in document["workload"]["assumptions"]:
        assert line in outcome.stdout
    assert "not measured" in outcome.stdout
    assert "estimate" not in shell.json("offers")["offers"][0]


def test_nothing_running_is_said_and_other_machines_are_counted(shell: Shell) -> None:
    outcome = shell("status")
    assert "no machine of ours runs" in outcome.stdout
    assert "1 machines of the account are not ours" in outcome.stderr
    assert "next: `aquachat launch offers`" in outcome.stderr


def test_a_machine_that_runs_is_shown_with_its_cost_and_its_end(shell: Shell) -> None:
    job = running(shell.world)
    shell.world.clock.sleep(3600)
    (machine,) = shell.json("status")["providers"][0]["machines"]
    assert machine["job"] == job
    assert machine["cost_usd"] > 0
    assert machine["in_ledger"]
    assert job in shell("status").stdout


def test_stop_ends_the_machines_of_a_job_and_says_what_it_cost(shell: Shell) -> None:
    job = running(shell.world)
    outcome = shell("stop", job)
    assert f"of job {job} ended" in outcome.stdout
    assert "USD in all" in outcome.stdout
    assert shell.world.cloud.running() == []
    assert shell.json("status")["providers"][0]["machines"] == []


def test_what_is_not_ours_is_not_stopped(shell: Shell) -> None:
    outcome = shell("stop", "77", code=4)
    assert "no machine of ours" in outcome.stderr
    assert "aquachat launch status" in outcome.stderr
    assert len(shell.world.cloud.running(ours=False)) == 1


def test_reap_ends_what_its_launcher_left_and_nothing_else(shell: Shell) -> None:
    job = running(shell.world)
    assert "next: `aquachat launch reap`" in shell("status").stderr
    document = shell.json("reap")
    assert [ended["job"] for ended in document["ended"]] == [job]
    assert document["providers"][0]["machines"] == []
    assert shell.world.cloud.running() == []
    assert "nothing was running" in shell("reap").stdout


@pytest.mark.parametrize("command", ["status", "reap"])
def test_a_provider_that_cannot_be_asked_is_not_an_empty_one(shell: Shell, command: str) -> None:
    job = running(shell.world)
    shell.world.cloud.inject("list", *([Fault.SERVER_ERROR] * 200))
    outcome = shell(command, code=4)
    assert "no machine of ours runs" not in outcome.stdout
    assert "not known" in outcome.stderr
    if command == "status":
        assert job in outcome.stdout
    shell.world.cloud.heal()
    shell("reap")
    assert shell.world.cloud.running() == []


def test_an_expired_key_is_said_with_a_way_out(shell: Shell) -> None:
    variable = next(iter(shell.world.environ()))
    outcome = shell._cli(
        "launch", "offers", code=4, **(shell.world.environ() | {variable: KEY[::-1]})
    )
    assert "key" in outcome.stderr
    assert "hint:" in outcome.stderr


def test_without_a_key_the_variables_are_named(tmp_path: Path) -> None:
    outcome = Cli(tmp_path)("launch", "status", code=2)
    assert "LAMBDA_API_KEY or HYPERBOLIC_API_KEY" in outcome.stderr


def test_a_provider_with_machines_and_without_a_key_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with world_of("lambda", home) as first, world_of("hyperbolic", home) as second:
        running(first)
        monkeypatch.setattr(providers, "SystemClock", lambda: second.clock)
        assert "the ledger has machines at lambda" in Shell(second, tmp_path)("status").stderr
