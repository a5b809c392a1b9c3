"""The Share panel: export, import, sync-hf."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aquachat.cli.command import STAGES, Command, check_choice, chosen_run, execute
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError, MissingFileError, PreflightError

if TYPE_CHECKING:
    from aquachat.hub.export import Export
    from aquachat.hub.gathering import Gathered, ReleaseRequest
    from aquachat.hub.sync import HubClient, Plan, RemoteState, Target
    from aquachat.train.lineage import Origin

PANEL = "Share"
FORMATS = ("hf",)
DTYPES = ("float32", "bfloat16")


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("export", rich_help_panel=PANEL)(export)
    app.command("import", rich_help_panel=PANEL)(import_)
    app.command("sync-hf", rich_help_panel=PANEL)(sync_hf)


@recipe_command(
    common=("run", "from_", *OUTPUT_OPTIONS),
    arguments={
        "format": Argument(
            str, "hf", typer.Option("--format", metavar="hf", help="hf: for transformers and vLLM")
        ),
        "output": Argument(
            Path | None,
            None,
            typer.Option("--output", help="Folder to write, by default `export` of the run"),
        ),
        "dtype": Argument(
            str,
            "float32",
            typer.Option("--dtype", metavar="|".join(DTYPES), help="Of the weights"),
        ),
        "verify": Argument(
            bool,
            True,
            typer.Option(
                "--verify/--no-verify",
                help="Compare ids, logits and greedy text with transformers, if it is installed",
            ),
        ),
    },
)
def export(settings: Settings) -> None:
    """Write a model as a folder that transformers, vLLM and TRL open.

    Examples:
        aquachat export

        aquachat export --run mine --from sft --output ./my-model
    """
    execute(settings, _export)


def _export(command: Command) -> None:
    settings, output = command.settings, command.output
    check_choice("format", settings["format"], FORMATS)
    dtype = check_choice("dtype", settings["dtype"], DTYPES)
    run = chosen_run(command)
    origin = chosen_origin(command, run)
    destination = settings["output"] or default_folder(command, run, origin)
    made = export_origin(command, origin, destination, dtype=dtype, verify=settings["verify"])
    output.result(
        {
            "run": run,
            "checkpoint": origin.name,
            "path": str(made.path),
            "files": dict(made.files),
            "parameters": made.num_parameters,
            "trust_remote_code": made.needs_remote_code,
            "check": made.check,
        }
    )
    output.text(str(made.path))
    if made.needs_remote_code:
        output.note("its architecture is its own: load it with `trust_remote_code=True`")
    output.next_command(f"aquachat sync-hf --run {run} --from {origin.stage} --dry-run")


def chosen_origin(command: Command, run: str) -> Origin:
    """`--from`, else the newest checkpoint of the run's latest stage.

    Raises:
        MissingFileError: the run has none.
    """
    from aquachat.train.lineage import find_origin

    home = command.home
    stages = [stage for stage in reversed(STAGES) if home.stage(run, stage).is_dir()]
    reference = command.settings["from_"] or (stages[0] if stages else "sft")
    return find_origin(reference, home, run)


def default_folder(command: Command, run: str, origin: Origin) -> Path:
    """Where an export goes that no `--output` places."""
    return command.home.run(run) / "export" / f"{origin.stage}_{origin.step:06d}"


def export_origin(
    command: Command, origin: Origin, destination: Path, *, dtype: str, verify: bool
) -> Export:
    """Export a checkpoint, compared with transformers where that is installed and wanted."""
    import torch

    from aquachat.hub.export import export_hf, refuse_foreign_folder
    from aquachat.hub.verify import is_transformers_installed, verify_export
    from aquachat.train.lineage import load_model

    output = command.output
    refuse_foreign_folder(destination)
    loaded = load_model(origin, torch.device("cpu"))

    def check(folder: Path) -> dict[str, Any]:
        return verify_export(folder, loaded.model, loaded.tokenizer, dtype)

    can_verify = verify and is_transformers_installed()
    if verify and not can_verify:
        output.note("not compared with transformers, which is not installed")
    made = export_hf(loaded, destination, dtype=dtype, verify=check if can_verify else None)
    if made.check is not None:
        output.note(
            f"compared with transformers {made.check['transformers']}: same ids, same greedy text, "
            f"logits within {made.check['max_logit_difference']:.1g}"
        )
    return made


@recipe_command(
    common=("run", *OUTPUT_OPTIONS),
    arguments={
        "path": Argument(
            Path, ..., typer.Argument(help="An export, or a nanochat checkpoint: folder or file")
        ),
        "stage": Argument(
            str | None,
            None,
            typer.Option(
                "--stage",
                metavar="|".join(STAGES),
                help="Stage it counts as, by default what the folder says, else sft",
            ),
        ),
        "step": Argument(
            int | None,
            None,
            typer.Option("--step", min=0, help="Of several nanochat checkpoints (default: last)"),
        ),
        "tokenizer": Argument(
            Path | None,
            None,
            typer.Option("--tokenizer", help="Its folder, where it is not beside the weights"),
        ),
    },
)
def import_(settings: Settings) -> None:
    """Make a run from an exported model, or from a checkpoint of nanochat.

    Examples:
        aquachat import ./my-model --run mine

        aquachat import ~/.cache/nanochat/chatsft_checkpoints/d20 --run d20
    """
    execute(settings, _import)


def _import(command: Command) -> None:
    from aquachat.cli.command import new_run_name
    from aquachat.hub.importing import DEFAULT_STAGE, read_model, write_run
    from aquachat.paths import check_name

    settings, output = command.settings, command.output
    run = check_name(settings["run"] or new_run_name("imported"))
    imported = read_model(
        settings["path"].expanduser(), tokenizer=settings["tokenizer"], step=settings["step"]
    )
    stage = settings["stage"] or imported.stage or DEFAULT_STAGE
    path = write_run(imported, command.home, run, stage)
    output.result(
        {
            "run": run,
            "stage": stage,
            "step": imported.step,
            "source": imported.source,
            "path": str(path),
            "model": imported.config.to_json(),
        }
    )
    output.text(str(path))
    output.next_command(f"aquachat chat --run {run}")


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
            output.warn(f"`{name}` is missing: the release goes without it")
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

        run = str(read_record(settings["model_dir"]).get("run", ""))
        known = home.runs / run if run and "/" not in run else None
        yield settings["model_dir"], known
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
    output.text(
        f"{document['url']} {'is at' if plan.is_empty else 'is now at'} {document['commit']}"
    )


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
    client = open_client(endpoint, token)
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
