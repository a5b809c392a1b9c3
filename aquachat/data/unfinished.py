"""The hidden folder in which a corpus grows, and from which an interrupted one goes on.

    corpora/.<name>.unfinished/lock            held by the process that writes
    corpora/.<name>.unfinished/progress.json   what is complete, and of what
    corpora/.<name>.unfinished/corpus/         files of the corpus, at least as long as that says

`corpus` takes the place of `corpora/<name>` when the corpus is whole. The corpus that it replaces
stands in `corpus.old` for the instant between two renames.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from aquachat.errors import DataError
from aquachat.files import install_directory, write_json, writing

PROGRESS_NAME: Final = "progress.json"


class Unfinished:
    """What is there of a corpus that is being written; made by `unfinished_corpus`."""

    def __init__(self, folder: Path, destination: Path) -> None:
        self.files = folder / "corpus"
        """Where the files of the corpus are written."""
        self._folder = folder
        self._destination = destination

    @property
    def name(self) -> str:
        """The name of the corpus."""
        return self._destination.name

    @property
    def has_progress(self) -> bool:
        """Whether something was kept that a later start can go on from."""
        return (self._folder / PROGRESS_NAME).is_file()

    def progress(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was kept of a corpus with this key; None for nothing."""
        try:
            kept = json.loads((self._folder / PROGRESS_NAME).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(kept, dict) or kept.get("key") != json.loads(json.dumps(key)):
            return None
        return kept

    def keep(self, key: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Note what is complete; the files it speaks of must be durable."""
        write_json(self._folder / PROGRESS_NAME, {"key": key, **progress})

    def begin_anew(self) -> None:
        """Remove what is there."""
        with writing(self._destination):
            (self._folder / PROGRESS_NAME).unlink(missing_ok=True)
            shutil.rmtree(self.files, ignore_errors=True)
            self.files.mkdir()

    def install(self) -> None:
        """Put the finished files in the place of the corpus, and remove the folder."""
        install_directory(self.files, self._destination)
        self.remove()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def is_unfinished(destination: Path) -> bool:
    """Whether an interrupted start left something of the corpus `destination`."""
    return _folder_of(destination).is_dir()


@contextmanager
def unfinished_corpus(destination: Path) -> Iterator[Unfinished]:
    """The unfinished corpus beside `destination`, locked; kept at the end if it has progress.

    Raises:
        DataError: another process is writing this corpus, or the disk refused.
    """
    folder = _folder_of(destination)
    parent_was_there = destination.parent.is_dir()
    with writing(destination):
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
    lock = _locked(folder / "lock", destination)
    unfinished = Unfinished(folder, destination)
    old = folder / "corpus.old"
    try:
        if old.is_dir() and not destination.exists():
            with writing(destination):
                old.replace(destination)
        yield unfinished
    finally:
        if not unfinished.has_progress:
            unfinished.remove()
        lock.close()
        if not parent_was_there:
            with suppress(OSError):
                destination.parent.rmdir()


def _folder_of(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.unfinished")


def _locked(path: Path, destination: Path) -> BinaryIO:
    """An open file whose lock ends with this process, however that ends."""
    with writing(destination):
        file = path.open("ab")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataError(
            f"another process is writing the corpus `{destination.name}`",
            hint="wait for it, or write under another name with `--name NAME`",
        ) from error
    return file
