"""sync-hf: a release on the Hugging Face hub."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aquachat.cli.command import Command, check_choice, chosen_run, execute
from aquachat.cli.exporting import chosen_origin, default_folder, export_origin
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError, MissingFileError, PreflightError

if TYPE_CHECKING:
    from aquachat.hub.gathering import Gathered, ReleaseRequest
    from aquachat.hub.sync import HubClient, Plan, RemoteState, Target


@recipe_command(
    common=("run", "from_", *OUTPUT_OPTIONS),
    arguments={
        "repo_id": Argument(
            str | None, None, typer.Option("--repo-id", help="Repository on the hub: OWNER/NAME")
        ),
        "push": Argument(
            bool, True, typer.Option("--push/--no-push", help="Upload, or only fill the folder")
        ),
        "dry_run": Argument(
            bool, False, typer.Option("--dry-run", help="Show the plan; write and upload nothing")
        ),
        "repo_type": Argument(
            str,
            "model",
            typer.Option("--repo-type", metavar="model|dataset|space", help="Kind of repository"),
        ),
        "private": Argument(
            bool,
            True,
            typer.Option("--private/--public", help="Of a repository that is made by this"),
        ),
        "weights": Argument(
            bool,
            True,
            typer.Option("--weights/--no-weights", help="Release the model of the run too"),
        ),
        "model_dir": Argument(
            Path | None,
            None,
            typer.Option("--model-dir", help="Release this export instead of a run's checkpoint"),
        ),
        "readme": Argument(
            Path,
            Path("README.md"),
            typer.Option("--readme", help="Released with all files that it links to"),
        ),
        "release_dir": Argument(
            Path, Path("hf_release"), typer.Option("--release-dir", help="Folder to fill")
        ),
        "extra": Argument(
            list[str] | None,
            None,
            typer.Option("--extra", metavar="GLOB", help="Further files; may be repeated"),
        ),
        "message": Argument(
            str, "Release by aquachat", typer.Option("--message", help="Of the commit")
        ),
        "tag": Argument(str | None, None, typer.Option("--tag", help="Name for this version")),
        "allow_missing": Argument(
            bool,
            False,
            typer.Option("--allow-missing", help="Upload although linked files are missing"),
        ),
    },
)
def sync_hf(settings: Settings) -> None:
    """Release a model, the README and what it links to on the Hugging Face hub.

    Examples:
        aquachat sync-hf --repo-id you/aqua-tiny --dry-run

        aquachat sync-hf --repo-id you/aqua-tiny --run mine --from rl --tag v1

        aquachat sync-hf --no-push --no-weights
    """
    execute(settings, _sync_hf)


def _sync_hf(command: Command) -> None:
    from aquachat.data.hub import hub_endpoint
    from aquachat.hub.gathering import ReleaseRequest, check_repo_id, gather
    from aquachat.hub.sync import REPO_TYPES, Target

    settings, output = command.settings, command.output
    check_choice("repository type", settings["repo_type"], REPO_TYPES)
    repo_id = settings["repo_id"]
    if repo_id is not None:
        check_repo_id(repo_id)
    elif settings["push"] and not settings["dry_run"]:
        raise ConfigError(
            "there is no repository to upload to",
            hint="name one with `--repo-id OWNER/NAME`, or only fill the folder with `--no-push`",
        )
    with _model_folder(command) as (model_dir, run_dir):
        request = ReleaseRequest(
            readme=settings["readme"],
            release_dir=settings["release_dir"],
            extra=settings["extra"] or (),
            model_dir=model_dir,
            run_dir=run_dir,
            repo_id=repo_id,
            endpoint=hub_endpoint(command.environ),
        )
        gathered = gather(request, command.environ)
        for name in gathered.missing:
            output.warn(f"`{name}` is missing, and `{request.readme}` links to it")
        if not gathered.has_licence and "LICENSE" not in gathered.missing:
            output.warn("there is no `LICENSE`: nobody is told what they may do with the release")
        target = None
        if repo_id is not None and settings["push"]:
            target = Target(repo_id, settings["repo_type"], settings["private"])
        _release(command, request, gathered, target)


@contextmanager
def _model_folder(command: Command) -> Iterator[tuple[Path | None, Path | None]]:
    """The export to release and the run it is of, or None; a dry run leaves no export behind."""
    settings, home = command.settings, command.home
    if settings["model_dir"] is not None:
        from aquachat.hub.gathering import read_record

        try:
            run_dir = home.run(str(read_record(settings["model_dir"]).get("run")))
        except ConfigError:
            run_dir = None  # written by someone whose run has no name that is possible here
        yield settings["model_dir"], run_dir
        return
    is_named = bool(settings["run"] or settings["from_"])
    if settings["repo_type"] != "model" or not settings["weights"]:
        yield None, None
        return
    try:
        run = chosen_run(command)
    except MissingFileError:
        if is_named:
            raise
        command.output.note("there is no run: the release has no weights")
        yield None, None
        return
    origin = chosen_origin(command, run)
    with tempfile.TemporaryDirectory(prefix="aquachat-") as folder:
        place = default_folder(command, run, origin)
        if settings["dry_run"]:
            place = Path(folder) / place.name
        export_origin(command, origin, place, dtype="float32", verify=not settings["dry_run"])
        yield place, origin.run_dir


def _release(
    command: Command, request: ReleaseRequest, gathered: Gathered, target: Target | None
) -> None:
    """Plan, stage and push as far as it was asked for."""
    from aquachat.hub.release import check_staging_folder, stage
    from aquachat.hub.sync import check_tag, make_plan, push

    settings, output = command.settings, command.output
    check_staging_folder(request.release_dir, gathered.release, request.root)
    client, remote = _read_hub(command, target, request.endpoint)
    plan = make_plan(gathered.release, remote)
    check_tag(settings["tag"], remote, plan)
    document = _document(command, request, gathered, target, remote, plan)
    output.table("Release", ["action", "file", "bytes"], plan.rows(gathered.release))
    if settings["dry_run"]:
        output.result(document)
        return
    staged = stage(gathered.release, request.release_dir, request.root)
    for name in staged.kept:
        output.warn(f"`{request.release_dir / name}` is no longer released, but was changed: kept")
    if target is None or client is None:
        output.result(document)
        output.text(f"{len(gathered.release)} files in {request.release_dir}")
        output.next_command("aquachat sync-hf --repo-id OWNER/NAME")
        return
    _refuse_incomplete(command, gathered)
    if not plan.is_empty and not output.confirm(_question(target, remote, plan)):
        raise ConfigError("nothing was uploaded", hint="answer `y`, or add `--yes`")
    document["commit"] = push(
        client,
        target,
        gathered.release,
        remote,
        staged=request.release_dir,
        message=settings["message"],
        tag=settings["tag"],
        sleep=time.sleep,
    )
    document["pushed"] = not plan.is_empty
    output.result(document)
    verb = "is at" if plan.is_empty else "is now at"
    output.text(f"{document['url']} {verb} {document['commit']}")


def _read_hub(
    command: Command, target: Target | None, endpoint: str
) -> tuple[HubClient | None, RemoteState]:
    """The client and the repository as it is; nothing where nothing is to be uploaded."""
    from aquachat.hub.sync import RemoteState, find_token, open_client, read_remote

    if target is None:
        return None, RemoteState(None, {}, {})
    token = find_token()
    if token is None:
        if command.settings["dry_run"]:
            command.output.warn("not compared with the hub: there is no token")
            return None, RemoteState(None, {}, {})
        raise PreflightError(
            "there is no token for the Hugging Face hub",
            hint="log in with `hf auth login`, or set HF_TOKEN",
        )
    client = open_client(endpoint, token, quiet=command.output.quiet)
    return client, read_remote(client, target)


def _refuse_incomplete(command: Command, gathered: Gathered) -> None:
    if gathered.missing and not command.settings["allow_missing"]:
        raise MissingFileError(
            f"{len(gathered.missing)} files are missing, `{gathered.missing[0]}` first; nothing "
            "was uploaded",
            hint="add them or remove the links, or upload without them: `--allow-missing`",
        )


def _question(target: Target, remote: RemoteState, plan: Plan) -> str:
    what = f"add {len(plan.add)}, change {len(plan.change)} and delete {len(plan.delete)} files"
    if remote.head is None:
        kind = "private" if target.private else "PUBLIC"
        return f"make the {kind} repository `{target.repo_id}` and {what}?"
    kind = "PUBLIC " if remote.is_private is False else ""
    return f"{what} in the {kind}repository `{target.repo_id}`?"


def _document(
    command: Command,
    request: ReleaseRequest,
    gathered: Gathered,
    target: Target | None,
    remote: RemoteState,
    plan: Plan,
) -> dict[str, Any]:
    settings = command.settings
    kinds = {"dataset": "datasets/", "space": "spaces/"}
    prefix = kinds.get(settings["repo_type"], "")
    return {
        "repo_id": request.repo_id,
        "repo_type": settings["repo_type"],
        "url": target and f"{request.endpoint}/{prefix}{request.repo_id}",
        "private": settings["private"] if remote.head is None else remote.is_private,
        "release_dir": str(request.release_dir),
        "files": {path: file.sha256 for path, file in gathered.release.items()},
        "plan": plan.to_json(),
        "missing": list(gathered.missing),
        "tag": settings["tag"],
        "commit": remote.head,
        "pushed": False,
        "dry_run": settings["dry_run"],
    }
