"""`.env` files: secrets for this process only, never written or shown anywhere."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")

_QUOTED = re.compile(
    r"""[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"""
    r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)')[ \t]*(?:#[^\n]*)?(?:\n|\Z)""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\([\\\"$`])")


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

    A quoted value may go over several lines. In double quotes, a backslash before `"`, `\`, `$` or
    a backtick is dropped, as in `aquachat.cloud.env_file`, which sends such files.

    Example:
        parse_env('A=1 # one\nexport B="x y"') -> {"A": "1", "B": "x y"}
    """
    found = {}
    text = text.replace("\r\n", "\n")
    while text:
        match = _QUOTED.match(text)
        if match is not None:
            name, double, single = match.groups()
            found[name] = single if double is None else _ESCAPE.sub(r"\1", double)
            text = text[match.end() :]
            continue
        line, _, text = text.partition("\n")
        match = _LINE.fullmatch(line)
        if match is not None:
            name, value = match.groups()
            found[name] = re.split(r"\s#", value, maxsplit=1)[0].strip()
    return found
