from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.world import PROVIDERS, World, world_of


@pytest.fixture(params=PROVIDERS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account at each provider."""
    with world_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def lambda_world(tmp_path: Path) -> Iterator[World]:
    with world_of("lambda", tmp_path) as made:
        yield made


@pytest.fixture
def hyperbolic_world(tmp_path: Path) -> Iterator[World]:
    with world_of("hyperbolic", tmp_path) as made:
        yield made
