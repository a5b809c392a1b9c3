"""Pieces of text that task files are made of: the head, the shell lines, YAML."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any, Final

import yaml

from aquachat import __version__
from aquachat.cloud.task_request import TaskRequest

BUCKET_FOLDER: Final = "/results"
"""Where a bucket is mounted."""


def head(request: TaskRequest, start: str, *sentences: str) -> str:
    """The comment a file begins with: how it is started, and what it takes for granted."""
    about = (
        f"Written by `aquachat launch template`, aquachat {__version__}. Start it with: {start}",
        f"The machine installs {request.package} with pip; `--package` names another version, the "
        "address of a wheel, or git+https://...",
        *sentences,
    )
    return "".join(f"# {sentence}\n" for sentence in about)


def lines(*parts: str) -> str:
    """A text of lines."""
    return "".join(f"{part}\n" for part in parts)


def pip_install(request: TaskRequest) -> str:
    """The shell command that installs aquachat."""
    return f"pip install {shlex.quote(request.package)}"


def body(command: str, copies: bool) -> list[str]:
    """Shell lines that run a command, and where `copies` keep the runs in a bucket afterwards.

    A bucket is written to only at the end: files in it cannot be renamed or appended to.
    """
    if not copies:
        return [f"exec {command}"]
    copy = (
        f'if [ -d "$AQUACHAT_HOME/runs" ]; then mkdir -p {BUCKET_FOLDER}/runs; '
        f'cp -R "$AQUACHAT_HOME/runs/." {BUCKET_FOLDER}/runs/; fi'
    )
    return [*supervised(command), copy, 'exit "$status"']


def supervised(command: str) -> list[str]:
    """Lines of bash that run a command, hand SIGTERM on to it, and leave its exit code in `status`.

    `wait` returns early when the shell gets a signal, so it is repeated until the command ended.
    """
    return [
        "child=",
        'trap \'if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null || true; '
        "else exit 143; fi' TERM INT",
        f"{command} & child=$!",
        "status=0",
        'wait "$child" || status=$?',
        'while kill -0 "$child" 2>/dev/null; do status=0; wait "$child" || status=$?; done',
    ]


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document in YAML, its keys in their order, texts of several lines as blocks."""
    dumper: Any = type("TextDumper", (yaml.SafeDumper,), {})
    dumper.add_representer(str, _represent_text)
    return str(yaml.dump(document, Dumper=dumper, sort_keys=False, width=math.inf))


def _represent_text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
