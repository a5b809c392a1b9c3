r"""Secrets: read from `.env` files here, written over standard input to a 0600 file there.

What is written is a list of single-quoted POSIX assignments, in which the shell expands nothing:
a value with quotes, line breaks or `$(...)` arrives as it is. The file takes its name when it is
whole.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Final

from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_paths import check_remote_path
from aquachat.errors import ConfigError

MAX_VALUE_CHARS: Final = 100_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_START = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_ESCAPE = re.compile(r"\\([\\\"$`])")
_WRITE = """
set -eu
umask 077
mkdir -p -- "$(dirname -- "$1")"
temporary=$1.$$.tmp
trap 'rm -f -- "$temporary"' EXIT
cat >"$temporary"
[ "$(($(wc -c <"$temporary")))" -eq "$2" ] || { echo "the input ended early" >&2; exit 8; }
mv -f -- "$temporary" "$1"
"""


def parse_env_file(text: str, origin: str = ".env") -> dict[str, str]:
    r"""The assignments of a `.env` file; nothing in a value is expanded or executed.

    A quoted value may go over several lines. In double quotes, a backslash before `"`, `\`, `$` or
    a backtick is dropped, as a shell would. After an unquoted value a ` #` starts a comment.

    Example:
        parse_env_file('A=1 # one\nexport B="x\ny"') -> {"A": "1", "B": "x\ny"}

    Raises:
        ConfigError: a quote is not closed, or a line is no assignment. No value is in the message.
    """
    found: dict[str, str] = {}
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    position, line = 0, 1
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if not text[position:end].strip() or text[position:end].lstrip().startswith("#"):
            position, line = end + 1, line + 1
            continue
        match = _START.match(text, position, end)
        if match is None:
            raise ConfigError(
                f"line {line} of `{origin}` is no assignment", hint="write it as `NAME=value`"
            )
        value, after = _value(text, match.end(), end, f"line {line} of `{origin}`")
        found[match[1]] = value
        line += text.count("\n", position, after) + 1
        position = after + 1
    return found


def select_variables(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The named variables that are set to something.

    Raises:
        ConfigError: one is no name of a variable.
    """
    chosen = {}
    for name in names:
        _check_name(name)
        if environ.get(name):
            chosen[name] = environ[name]
    return chosen


def render_env(values: Mapping[str, str]) -> str:
    """The text of a file that a POSIX shell can read with `.`, and that expands nothing.

    Raises:
        ConfigError: a name is none, or a value holds a NUL or is too long for an environment.
    """
    lines = []
    for name, value in sorted(values.items()):
        _check_name(name)
        if "\0" in value or len(value) > MAX_VALUE_CHARS:
            raise ConfigError(
                f"the value of {name} cannot be in an environment",
                hint="send it as a file with `--send-file` and name that file",
            )
        lines.append(f"{name}={shlex.quote(value)}\n")
    return "".join(lines)


def write_env(machine: RemoteMachine, path: str, values: Mapping[str, str]) -> None:
    """Write the values to a file that only its owner can read, in the place of an earlier one.

    They travel on standard input: no command line, there or here, ever holds one.

    Raises:
        CommandError: the machine could not write it; an earlier file is as it was.
    """
    content = render_env(values).encode("utf-8", "surrogateescape")
    machine.script(_WRITE, check_remote_path(path, "--env-file"), str(len(content)), stdin=content)


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"`{name}` is no name of an environment variable",
            hint="use letters, digits and `_`, for example `--inject-env WANDB_API_KEY`",
        )


def _value(text: str, start: int, line_end: int, where: str) -> tuple[str, int]:
    """The value that starts there, and where its last line ends."""
    quote = text[start : start + 1]
    if quote not in ("'", '"'):
        value = re.split(r"(?:^|\s)#", text[start:line_end], maxsplit=1)[0]
        return value.strip(), line_end
    close = start + 1
    while close < len(text) and text[close] != quote:
        close += 2 if quote == '"' and text[close] == "\\" else 1
    if close >= len(text):
        raise ConfigError(f"{where} opens a quote that is never closed", hint="close the quote")
    value = text[start + 1 : close]
    end = text.find("\n", close)
    end = len(text) if end < 0 else end
    rest = text[close + 1 : end].strip()
    if rest and not rest.startswith("#"):
        raise ConfigError(f"{where} has text after the closing quote", hint="quote all of it")
    return (_ESCAPE.sub(r"\1", value) if quote == '"' else value), end
