"""Files that come back from a machine: a manifest first, then what is missing, over one channel.

A file takes its name here when its hash is right; what was cut is continued from its last byte.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_paths import check_received_path, check_remote_path
from aquachat.cloud.shell_scripts import command
from aquachat.cloud.transfer import MAX_TRIES, TRANSFER_S, Progress
from aquachat.errors import DataError
from aquachat.files import sha256_of, sync_directory, sync_file, write_text, writing

MANIFEST: Final = "pulled.sha256"
"""What `sha256sum -c` checks."""
PARTS: Final = ".pull"
LIST_S: Final = 600.0
MAX_LIST_BYTES: Final = 64 << 20
OPTIMIZER: Final = ("optimizer.safetensors",)
"""Twice the size of the model, and only needed to go on training."""
NEVER: Final = (".env", ".env.*")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the machine lists it."""

    path: str
    """Relative, with slashes."""
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is here now."""

    files: tuple[RemoteFile, ...]
    num_bytes_received: int
    """Less than the sum of the files where some, or parts, were here already."""


def list_files(
    machine: RemoteMachine, folder: str, exclude: Sequence[str] = ()
) -> list[RemoteFile]:
    """The files below a folder of the machine, sorted by path.

    Raises:
        DataError: the machine names a file that would lie outside of any folder.
        CommandError: there is no such folder.
    """
    words = command("list", check_remote_path(folder, "--repo-dir"), *exclude, *NEVER)
    result = machine.check(words, deadline_s=LIST_S, max_output_bytes=MAX_LIST_BYTES)
    if result.truncated:
        raise DataError(f"`{folder}` holds too many files to list", hint="pull a smaller folder")
    lines = result.stdout.decode("utf-8", "surrogateescape").split("\0")
    return sorted((_parsed(line) for line in lines if line), key=lambda file: file.path)


def pull(
    machine: RemoteMachine,
    folder: str,
    destination: Path,
    *,
    with_optimizer: bool = False,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
    deadline_s: float = TRANSFER_S,
) -> Pulled:
    """Bring a folder of the machine here; may be repeated, and goes on where it was cut.

    Files here that the machine does not have are left alone. At the end the hashes are in
    `pulled.sha256`.

    Args:
        machine: where from.
        folder: there, relative to the home unless absolute.
        destination: here; made where it is missing.
        with_optimizer: whether the optimizer's state comes too.
        exclude: patterns of find(1) for names or relative paths that stay there.
        progress: told of the bytes here and in all.
        deadline_s: for the whole.

    Raises:
        DataError: a file kept changing or arrived damaged; nothing of it has its final name.
    """
    left_out = (*exclude, *(() if with_optimizer else OPTIMIZER))
    received = 0
    for _ in range(MAX_TRIES):
        files = machine.persist(lambda: list_files(machine, folder, left_out), deadline_s)
        attempt = _Attempt(machine, folder, destination, files, progress, deadline_s)
        machine.persist(attempt.receive, deadline_s)
        received += attempt.received
        if not attempt.damaged:
            lines = [f"{file.sha256}  {file.path}\n" for file in files]
            write_text(destination / MANIFEST, "".join(lines))
            shutil.rmtree(destination / PARTS, ignore_errors=True)
            return Pulled(tuple(files), received)
    raise DataError(
        f"`{attempt.damaged[0]}` changed while it was copied from {machine.target}",
        hint="pull again when the training has ended",
    )


class _Attempt:
    """One manifest, brought here over as many connections as it takes."""

    def __init__(
        self,
        machine: RemoteMachine,
        folder: str,
        destination: Path,
        files: Sequence[RemoteFile],
        progress: Progress | None,
        deadline_s: float,
    ) -> None:
        self.machine = machine
        self.folder = check_remote_path(folder, "--repo-dir")
        self.destination = destination
        self.files = files
        self.progress = progress
        self.deadline_s = deadline_s
        self.num_bytes = sum(file.num_bytes for file in files)
        self.received = 0
        self.damaged: list[str] = []

    def receive(self) -> None:
        """Receive what is missing; lists in `damaged` what has another hash than announced."""
        self.damaged = []
        missing = [file for file in self.files if not self._is_here(file)]
        parts = self.destination / PARTS
        if missing:
            with writing(parts):
                parts.mkdir(parents=True, exist_ok=True)
            self._receive(missing)

    def _receive(self, missing: Sequence[RemoteFile]) -> None:
        offsets = [self._offset(file) for file in missing]
        lines = [
            f"{offset} {file.num_bytes - offset} {file.path}\n"
            for file, offset in zip(missing, offsets, strict=True)
        ]
        words = command("give", self.folder)
        with self.machine.opened(words, deadline_s=self.deadline_s) as channel:
            channel.write("".join(lines).encode("utf-8", "surrogateescape"))
            channel.end_input()
            rest = b""
            for file, offset in zip(missing, offsets, strict=True):
                left = file.num_bytes - offset
                with writing(self._part(file)), self._part(file).open("ab") as part:
                    while left > 0:
                        block = rest or channel.read()
                        if not block:
                            break
                        block, rest = block[:left], block[left:]
                        part.write(block)
                        left -= len(block)
                        self._count(len(block))
                if left > 0:
                    break
                self._install(file)
            result = channel.finish()
        if result.code != 0:
            raise self.machine.failure(words, result)
        if left > 0:
            self.damaged.append(file.path)

    def _install(self, file: RemoteFile) -> None:
        part, final = self._part(file), self.destination / file.path
        if sha256_of(part) != file.sha256:
            part.unlink()
            self.damaged.append(file.path)
            return
        with writing(final):
            sync_file(part)
            final.parent.mkdir(parents=True, exist_ok=True)
            part.replace(final)
            sync_directory(final.parent)

    def _is_here(self, file: RemoteFile) -> bool:
        path = self.destination / file.path
        is_candidate = path.is_file() and path.stat().st_size == file.num_bytes
        return is_candidate and sha256_of(path) == file.sha256

    def _offset(self, file: RemoteFile) -> int:
        part = self._part(file)
        size = part.stat().st_size if part.is_file() else 0
        if size > file.num_bytes:
            part.unlink()
            return 0
        return size

    def _part(self, file: RemoteFile) -> Path:
        name = hashlib.sha256(f"{file.sha256} {file.path}".encode(errors="replace")).hexdigest()
        return self.destination / PARTS / name

    def _count(self, num_bytes: int) -> None:
        self.received += num_bytes
        if self.progress is not None:
            self.progress(self.received, self.num_bytes)


def _parsed(line: str) -> RemoteFile:
    size, _, rest = line.partition(" ")
    sha, _, path = rest.partition(" ")
    try:
        check_received_path(path)
        return RemoteFile(path, int(size), f"{int(sha, 16):064x}")
    except ValueError:
        raise DataError(
            f"the machine names a file that cannot be put here: {path[:100]!r}",
            hint="log in with `aquachat launch ssh` and look at the names",
        ) from None
