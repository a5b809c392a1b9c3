"""A release on the Hugging Face hub: compare, then one commit, never two.

The plan is made against one commit of the repository, and the new commit names it as its parent:
whoever writes in between makes ours fail, and nothing is overwritten unseen. When the answer to the
commit is lost, the repository is read again before anything is sent again.

Files on the hub are deleted only if the last release put them there, which its `SHA256SUMS` says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from aquachat.errors import ConfigError, RemoteError, TryLaterError
from aquachat.hub.hub_errors import HubError, hub_call
from aquachat.hub.release import CHECKSUMS_FILE, Release, read_checksums

REPO_TYPES: Final = ("model", "dataset", "space")
TIMEOUT_S: Final = 120.0
MAX_ATTEMPTS: Final = 4
MAX_WAIT_S: Final = 120.0
FIRST_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub, by what tells its contents."""

    git_sha1: str
    """Of the blob; for a large file, of the pointer to it."""
    sha256: str | None
    """Of a large file."""


@dataclass(frozen=True, slots=True)
class RemoteState:
    """A repository at one commit."""

    head: str | None
    """None where there is no repository yet."""
    files: Mapping[str, RemoteFile]
    released: Mapping[str, str]
    """What the last release put there: path -> SHA-256."""
    is_private: bool | None = None
    tags: Mapping[str, str | None] | None = None
    """Tag -> commit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push would do, each list sorted."""

    add: tuple[str, ...]
    change: tuple[str, ...]
    delete: tuple[str, ...]
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]
    """On the hub and not ours: left alone."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.add or self.change or self.delete)

    def rows(self, release: Release) -> list[tuple[str, str, int | None]]:
        """Action, path and size in bytes, for a table."""
        return [
            (action, path, release[path].size if path in release else None)
            for action in ("add", "change", "delete", "unchanged", "kept")
            for path in getattr(self, action)
        ]

    def to_json(self) -> dict[str, list[str]]:
        """Action -> paths."""
        names = ("add", "change", "delete", "unchanged", "kept")
        return {name: list(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a release goes."""

    repo_id: str
    repo_type: str = "model"
    private: bool = True
    """Of a repository that is made; one that exists stays as it is."""


class HubClient(Protocol):
    """The part of `huggingface_hub.HfApi` that is used."""

    def repo_info(self, repo_id: str, **options: Any) -> Any:
        """Head commit and visibility."""
        ...

    def list_repo_tree(self, repo_id: str, **options: Any) -> Any:
        """The files of a commit."""
        ...

    def list_repo_refs(self, repo_id: str, **options: Any) -> Any:
        """Branches and tags."""
        ...

    def hf_hub_download(self, repo_id: str, filename: str, **options: Any) -> Any:
        """A file of a commit."""
        ...

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        """A new repository."""
        ...

    def create_commit(self, repo_id: str, operations: Any, **options: Any) -> Any:
        """One atomic commit."""
        ...

    def create_tag(self, repo_id: str, **options: Any) -> Any:
        """A name for a commit."""
        ...


def open_client(endpoint: str, token: str | None, *, quiet: bool = False) -> HubClient:
    """The real client, whose requests end after `TIMEOUT_S` without an answer.

    Args:
        endpoint: address of the hub.
        token: to log in with.
        quiet: show no progress bars.
    """
    from huggingface_hub import HfApi, get_session
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if quiet:
        disable_progress_bars()
    get_session().timeout = TIMEOUT_S
    client: Any = HfApi(endpoint=endpoint, token=token or False)
    opened: HubClient = client  # its own signatures name every option, ours those that are used
    return opened


def find_token() -> str | None:
    """The token of the environment (`HF_TOKEN`) or of `hf auth login`; None where there is none."""
    from huggingface_hub import get_token

    return get_token()


def read_remote(client: HubClient, target: Target) -> RemoteState:
    """The repository as it is now.

    Raises:
        RemoteError: the hub refused or could not be reached.
    """
    options = {"repo_type": target.repo_type}
    try:
        info = hub_call(client.repo_info, target.repo_id, **options, timeout=TIMEOUT_S)
    except HubError as error:
        if error.is_missing_repository:
            return RemoteState(None, {}, {})
        raise
    head = str(info.sha)
    entries = hub_call(
        lambda: list(
            client.list_repo_tree(target.repo_id, recursive=True, revision=head, **options)
        )
    )
    files = {
        entry.path: RemoteFile(entry.blob_id, None if entry.lfs is None else entry.lfs.sha256)
        for entry in entries
        if hasattr(entry, "blob_id")
    }
    released: dict[str, str] = {}
    if CHECKSUMS_FILE in files:
        with tempfile.TemporaryDirectory() as folder:
            path = hub_call(
                client.hf_hub_download,
                target.repo_id,
                CHECKSUMS_FILE,
                revision=head,
                local_dir=folder,
                **options,
            )
            released = read_checksums(Path(path).read_text("utf-8", errors="replace"))
    refs = hub_call(client.list_repo_refs, target.repo_id, **options)
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    return RemoteState(head, files, released, getattr(info, "private", None), tags)


def make_plan(release: Release, remote: RemoteState) -> Plan:
    """What has to be done so that the repository holds the release."""
    add, change, unchanged = [], [], []
    for path, file in release.items():
        there = remote.files.get(path)
        if there is None:
            add.append(path)
        elif there.sha256 == file.sha256 if there.sha256 else there.git_sha1 == file.git_sha1:
            unchanged.append(path)
        else:
            change.append(path)
    others = sorted(set(remote.files) - set(release))
    delete = [path for path in others if path in remote.released]
    kept = [path for path in others if path not in remote.released]
    return Plan(tuple(add), tuple(change), tuple(delete), tuple(unchanged), tuple(kept))


def check_tag(tag: str | None, remote: RemoteState, plan: Plan) -> None:
    """Make sure that a tag can be given.

    Raises:
        ConfigError: it names another commit than the one the release will be.
    """
    if tag is None or remote.tags is None or tag not in remote.tags:
        return
    # What an annotated tag points to is not the commit, so only a plan with changes is a conflict.
    if not plan.is_empty:
        raise ConfigError(
            f"the tag `{tag}` already names another version of the release",
            hint="choose another with `--tag`, or delete that one on the hub",
        )


def push(
    client: HubClient,
    target: Target,
    release: Release,
    remote: RemoteState,
    *,
    staged: Path,
    message: str,
    tag: str | None,
    sleep: Callable[[float], None],
) -> str:
    """Make the repository hold the release, in one commit.

    Args:
        client: of the hub.
        target: the repository.
        release: what it is to hold.
        remote: what the plan was made against.
        staged: the folder that holds the release's files.
        message: of the commit.
        tag: of the commit, None for none.
        sleep: waits some seconds before another attempt.

    Returns:
        The commit that holds the release; where nothing had to be done, the one that did already.

    Raises:
        RemoteError: the hub refused, or the repository was changed meanwhile. Nothing was written,
            or everything.
        TryLaterError: the hub has too much to do.
    """
    if remote.head is None:
        remote = _create(client, target)
    plan = make_plan(release, remote)
    assert remote.head is not None
    commit = remote.head
    if not plan.is_empty:
        commit = _commit(client, target, release, remote, plan, staged, message, sleep)
    if tag is not None:
        _tag(client, target, tag, commit)
    return commit


def _create(client: HubClient, target: Target) -> RemoteState:
    hub_call(
        client.create_repo,
        target.repo_id,
        repo_type=target.repo_type,
        private=target.private,
        exist_ok=True,
        **({"space_sdk": "static"} if target.repo_type == "space" else {}),
    )
    made = read_remote(client, target)
    if made.head is None:
        raise RemoteError(
            f"the hub made no repository `{target.repo_id}`",
            hint="check the name, and that your token may write to it",
        )
    return made


def _commit(
    client: HubClient,
    target: Target,
    release: Release,
    remote: RemoteState,
    plan: Plan,
    staged: Path,
    message: str,
    sleep: Callable[[float], None],
) -> str:
    """Send the commit until it is known to be there; see the module."""
    wait_s = FIRST_WAIT_S
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            info = hub_call(
                client.create_commit,
                target.repo_id,
                _operations(plan, staged),
                commit_message=message,
                repo_type=target.repo_type,
                parent_commit=remote.head,
            )
            return str(info.oid)
        except HubError as error:
            if error.is_refusal:
                raise
            # The commit may have been made and its answer lost: look before sending it again.
            now = _read_again(client, target, error)
            if now.head != remote.head:
                if make_plan(release, now).is_empty:
                    return str(now.head)
                raise RemoteError(
                    f"`{target.repo_id}` was changed by someone else meanwhile; nothing was "
                    "uploaded",
                    hint="run the same command again to see the new plan",
                ) from error
            if attempt == MAX_ATTEMPTS:
                raise _given_up(error) from error
            sleep(min(error.retry_after_s or wait_s, MAX_WAIT_S))
            wait_s *= 2
    raise AssertionError


def _read_again(client: HubClient, target: Target, cause: HubError) -> RemoteState:
    try:
        return read_remote(client, target)
    except HubError as error:
        raise RemoteError(
            f"{cause.message}, and whether the commit was made could not be asked",
            hint="run the same command again: what is there already is not uploaded twice",
        ) from error


def _given_up(error: HubError) -> Exception:
    if error.status == 429:
        return TryLaterError(
            "the hub allows no more requests now; nothing was uploaded",
            hint="run the same command again later",
        )
    return error


def _operations(plan: Plan, staged: Path) -> list[Any]:
    """New ones for each attempt: the client changes them."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=staged / path)
            for path in (*plan.add, *plan.change)
        ),
        *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in plan.delete),
    ]


def _tag(client: HubClient, target: Target, tag: str, commit: str) -> None:
    hub_call(
        client.create_tag,
        target.repo_id,
        tag=tag,
        revision=commit,
        repo_type=target.repo_type,
        exist_ok=True,
    )
