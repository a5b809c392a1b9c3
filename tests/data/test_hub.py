from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import HfApi

from aquachat.data.hub import hub_endpoint, is_commit, resolve_revision
from aquachat.errors import ConfigError, RemoteError
from tests.data.http_server import Fault, Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "deepmind/aqua_rat"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


class Api:
    """Answers like the hub, or fails."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def dataset_info(self, repo_id: str, *, revision: str | None, timeout: float | None) -> Any:
        assert timeout
        self.asked.append((repo_id, revision))
        if isinstance(self.answer, Exception):
            raise self.answer
        return type("Info", (), {"sha": self.answer})()


def test_a_branch_becomes_its_commit_and_a_commit_stays() -> None:
    api = Api(COMMIT)
    assert resolve_revision(REPO, "main", api=api) == COMMIT
    assert resolve_revision(REPO, None, api=api) == COMMIT
    assert api.asked == [(REPO, "main"), (REPO, None)]
    assert resolve_revision(REPO, "f" * 40, api=api) == "f" * 40
    assert len(api.asked) == 2


@pytest.mark.parametrize("answer", [None, "main", ConnectionError("no route"), OSError("offline")])
def test_a_hub_that_does_not_say_is_an_error_and_never_a_guess(answer: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        resolve_revision(REPO, None, api=Api(answer))
    assert REPO in caught.value.message
    assert caught.value.hint


def test_the_real_client_reads_a_real_answer(server: Server) -> None:
    info = {"id": REPO, "sha": COMMIT, "siblings": [], "tags": []}
    server.put(f"/api/datasets/{REPO}", json.dumps(info).encode())
    api = HfApi(endpoint=server.url, token=False)
    assert resolve_revision(REPO, None, api=api) == COMMIT


def test_a_revision_or_set_that_the_hub_does_not_have_is_named(server: Server) -> None:
    missing = Fault(status=404, headers={"X-Error-Code": "RevisionNotFound"}, body=b"{}")
    server.put(f"/api/datasets/{REPO}/revision/v9", b"", missing)
    api = HfApi(endpoint=server.url, token=False)
    with pytest.raises(ConfigError, match="no revision `v9`"):
        resolve_revision(REPO, "v9", api=api)
    gone = Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}, body=b"{}")
    server.put(f"/api/datasets/{REPO}", b"", gone)
    with pytest.raises(RemoteError, match=REPO):
        resolve_revision(REPO, None, api=api)


def test_nobody_at_the_endpoint_is_one_sentence() -> None:
    with Server().running() as server:
        api = HfApi(endpoint=server.url, token=False)
    with pytest.raises(RemoteError, match="could not ask the hub"):
        resolve_revision(REPO, None, api=api)


def test_the_endpoint_is_the_one_of_the_environment() -> None:
    assert hub_endpoint({}) == "https://huggingface.co"
    assert hub_endpoint({"HF_ENDPOINT": " https://mirror/ "}) == "https://mirror"
    assert is_commit(COMMIT)
    assert not is_commit("main")
    assert not is_commit(None)
