from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.servers import Running, made_engine, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over a made model; tests leave it as they found it."""
    with running(made_engine(), tmp_path_factory.mktemp("served")) as found:
        yield found
