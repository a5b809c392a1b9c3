"""What a release consists of, and the staging folder in which it can be looked at.

A release is a map of paths in the repository to contents. The folder `hf_release/` holds a copy,
and in `.aquachat-release.json` what an earlier run put there: nothing else in it is ever touched.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from aquachat.errors import ConfigError, DataError
from aquachat.files import HASH_BLOCK_BYTES, atomic_writer, sha256_of, write_json, writing
from aquachat.hub.secret_scan import MAX_SCANNED_BYTES, find_secret

STAGING_MANIFEST: Final = ".aquachat-release.json"
CHECKSUMS_FILE: Final = "SHA256SUMS"
_MANIFEST_FORMAT: Final = 1


@dataclass(frozen=True)
class ReleaseFile:
    """One file of a release: its path in the repository and its contents, or where they are."""

    path: str
    content: bytes | Path

    @cached_property
    def size(self) -> int:
        """In bytes."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stat().st_size

    @property
    def sha256(self) -> str:
        """Of the contents, in hexadecimal."""
        return self._hashes[0]

    @property
    def git_sha1(self) -> str:
        """The name git gives to a blob of these contents."""
        return self._hashes[1]

    @cached_property
    def _hashes(self) -> tuple[str, str]:
        sha256 = hashlib.sha256()
        sha1 = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        if isinstance(self.content, bytes):
            sha256.update(self.content)
            sha1.update(self.content)
        else:
            with self.content.open("rb") as file:
                while block := file.read(HASH_BLOCK_BYTES):
                    sha256.update(block)
                    sha1.update(block)
        return sha256.hexdigest(), sha1.hexdigest()

    def read(self) -> bytes:
        """The contents."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


Release = Mapping[str, ReleaseFile]
"""By path, sorted."""


def make_release(
    parts: Mapping[str, Mapping[str, bytes | Path]], environ: Mapping[str, str]
) -> Release:
    """Put the files of several parts together, with their checksums.

    Args:
        parts: name of the part, for messages -> path in the repository -> contents.
        environ: whose secrets must not be in a file.

    Raises:
        ConfigError: two parts have a file of the same path.
        DataError: a file holds a secret.
    """
    files: dict[str, ReleaseFile] = {}
    owners: dict[str, str] = {}
    for part, contents in parts.items():
        for path, content in contents.items():
            key = path.casefold()
            if key in owners:
                raise ConfigError(
                    f"`{path}` is in the release twice: from {owners[key]} and from {part}",
                    hint="rename the file, or remove the link to it",
                )
            owners[key] = part
            files[path] = ReleaseFile(path, content)
    for file in files.values():
        _refuse_secrets(file, environ)
    sums = "".join(f"{files[path].sha256}  {path}\n" for path in sorted(files))
    files[CHECKSUMS_FILE] = ReleaseFile(CHECKSUMS_FILE, sums.encode())
    return {path: files[path] for path in sorted(files)}


def read_checksums(text: str) -> dict[str, str]:
    """Path -> SHA-256, as `make_release` wrote them; other lines are left out."""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and len(pair[0]) == 64}


def _refuse_secrets(file: ReleaseFile, environ: Mapping[str, str]) -> None:
    if file.size > MAX_SCANNED_BYTES:
        return
    found = find_secret(file.read(), environ)
    if found is not None:
        line, kind = found
        raise DataError(
            f"line {line} of `{file.path}` holds {kind}",
            hint="take it out of the file, and replace the secret where it may have been seen",
        )


@dataclass(frozen=True, slots=True)
class Staged:
    """What staging did."""

    written: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    """Files that an earlier run wrote, that the release no longer has, and that were changed since:
    they are left where they are."""


def check_staging_folder(folder: Path, release: Release, root: Path) -> dict[str, str]:
    """Make sure that the release can be staged without touching what is not ours.

    Args:
        folder: the staging folder.
        release: what is to be staged.
        root: the project, which must not lie in the staging folder.

    Returns:
        What an earlier run put there: path -> SHA-256.

    Raises:
        ConfigError: the folder is the project or holds it, is no folder, or has files of others
            where the release has its own.
    """
    if root.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"`{folder}` holds the project itself, and cannot be the staging folder",
            hint="name a folder of its own with `--release-dir`",
        )
    if not folder.exists():
        return {}
    if folder.is_symlink() or not folder.is_dir():
        raise ConfigError(f"`{folder}` is no folder", hint="name another with `--release-dir`")
    known = _read_manifest(folder)
    for path in release:
        place = folder / path
        _refuse_links(folder, path)
        if place.exists() and path not in known:
            raise ConfigError(
                f"`{place}` was not put there by `sync-hf`, and is not overwritten",
                hint="move it away, or name another folder with `--release-dir`",
            )
    return known


def stage(release: Release, folder: Path, root: Path) -> Staged:
    """Copy the release into the staging folder, and remove what an earlier run left there.

    Raises:
        ConfigError: see `check_staging_folder`.
        DataError: the disk refused.
    """
    known = check_staging_folder(folder, release, root)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # First the union, so that a run that is cut off here still knows what is its own.
    _write_manifest(folder, {**known, **{path: file.sha256 for path, file in release.items()}})
    written = [path for path, file in release.items() if _write(file, folder / path)]
    removed, kept = [], []
    for path, sha256 in known.items():
        if path in release or not (folder / path).is_file():
            continue
        if sha256_of(folder / path) != sha256:
            kept.append(path)
            continue
        with writing(folder / path):
            (folder / path).unlink()
        removed.append(path)
        _remove_empty(folder, path)
    _write_manifest(folder, {path: file.sha256 for path, file in release.items()})
    return Staged(tuple(written), tuple(removed), tuple(kept))


def _write(file: ReleaseFile, place: Path) -> bool:
    """Whether the file had to be written."""
    if place.is_file() and place.stat().st_size == file.size and sha256_of(place) == file.sha256:
        return False
    with atomic_writer(place) as target:
        if isinstance(file.content, bytes):
            target.write(file.content)
        else:
            with file.content.open("rb") as source:
                shutil.copyfileobj(source, target, HASH_BLOCK_BYTES)
    return True


def _remove_empty(folder: Path, path: str) -> None:
    for parent in list(PurePosixPath(path).parents)[:-1]:
        with suppress(OSError):
            (folder / parent).rmdir()


def _refuse_links(folder: Path, path: str) -> None:
    place = folder
    for part in PurePosixPath(path).parts:
        place = place / part
        if place.is_symlink():
            raise ConfigError(
                f"`{place}` is a symbolic link, and is not written through",
                hint="remove it, or name another folder with `--release-dir`",
            )


def _read_manifest(folder: Path) -> dict[str, str]:
    file = folder / STAGING_MANIFEST
    if not file.is_file():
        return {}
    try:
        document: Any = json.loads(file.read_text("utf-8"))
        files = document["files"]
        is_ours = document["format"] == _MANIFEST_FORMAT
        known = {str(path): str(sha256) for path, sha256 in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"`{file}` cannot be read ({error!r}), so it is unknown what is ours in `{folder}`",
            hint="name another folder with `--release-dir`",
        ) from error
    if not is_ours or any(not _is_inside(path) for path in known):
        raise ConfigError(
            f"`{file}` is not of this program", hint="name another folder with `--release-dir`"
        )
    for path in known:
        _refuse_links(folder, path)
    return known


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and not set("\\:") & set(path)


def _write_manifest(folder: Path, files: Mapping[str, str]) -> None:
    write_json(
        folder / STAGING_MANIFEST,
        {"format": _MANIFEST_FORMAT, "files": dict(sorted(files.items()))},
    )
