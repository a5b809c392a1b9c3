"""Record `aquachat run tiny` in a terminal, with its time compressed to 60 seconds.

    python demo/record.py                       runs the pipeline (minutes), writes demo/tiny.cast
    python demo/record.py --raw tiny.raw.jsonl  also keeps what was read, with the real times
    python demo/record.py --from tiny.raw.jsonl makes the recording of it again, without a run

The program runs in a pseudo-terminal with a home of its own, whose name is replaced, and with an
environment that holds nothing of this computer's. All its times are divided by one factor. Of
drawings of a progress bar that fall into one frame the last is kept; nothing else is left out of
the output, and nothing added but the typed command. The file is an asciicast v2
(https://docs.asciinema.org/manual/asciicast/v2/).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

CAST = Path(__file__).parent / "tiny.cast"
WIDTH, HEIGHT = 110, 36
LENGTH_S = 60.0
TYPING_S = 2.0
READING_S = 8.0
"""How long the end stays."""
FRAME_S = 0.1
"""Output that comes closer together than this is one event."""
SHOWN_HOME = "/home/you"
COMMAND = ("aquachat", "run", "tiny")
PROMPT = "$ "
REDRAWN = re.compile(r"\x1b\[2K[^\r\n]*\r(?=\x1b\[2K)")
"""A line that is erased and drawn again at once: nobody would see it."""

Piece = tuple[float, str]
"""Seconds since the start, and the text."""


def run(arguments: Sequence[str], home: Path) -> list[Piece]:
    """What the program writes to its terminal, its home under another name.

    Raises:
        SystemExit: the program failed.
    """
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
    }
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    command = [sys.executable, "-m", *arguments]
    started = time.monotonic()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=home
    ) as process:
        os.close(theirs)
        chunks: list[tuple[float, bytes]] = []
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the terminal is closed: the program ended
                break
            if not chunk:
                break
            chunks.append((time.monotonic() - started, chunk))
    os.close(ours)
    pieces = renamed(framed(chunks), str(home))
    if process.returncode != 0:
        raise SystemExit("".join(text for _, text in pieces))
    return pieces


def framed(chunks: Iterable[tuple[float, bytes]]) -> list[Piece]:
    """Chunks as texts that end with whole lines or characters, so that names are not cut in two."""
    pieces: list[Piece] = []
    rest = b""
    at = 0.0
    for at, chunk in chunks:
        rest += chunk
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
        if end:
            pieces.append((at, rest[:end].decode("utf-8", errors="replace")))
            rest = rest[end:]
    if rest:
        pieces.append((at, rest.decode("utf-8", errors="replace")))
    return pieces


def renamed(pieces: Iterable[Piece], home: str) -> list[Piece]:
    """The pieces with `SHOWN_HOME` in place of the folder they were made in."""
    return [(at, text.replace(home, SHOWN_HOME)) for at, text in pieces]


def cast(pieces: Sequence[Piece], command: Sequence[str] = COMMAND) -> str:
    """The recording: a header and one event a line, `LENGTH_S` long."""
    seconds = max(pieces[-1][0], 1e-9)
    factor = (LENGTH_S - TYPING_S - READING_S) / seconds
    header = {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "title": f"{' '.join(command)}: {seconds:.0f} s of real time in {LENGTH_S:.0f} s",
        "env": {"TERM": "xterm-256color", "SHELL": "/bin/sh"},
    }
    typed = " ".join(command)
    events: list[list[Any]] = [[0.0, "o", PROMPT]]
    for number, letter in enumerate(typed, start=1):
        events.append([round(TYPING_S * number / (len(typed) + 2), 3), "o", letter])
    events.append([TYPING_S, "o", "\r\n"])
    for at, text in _merged([(TYPING_S + at * factor, text) for at, text in pieces]):
        events.append([round(at, 3), "o", REDRAWN.sub("", text)])
    events.append([LENGTH_S, "o", PROMPT])
    lines = [header, *events]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces of one frame as one, at the time of the first."""
    found: list[Piece] = []
    for at, text in pieces:
        if found and at - found[-1][0] < FRAME_S:
            found[-1] = (found[-1][0], found[-1][1] + text)
        else:
            found.append((at, text))
    return found


def main() -> None:
    """Record, or make the recording again of what was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--raw", type=Path, help="keep the output with its real times there")
    parser.add_argument("--from", dest="source", type=Path, help="what `--raw` kept before")
    parser.add_argument("--output", type=Path, default=CAST)
    options = parser.parse_args()
    if options.source is not None:
        lines = options.source.read_text(encoding="utf-8").splitlines()
        pieces = [(float(at), str(text)) for at, text in map(json.loads, lines)]
    else:
        with tempfile.TemporaryDirectory() as folder:
            pieces = run(COMMAND, Path(folder))
    if options.raw is not None:
        text = "".join(json.dumps(piece, ensure_ascii=False) + "\n" for piece in pieces)
        options.raw.write_text(text, encoding="utf-8")
    options.output.write_text(cast(pieces), encoding="utf-8")
    sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
