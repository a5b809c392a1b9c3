"""The doctor as a person and a script see it."""

from __future__ import annotations

import json

import pytest

from aquachat.pipeline import doctor_machine
from tests.cli.programs import Cli

SECRET = "lambda-secret-0123456789"


def test_a_failed_check_ends_with_code_3_and_the_way_out(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine, "memory_bytes", lambda: 10**8)
    outcome = cli("doctor", "--preset", "d20", LAMBDA_API_KEY=SECRET, code=3)
    assert "hint: memory: choose a smaller preset" in outcome.stderr
    assert "error: " in outcome.stderr
    assert SECRET not in outcome.stdout + outcome.stderr
    document = json.loads(cli("doctor", "--preset", "d20", "--json", code=3).stdout)
    assert document["status"] == "failure"
    assert {"check", "status", "sentence", "way_out"} == document["checks"][0].keys()
    failed = [check for check in document["checks"] if check["status"] == "failure"]
    assert "memory" in [check["check"] for check in failed]
    assert all(check["way_out"] for check in failed)


def test_a_sound_machine_is_told_what_comes_next(cli: Cli) -> None:
    outcome = cli("doctor", code=0)
    assert "next: `aquachat run tiny`" in outcome.stderr
    assert not (cli.home / "runs").exists()


def test_an_unknown_preset_is_a_usage_error(cli: Cli) -> None:
    assert "did you mean `tiny`?" in cli("doctor", "--preset", "tinny", code=2).stderr
