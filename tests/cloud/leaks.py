"""Where a secret could be: every command line while something runs, and all that is left after."""

from __future__ import annotations

import json
import stat
import threading
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aquachat.errors import AquachatError
from tests.cloud.fake_cloud import KEY
from tests.cloud.machines import Rented

LOOK_S = 0.01


@dataclass(frozen=True)
class Secrets:
    """Values of every awkward shape, each with a mark by which also a piece of it is found."""

    marks: tuple[str, ...] = field(default_factory=lambda: tuple(uuid.uuid4().hex for _ in "12345"))

    @property
    def env(self) -> dict[str, str]:
        quoted, lines, address, _, _ = self.marks
        return {
            "WANDB_API_KEY": f"k'{quoted}'\"$(touch pwned)`touch pwned`\\",
            "HF_TOKEN": f'first {lines} \'x\nsecond "{lines}" $(touch pwned)\nüñí-{lines}\t#',
            "DATABASE_URL": f"postgres://me:{address}@db/x",  # whose name says nothing
        }

    @property
    def credentials(self) -> str:
        return json.dumps({"private_key": self.marks[3]}) + "\n"

    @property
    def file(self) -> str:
        return f"token = {self.marks[4]}\n"


def found_in(text: str | bytes, needles: Iterable[str]) -> list[str]:
    content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return [needle for needle in needles if needle.encode() in content]


class Watcher:
    """Reads the command line of every process of this computer, again and again."""

    def __init__(self, needles: Iterable[str]) -> None:
        self.needles = [needle.encode() for needle in needles]
        self.seen: set[bytes] = set()
        self.num_looks = 0
        self._stop = threading.Event()

    def look(self) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if any(needle in line for needle in self.needles):
                    self.seen.add(line)
        self.num_looks += 1

    def run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def no_command_line_has(needles: Iterable[str]) -> Iterator[Watcher]:
    watcher = Watcher(needles)
    thread = threading.Thread(target=watcher.run, daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        watcher.stop()
        thread.join()
    assert watcher.num_looks > 0
    assert watcher.seen == set()


def private_lines(key: str) -> list[str]:
    """Lines of a private key that no other key has."""
    return [line for line in key.splitlines() if "KEY" not in line and len(line) > 30][1:]


def texts_of(error: BaseException) -> str:
    """All that a person could be shown of an error, with AQUACHAT_DEBUG=1 too."""
    hint = error.hint if isinstance(error, AquachatError) else ""
    return "\n".join([str(error), repr(error), str(hint), *traceback.format_exception(error)])


def check_here(rent: Rented, needles: Iterable[str], *, logged: bool = False) -> None:
    """Nothing that was said or is kept on this computer, and nothing that the provider was sent.

    `logged`: the training printed them, so they are in its log, which is kept byte for byte.
    """
    needles = [*needles]
    for line in (*rent.world.said, *rent.shown):
        assert not found_in(line, needles), line
    for path in rent.world.home.rglob("*"):
        if path.is_file() and not (logged and path.name == "training.log"):
            assert not found_in(path.read_bytes(), [*needles, KEY]), path
    for sent in rent.world.cloud.exchanges:
        assert not found_in(sent.request, [*needles, KEY]), sent.route
        assert not found_in(sent.path, [*needles, KEY]), sent.path


def check_there(home: Path, needles: Iterable[str], allowed: Mapping[str, str] | None) -> None:
    """On the machine: only in the files that are meant for it, which nobody else can read.

    Args:
        home: of the user there.
        needles: what must not be found.
        allowed: patterns of relative names, and why.
    """
    needles = [*needles]
    for path in home.rglob("*"):
        relative = path.relative_to(home)
        if not path.is_file() or path.is_symlink():
            continue
        if found_in(path.read_bytes(), needles):
            assert any(relative.match(pattern) for pattern in allowed or {}), relative
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, relative
            for folder in list(path.parents)[: len(relative.parts) - 1]:
                assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
    assert not list(home.rglob("pwned"))
