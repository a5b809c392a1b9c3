"""Files that go to a machine: over one channel, from where the last try stopped, with a checksum.

SFTP takes three round trips a file (247 ms each at 80 ms), so many files travel as one archive.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from aquachat.cloud.project import project_files, write_archive
from aquachat.cloud.remote import BLOCK_BYTES, RemoteMachine, script_command
from aquachat.cloud.remote_paths import check_remote_folder, check_remote_path
from aquachat.cloud.shell_scripts import command, script
from aquachat.cloud.ssh_errors import CommandError
from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.files import sha256_of

TRANSFER_S: Final = 3600.0
"""For one try of one file; a try that is cut is continued."""
WRONG_HASH: Final = 9
FOREIGN_FOLDER: Final = 7
MAX_TRIES: Final = 3
SECRET_MODE: Final = 0o600
ARCHIVE_SUFFIX: Final = ".tar.gz"

Progress = Callable[[int, int], None]
"""Called with the bytes that are on the machine, and all bytes."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came to lie on a machine."""

    path: str
    """Relative to the home there, unless absolute."""
    num_bytes: int
    sha256: str
    num_bytes_sent: int
    """Less than `num_bytes` where a part, or all, was there already."""


def send_file(
    machine: RemoteMachine,
    local: Path,
    remote: str,
    *,
    mode: int = SECRET_MODE,
    progress: Progress | None = None,
    deadline_s: float = TRANSFER_S,
) -> Sent:
    """Copy one file; it takes its name there when it is whole and its hash is right.

    Raises:
        ConfigError: `remote` cannot be the name of a file.
        MissingFileError: there is no such file here.
        CommandError: the machine could not write it: a full disk, a missing permission.
    """
    path = PurePosixPath(check_remote_path(remote))
    if not local.is_file():
        raise MissingFileError(f"there is no file `{local}` to send", hint="correct its name")
    size, sha = local.stat().st_size, sha256_of(local)
    words = command("receive", str(path.parent), path.name, str(size), sha, f"{mode:o}")
    sent = _send(machine, words, local, size, progress, deadline_s)
    return Sent(str(path), size, sha, sent)


def send_project(
    machine: RemoteMachine,
    folder: Path,
    remote: str,
    *,
    progress: Progress | None = None,
    deadline_s: float = TRANSFER_S,
) -> Sent:
    """Copy a project (see `project_files`) as one archive, in the place of an earlier copy.

    Raises:
        ConfigError: `remote` is not a folder of its own, or holds files that others put there.
    """
    target = check_remote_folder(remote)
    names = project_files(folder)
    if not names:
        raise ConfigError(f"`{folder}` has no files to send", hint="name the project's folder")
    with tempfile.TemporaryDirectory(prefix="aquachat-") as temporary:
        archive = Path(temporary) / "project"
        write_archive(folder, names, archive)
        return _send_archive(machine, archive, target, "--repo-dir", progress, deadline_s)


def send_data(
    machine: RemoteMachine,
    local: Path,
    remote: str,
    *,
    progress: Progress | None = None,
    deadline_s: float = TRANSFER_S,
) -> Sent:
    """Copy a data file under its name, or a folder with everything in it, into `remote`.

    Raises:
        MissingFileError: there is nothing at `local`.
        ConfigError: `remote` cannot be the place for it.
    """
    if local.is_file():
        path = f"{check_remote_path(remote, '--send-data')}/{local.name}"
        return send_file(machine, local, path, mode=0o644, progress=progress, deadline_s=deadline_s)
    if not local.is_dir():
        raise MissingFileError(f"there is no `{local}` to send", hint="correct its name")
    target = check_remote_folder(remote, "--send-data")
    with tempfile.TemporaryDirectory(prefix="aquachat-") as temporary:
        archive = Path(temporary) / "data"
        write_archive(local, _all_files(local), archive)
        return _send_archive(machine, archive, target, "--send-data", progress, deadline_s)


def _all_files(folder: Path) -> list[PurePosixPath]:
    found = []
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                found.append(PurePosixPath(path.relative_to(folder).as_posix()))
    return sorted(found)


def _send_archive(
    machine: RemoteMachine,
    archive: Path,
    target: str,
    option: str,
    progress: Progress | None,
    deadline_s: float,
) -> Sent:
    size, sha = archive.stat().st_size, sha256_of(archive)
    path = PurePosixPath(target)
    name = f".{path.name}{ARCHIVE_SUFFIX}"
    both = f"set -eu\n(\n{script('receive')})\nshift 5\n{script('unpack')}"
    receive = (str(path.parent), name, str(size), sha, "600")
    words = script_command(both, *receive, str(path.parent / name), target, sha)
    try:
        sent = _send(machine, words, archive, size, progress, deadline_s)
    except CommandError as error:
        if error.code != FOREIGN_FOLDER:
            raise
        raise ConfigError(
            f"`{target}` on {machine.target} holds files that aquachat did not put there",
            hint=f"name another folder with `{option}`, or move those files away",
        ) from error
    return Sent(target, size, sha, sent)


def _send(
    machine: RemoteMachine,
    words: list[str],
    local: Path,
    size: int,
    progress: Progress | None,
    deadline_s: float,
) -> int:
    """Send, again after each cut or damaged try; returns how many bytes went over the wire."""
    sent = 0

    def attempt() -> None:
        nonlocal sent
        with machine.opened(words, deadline_s=deadline_s) as channel, local.open("rb") as file:
            have = channel.read_line()
            if have.isdigit():
                file.seek(int(have))
                while (block := file.read(BLOCK_BYTES)) and channel.write(block):
                    sent += len(block)
                    if progress is not None:
                        progress(file.tell(), size)
            channel.end_input()
            result = channel.finish()
        if result.code != 0:
            raise machine.failure(words, result)

    for tries_left in reversed(range(MAX_TRIES)):
        try:
            machine.persist(attempt, deadline_s)
            return sent
        except CommandError as error:
            if error.code != WRONG_HASH or not tries_left:
                raise
    raise DataError(f"`{local}` could not be sent whole", hint="check that nothing changes it")
