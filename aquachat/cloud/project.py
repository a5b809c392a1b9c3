"""Which files of a project travel, and the archive they travel in.

The archive of the same files is the same bytes, so an upload that was cut is continued and one
that is done is not repeated.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from aquachat.errors import ConfigError
from aquachat.files import writing

GIT_S: Final = 60
SECRET_PREFIX: Final = ".env"
"""`.env`, `.env.local`, `.envrc`: secrets travel by `env_file` only."""
LEFT_OUT_FOLDERS: Final = frozenset(
    (".git", "__pycache__", ".venv", "venv", "node_modules", "checkpoints", "runs", "wandb")
)
"""Left out where the folder is no checkout; in one, `.gitignore` decides about all but `.git`."""
CHECKPOINT_SUFFIXES: Final = frozenset((".safetensors", ".pt", ".pth", ".ckpt"))


def project_files(folder: Path) -> list[PurePosixPath]:
    """The files that travel, relative to `folder`, sorted.

    In a git checkout those are the tracked files that exist and the untracked ones that are not
    ignored; elsewhere, all. Never `.git`, `.env*` or checkpoints.

    Raises:
        ConfigError: `folder` is none, or git cannot list it.
    """
    if not folder.is_dir():
        raise ConfigError(f"`{folder}` is no folder", hint="name the folder of the project")
    listed = _git_files(folder)
    is_checkout = listed is not None
    names = _walked(folder) if listed is None else listed
    return sorted({name for name in names if _travels(folder, name, is_checkout=is_checkout)})


def write_archive(folder: Path, names: Sequence[PurePosixPath], file: Path) -> None:
    """Write the files as a gzipped tar, without owners, times or anything else that varies."""
    with (
        writing(file),
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            _add(archive, folder / name, str(name))


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    if path.is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
        archive.addfile(entry)
        return
    with path.open("rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
        archive.addfile(entry, file)


def _git_files(folder: Path) -> list[PurePosixPath] | None:
    """What git lists; None where `folder` is in no checkout or git is not installed."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=GIT_S)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"git did not list `{folder}` within {GIT_S} s", hint="run `git status` there and look"
        ) from error
    if done.returncode != 0:
        if b"not a git repository" in done.stderr:
            return None
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigError(
            f"git cannot list `{folder}`: {said[0] if said else 'it said nothing'}",
            hint="run `git status` there and look",
        )
    return [PurePosixPath(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]


def _walked(folder: Path) -> Iterable[PurePosixPath]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT_FOLDERS]
        here = Path(root).relative_to(folder)
        yield from (PurePosixPath((here / name).as_posix()) for name in files)


def _travels(folder: Path, name: PurePosixPath, *, is_checkout: bool) -> bool:
    if any(part.startswith(SECRET_PREFIX) or part == ".git" for part in name.parts):
        return False
    if name.suffix in CHECKPOINT_SUFFIXES or (not is_checkout and _is_left_out(name)):
        return False
    path = folder / name
    if path.is_symlink():
        return _stays_inside(folder, path)
    return path.is_file()


def _is_left_out(name: PurePosixPath) -> bool:
    return any(part in LEFT_OUT_FOLDERS for part in name.parts[:-1])


def _stays_inside(folder: Path, link: Path) -> bool:
    """Whether a link is relative and names something of the project that is no secret."""
    if os.path.isabs(os.readlink(link)):
        return False
    target = link.resolve()
    return target.is_relative_to(folder.resolve()) and not any(
        part.startswith(SECRET_PREFIX) for part in target.relative_to(folder.resolve()).parts
    )
