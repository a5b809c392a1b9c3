"""`.env` files: secrets for this process only, never written or shown anywhere."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")


def load_env_files(environ: MutableMapping[str, str], *folders: Path) -> list[Path]:
    """Add the assignments of each folder's `.env` to `environ`; what is set already stays.

    Values may be quoted; nothing in them is expanded or executed. Returns the files read.
    """
    read = []
    for folder in folders:
        file = folder / ".env"
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        read.append(file)
        for name, value in parse_env(text).items():
            if not environ.get(name):
                environ[name] = value
    return read


def parse_env(text: str) -> dict[str, str]:
    r"""The assignments of a `.env` text; other lines are left alone.

    Example:
        parse_env('A=1 # one\nexport B="x y"') -> {"A": "1", "B": "x y"}
    """
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, value = match.groups()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        else:
            value = re.split(r"\s#", value, maxsplit=1)[0].strip()
        found[name] = value
    return found
