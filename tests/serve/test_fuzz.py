"""The API fuzzed from its own OpenAPI document: schemathesis makes requests and judges answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from aquachat.serve.openapi import openapi_document
from tests.serve.servers import Running, made_engine, running

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import CHECKS  # noqa: E402

SCHEMA = schemathesis.openapi.from_dict(openapi_document("made"))
OPERATIONS = {
    f"{found.ok().method} {found.ok().path}": found.ok() for found in SCHEMA.get_all_operations()
}
WITH_BODY = [name for name in OPERATIONS if name.startswith("post")]
NOT_IN_A_SCHEMA = {
    # Turns must alternate, ids must be below the vocabulary, and a prompt must fit the context.
    *("post /v1/chat/completions", "post /v1/completions"),
}
CASES = [
    *((name, schemathesis.GenerationMode.POSITIVE) for name in OPERATIONS),
    *((name, schemathesis.GenerationMode.NEGATIVE) for name in WITH_BODY),
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    stage = folder / "runs" / "a" / "sft"
    stage.mkdir(parents=True)
    (stage / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n')
    with running(made_engine(max_seq_len=300), folder, max_waiting=500) as server:
        yield server


def fuzz(server: Running, name: str, mode: Any, num_examples: int) -> None:
    operation = OPERATIONS[name]
    excluded = [] if name not in NOT_IN_A_SCHEMA else [CHECKS.get_one("positive_data_acceptance")]

    @seed(7)
    @settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode))
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=server.url, excluded_checks=excluded, timeout=60)

    ask()
    assert server.http.get("/health").status_code == 200
    assert server.service.worker.failure is None


@pytest.mark.parametrize(("name", "mode"), CASES, ids=lambda value: str(value))
def test_a_few_made_requests_are_answered_as_documented(
    fuzzed: Running, name: str, mode: Any
) -> None:
    fuzz(fuzzed, name, mode, 6)


@pytest.mark.long
@pytest.mark.parametrize(("name", "mode"), CASES, ids=lambda value: str(value))
def test_many_made_requests_are_answered_as_documented(
    fuzzed: Running, name: str, mode: Any
) -> None:
    fuzz(fuzzed, name, mode, 400)
