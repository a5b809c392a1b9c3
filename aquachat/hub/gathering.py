"""What belongs into a release: the README and what it links to, and the model with its card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.hub.links import linked_files
from aquachat.hub.model_card import (
    CardFacts,
    eval_results,
    licence_of,
    model_card,
    read_evaluations,
    trained_datasets,
)
from aquachat.hub.release import Release, make_release
from aquachat.track.runs import RECIPE_FILE, STAGES

README_FILE: Final = "README.md"
LICENCE_FILE: Final = "LICENSE"
EXPORT_RECORD: Final = "aquachat.json"


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What is to be released."""

    readme: Path
    """Its folder is the project; nothing outside it is read, but for the model and its results."""
    release_dir: Path
    extra: Sequence[str] = ()
    """Shell patterns of further files, below the project."""
    model_dir: Path | None = None
    """An export; None for a release without weights."""
    run_dir: Path | None = None
    """The run whose results and recipe go with the model."""
    repo_id: str | None = None
    endpoint: str = ""

    @property
    def root(self) -> Path:
        """The project."""
        return self.readme.absolute().parent


@dataclass(frozen=True, slots=True)
class Gathered:
    """A release, and what it lacks."""

    release: Release
    missing: tuple[str, ...]
    """What the README links to and is not there."""
    has_licence: bool


def gather(request: ReleaseRequest, environ: Mapping[str, str]) -> Gathered:
    """Put a release together. Writes nothing.

    Raises:
        MissingFileError: there is no README and no model.
        DataError: a link leaves the project, or a file holds a secret.
        ConfigError: two files have the same path.
    """
    text = _read_readme(request)
    linked = linked_files(
        text, request.root, without=[request.release_dir], source=request.readme.name
    )
    files: dict[str, bytes | Path] = dict(linked.files)
    for name, file in _extra_files(request):
        files[name] = file
    _refuse_symlink(request.root / LICENCE_FILE)
    if (request.root / LICENCE_FILE).is_file():
        files[LICENCE_FILE] = request.root / LICENCE_FILE
    files.pop(README_FILE, None)
    parts: dict[str, Mapping[str, bytes | Path]] = {f"`{request.readme.name}` and its links": files}
    if request.model_dir is None:
        parts["the README"] = {README_FILE: request.readme}
    else:
        parts |= _model_parts(request, text, files)
    return Gathered(make_release(parts, environ), linked.missing, LICENCE_FILE in files)


def read_record(model_dir: Path) -> dict[str, object]:
    """What `aquachat.json` of an export says.

    Raises:
        MissingFileError: the folder is no export.
        DataError: a file of it is missing.
    """
    file = model_dir / EXPORT_RECORD
    try:
        record = json.loads(file.read_text("utf-8"))
        names = list(record["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingFileError(
            f"`{model_dir}` is no export: it has no usable `{EXPORT_RECORD}`",
            hint="make one with `aquachat export`",
        ) from error
    if gone := [name for name in names if not (model_dir / name).is_file()]:
        raise DataError(
            f"the export `{model_dir}` lacks its `{gone[0]}`",
            hint="make it again with `aquachat export`",
        )
    assert isinstance(record, dict)
    return record


def _model_parts(
    request: ReleaseRequest, readme: str, files: Mapping[str, bytes | Path]
) -> dict[str, Mapping[str, bytes | Path]]:
    """The export, the results of its checkpoint, and the card."""
    assert request.model_dir is not None
    record = read_record(request.model_dir)
    names = record["files"]
    assert isinstance(names, dict)
    weights: dict[str, bytes | Path] = {
        name: request.model_dir / name for name in (*names, EXPORT_RECORD)
    }
    stage = str(record["checkpoint"]).partition("@")[0]
    results: dict[str, bytes | Path] = {}
    evaluations, datasets = [], []
    if request.run_dir is not None:
        found = read_evaluations(request.run_dir / "eval", str(record["checkpoint"]))
        evaluations = [entry for entry, _ in found]
        results = {entry.path: file for entry, file in found}
        datasets = trained_datasets(request.run_dir, _stages_up_to(stage))
        recipe = request.run_dir / stage / RECIPE_FILE
        if recipe.is_file():
            results[f"training/{RECIPE_FILE}"] = recipe
    licence = files.get(LICENCE_FILE)
    facts = CardFacts(
        record=record,
        evaluations=evaluations,
        datasets=datasets,
        licence=licence_of(licence.read_text("utf-8")) if isinstance(licence, Path) else None,
        repo_id=request.repo_id,
        endpoint=request.endpoint,
    )
    card: dict[str, bytes | Path] = {README_FILE: model_card(facts, readme).encode()}
    card |= {path: text.encode() for path, text in eval_results(facts).items()}
    return {"the export": weights, "the run": results, "the card": card}


def _refuse_symlink(file: Path) -> None:
    if file.is_symlink():
        raise DataError(
            f"`{file}` is a symbolic link, and what it leads to is not released",
            hint="put the file itself there",
        )


def _read_readme(request: ReleaseRequest) -> str:
    _refuse_symlink(request.readme)
    try:
        return request.readme.read_text("utf-8")
    except FileNotFoundError as error:
        if request.model_dir is not None:
            return ""
        raise MissingFileError(
            f"there is no `{request.readme}` to release",
            hint="name it with `--readme`, or name a model with `--run` or `--model-dir`",
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"`{request.readme}` is not UTF-8", hint="save it as UTF-8") from error


def _extra_files(request: ReleaseRequest) -> Iterator[tuple[str, Path]]:
    """The files that `--extra` names, by the same rules as links.

    Raises:
        MissingFileError: a pattern matches nothing.
        DataError: a file lies outside the project, is hidden, or behind a symbolic link.
    """
    for pattern in request.extra:
        is_outside = Path(pattern).is_absolute() or ".." in Path(pattern).parts
        places = [] if is_outside else sorted(request.root.glob(pattern))
        if not places:
            raise MissingFileError(
                f"no file matches `--extra {pattern}` in `{request.root}`",
                hint="give a pattern below the folder of the README",
            )
        names = [place.relative_to(request.root).as_posix() for place in places]
        text = "\n".join(f"[x](<{quote(name)}>)" for name in names)
        found = linked_files(
            text, request.root, without=[request.release_dir], source=f"--extra {pattern}"
        )
        yield from found.files.items()


def _stages_up_to(stage: str) -> Sequence[str]:
    if stage not in STAGES:
        return STAGES
    return STAGES[: STAGES.index(stage) + 1]


def check_repo_id(repo_id: str) -> str:
    """`repo_id` if it is `OWNER/NAME`.

    Raises:
        ConfigError: it is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
        is_full = repo_id.count("/") == 1
    except HFValidationError:
        is_full = False
    if not is_full:
        raise ConfigError(
            f"`{repo_id}` is not the name of a repository",
            hint="give owner and name, for example `--repo-id you/aqua-tiny`",
        )
    return repo_id
