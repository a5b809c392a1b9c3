from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.cloud.delivery import LIKELY_PLATFORM
from aquachat.cloud.wheel import make_wheel
from tests.cloud.machines import Rented, rented
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


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this checkout, made once."""
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, machine_platform=LIKELY_PLATFORM)
    return folder


@pytest.fixture(params=PROVIDERS)
def rent(request: pytest.FixtureRequest, tmp_path: Path, wheels: Path) -> Iterator[Rented]:
    """A person who rents at each provider, and gets a real machine."""
    with rented(request.param, tmp_path, wheels) as made:
        yield made
