"""The Hugging Face hub: rows of a data set, and the commit that a name stands for now."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from aquachat.data.catalogue import HubSet, HubSplit
from aquachat.errors import ConfigError, RemoteError

ENDPOINT_VARIABLE: Final = "HF_ENDPOINT"
DEFAULT_ENDPOINT: Final = "https://huggingface.co"
TIMEOUT_S: Final = 20.0

HubRows = Callable[[str, HubSplit, str | None], Iterable[Mapping[str, Any]]]
"""The rows of (repository, configuration and split, revision)."""
ResolveRevision = Callable[[str, str | None], str]
"""The commit of (repository, branch, tag, commit or None for the newest)."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubApi(Protocol):
    """The part of `huggingface_hub.HfApi` that is used."""

    def dataset_info(self, repo_id: str, *, revision: str | None, timeout: float | None) -> Any:
        """Facts of a data set; `.sha` is the commit."""
        ...


def hub_endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """The address of the hub, which `HF_ENDPOINT` may name."""
    return environ.get(ENDPOINT_VARIABLE, "").strip().rstrip("/") or DEFAULT_ENDPOINT


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit already."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def resolve_revision(repo: str, revision: str | None, *, api: HubApi | None = None) -> str:
    """The commit that `revision` of a data set is now; None is its newest.

    Raises:
        ConfigError: there is no such revision.
        RemoteError: the hub could not be reached, or has no such set.
    """
    if revision is not None and is_commit(revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    api = api or HfApi(endpoint=hub_endpoint())
    try:
        commit = api.dataset_info(repo, revision=revision, timeout=TIMEOUT_S).sha
    except RevisionNotFoundError as error:
        raise ConfigError(
            f"`{repo}` has no revision `{revision}`",
            hint=f"see {hub_endpoint()}/datasets/{repo}/commits, or leave `--revision` out",
        ) from error
    except _hub_errors() as error:
        raise _unreachable(f"could not ask the hub about `{repo}`", error) from error
    if not is_commit(commit):
        raise RemoteError(
            f"the hub did not say which commit `{repo}` is at",
            hint="name one with `--revision COMMIT`",
        )
    return str(commit)


def hub_rows(repo: str, part: HubSplit, revision: str | None) -> Iterable[Mapping[str, Any]]:
    """The rows of a split on the hub, through `datasets` and its cache.

    Raises:
        RemoteError: the hub could not be reached, or has no such set.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        loaded = datasets.load_dataset(repo, part.config, split=part.split, revision=revision)
    except (DatasetsError, *_hub_errors()) as error:
        name = f"{repo} ({part.config})" if part.config else repo
        raise _unreachable(
            f"could not get the {part.split} split of `{name}` from the hub", error
        ) from error
    yield from loaded


def describe_hub(hub: HubSet, revision: str | None) -> str:
    """How the manifest names a source on the hub."""
    return f"hub:{hub.repo}@{revision or 'main'}"


def _unreachable(what: str, error: Exception) -> RemoteError:
    lines = str(error).strip().splitlines()
    return RemoteError(
        f"{what}: {lines[0] if lines else type(error).__name__}",
        hint=f"check the network and {ENDPOINT_VARIABLE}, or use local files with `--source PATH`",
    )


def _hub_errors() -> tuple[type[Exception], ...]:
    """What the HTTP client of the installed `huggingface_hub` raises; httpx's are no OSError."""
    from huggingface_hub import errors

    kinds = [errors.HfHubHTTPError, getattr(errors, "HTTPError", None)]
    known = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    return (OSError, ValueError, RuntimeError, *known)
