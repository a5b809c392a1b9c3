"""Sets a machine up for one job, before training: `scripts/bootstrap.sh`, and what it says.

The script makes an environment of its own for the job, or uses a Python that was named as it is. It
may be run again after a cut connection or a failure: what is done is not done twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal

from aquachat.cloud.remote import MAX_QUOTED_CHARS, RemoteMachine
from aquachat.cloud.remote_paths import check_remote_folder, check_remote_path
from aquachat.cloud.shell_scripts import command, script
from aquachat.cloud.ssh_errors import CommandError, reason_of
from aquachat.cloud.wheel import Platform, Say, parse_glibc
from aquachat.errors import ConfigError

BOOTSTRAP_S: Final = 1200.0
"""Some gigabytes at 10 MB/s take five minutes, and a mirror may be slower."""
TORCH_INDEX: Final = "https://download.pytorch.org/whl"
"""Where pip finds torch for a CUDA version, in `cu128` and the like; uv knows this by itself."""
MAX_PYTHON_CHARS: Final = 500
_UNAME = """
uname -s
uname -m
getconf GNU_LIBC_VERSION 2>/dev/null || { ldd --version 2>&1 || :; } | head -n 1
"""
_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?"
_PATH = r"[A-Za-z0-9._~/+-]+"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_URLS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"https://{_HOST}/{_PATH}",
        rf"ssh://(?:{_USER}@)?{_HOST}/{_PATH}",
        rf"{_USER}@[A-Za-z0-9][A-Za-z0-9.-]*:{_PATH}",
    )
)
_CREDENTIALS = re.compile(r"https?://[^/]*@|[a-z+]+://[^/@]*:[^/@]*@")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_INDEX = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[A-Za-z0-9._~-]+)*")
_PROGRAM = re.compile(r"[a-z0-9][a-z0-9+.-]*")

_NETWORK = re.compile(
    r"could not resolve host|temporary failure in name resolution|name or service not known"
    r"|failed to lookup address|unable to resolve host|dns error|network is unreachable"
    r"|no route to host|connection (?:refused|timed out)|failed to establish a new connection",
    re.IGNORECASE,
)
_NETWORK_HINT: Final = (
    "see that it has a way out, tell it the proxy or mirror in `~/.config/uv/uv.toml` or "
    "`~/.config/pip/pip.conf`, or name a Python that has everything with `--python`"
)
_HINTS: Final = {
    "python": "install Python 3.11 or later on the machine, or name one with `--python`",
    "venv": "install `python3-venv` on the machine, or name a Python with `--python`",
    "named": "name a Python 3.11 or later that has torch, by its whole path",
    "git": "install git on the machine, or send the project instead of cloning it",
    "clone": "check the address and the branch, and that the machine may read it",
    "folder": "name another folder with `--repo-dir`, or move those files away",
    "compiler": "install a C compiler there, or leave `--repo-url` out and send the wheel",
    "cargo": "install Rust there, or leave `--repo-url` out and send the wheel",
    "wheel": "start the launch again, which sends it",
}
_HINT: Final = "read `job/bootstrap.log` in the job's folder on the machine"


@dataclass(frozen=True, slots=True)
class Clone:
    """A repository that the machine fetches by itself.

    Example:
        Clone("https://github.com/somebody/project", "main")
    """

    url: str
    branch: str | None = None
    """None for the one that the repository names."""

    def __post_init__(self) -> None:
        if _CREDENTIALS.match(self.url):
            raise ConfigError(
                "the address of `--repo-url` holds a name or password, which would be seen in the "
                "list of processes and in logs",
                hint="leave it out, and give the machine a deploy key or send the project",
            )
        if not any(pattern.fullmatch(self.url) for pattern in _URLS) or "/-" in self.url:
            raise ConfigError(
                f"`{self.url}` is no address that git can clone on the machine",
                hint="give `https://HOST/PATH`, `ssh://git@HOST/PATH` or `git@HOST:PATH`",
            )
        if self.branch is not None and not _is_branch(self.branch):
            raise ConfigError(
                f"`{self.branch}` is no name of a branch", hint="give one such as `main`"
            )


@dataclass(frozen=True, slots=True)
class Setup:
    """What a machine must have before the job starts there."""

    work: str
    """The folder of the job, relative to the home: `aquachat/0123abcd`."""
    wheel: str
    """The wheel that was sent, in the same form."""
    python: str | None = None
    """An interpreter there whose packages are used as they are; None makes an environment."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    clone: Clone | None = None
    project: str | None = None
    """Where the clone goes; by default `WORK/project`."""
    programs: tuple[str, ...] = ("tmux",)
    """System packages that are installed where that is allowed, and done without elsewhere."""
    torch_index: str = TORCH_INDEX

    def __post_init__(self) -> None:
        check_remote_folder(self.work)
        check_remote_path(self.wheel)
        if self.project is not None:
            check_remote_folder(self.project)
        python = self.python
        if python is not None and (
            not python.strip()
            or len(python) > MAX_PYTHON_CHARS
            or not python.isprintable()
            or python.startswith("-")
        ):
            raise ConfigError(
                f"`{python[:MAX_PYTHON_CHARS]!s}` is no Python on the machine",
                hint="give its path there, for example `--python ~/venv/bin/python`",
            )
        if self.device not in ("auto", "cuda", "mps", "cpu"):
            raise ConfigError(f"`{self.device}` is no device", hint="use `auto`, `cuda` or `cpu`")
        if _INDEX.fullmatch(self.torch_index) is None:
            raise ConfigError("this is no address of a package index", hint=f"use {TORCH_INDEX}")
        for program in self.programs:
            if _PROGRAM.fullmatch(program) is None:
                raise ConfigError(f"`{program}` is no name of a package", hint="correct it")

    def arguments(self, key: str) -> list[str]:
        """What `bootstrap.sh` is called with; `key` stands for all of it."""
        url, branch = (self.clone.url, self.clone.branch or "") if self.clone else ("", "")
        work = check_remote_folder(self.work)
        project = check_remote_folder(self.project or f"{work}/project")
        python = self.python or ""
        head = [key, work, check_remote_path(self.wheel), python, self.device]
        return [*head, url, branch, project, self.torch_index, *self.programs]


@dataclass(frozen=True, slots=True)
class Environment:
    """The Python environment of a job on a machine."""

    python: str
    """The absolute path of `WORK/bin/python`."""
    python_version: str
    torch_version: str
    cuda: str | None
    """The CUDA that torch was built for; None for a torch without it."""
    num_gpus: int
    """As torch counts them, without using them; the GPU gate does."""
    gpu_names: tuple[str, ...]


def platform_of(machine: RemoteMachine) -> Platform:
    """What the machine is, asked before the wheel for it is made."""
    lines = [*machine.script(_UNAME).text.splitlines(), "", "", ""]
    return Platform(lines[0].strip(), lines[1].strip(), parse_glibc(lines[2]))


def bootstrap(
    machine: RemoteMachine,
    setup: Setup,
    *,
    say: Say = lambda line: None,
    deadline_s: float = BOOTSTRAP_S,
) -> Environment:
    """Set the machine up, or find it set up; a lost connection is made again meanwhile.

    Args:
        machine: on which the wheel already is.
        setup: what it must have.
        say: told each step when it begins.
        deadline_s: how long all of it may take.

    Raises:
        CommandError: it cannot be set up; the sentence says what is missing.
        DeadlineError: it took longer.
        DroppedError: the connection was lost, and again until the deadline.
    """
    words = command("bootstrap", *setup.arguments(_key(setup)))
    describe = program("describe")
    end = machine.now() + deadline_s

    def attempt() -> dict[str, Any]:
        left_s = max(1.0, end - machine.now())
        return _Talk(machine, say).hear(words, describe.encode(), left_s)

    found = machine.persist(attempt, deadline_s)
    if found["missing"]:
        missing = " ".join(found["missing"])
        python = setup.python or "its Python"
        raise CommandError(
            f"`{python}` on {machine.target} lacks {missing.replace(' ', ', ')}",
            hint=f"install it there (`{python} -m pip install {missing}`), or leave `--python` out",
        )
    names = tuple(str(name) for name in found["gpu_names"])
    versions = (found["python_version"], found["torch_version"], found["cuda"])
    return Environment(found["python"], *versions, found["num_gpus"], names)


class _Talk:
    """One run of the script, heard line by line."""

    def __init__(self, machine: RemoteMachine, say: Callable[[str], None]) -> None:
        self._machine = machine
        self._say = say
        self._failure = ("", "")

    def hear(self, words: list[str], stdin: bytes, deadline_s: float) -> dict[str, Any]:
        """Run the script to its end; returns what it says of the environment."""
        environment = b""
        with self._machine.opened(words, deadline_s=deadline_s) as channel:
            channel.write(stdin)
            channel.end_input()
            while line := channel.read_line():
                kind, _, rest = line.partition(b" ")
                if kind == b"environment":
                    environment = rest
                else:
                    self._hear_line(
                        kind.decode("utf-8", "replace"), rest.decode("utf-8", "replace")
                    )
            result = channel.finish()
        if result.code != 0 or not environment:
            raise self._error(result.stderr.decode("utf-8", "replace"), result.code)
        return dict(json.loads(environment))

    def _hear_line(self, kind: str, rest: str) -> None:
        text = self._machine.shown(rest)
        if kind == "step":
            self._say(text)
        elif kind == "warn":
            self._say(f"warning: {text}")
        elif kind == "fail":
            cause, _, sentence = text.partition(" ")
            self._failure = (cause, sentence)

    def _error(self, stderr: str, code: int) -> CommandError:
        cause, sentence = self._failure
        target = self._machine.target
        said = self._machine.shown(_last_relevant(stderr))[-MAX_QUOTED_CHARS:]
        full = reason_of(stderr)
        if full is not None and "disk" in full[0]:
            return CommandError(f"{full[0]} of {target}: {said}", hint=full[1], code=code)
        if cause in ("install", "python", "clone", "cargo", "git") and _NETWORK.search(stderr):
            return CommandError(
                f"{target} cannot reach what it must download: {said}",
                hint=_NETWORK_HINT,
                code=code,
            )
        known = reason_of(sentence)
        hint = _HINTS.get(cause) or (known[1] if known else _HINT)
        what = sentence or said or "it said nothing"
        return CommandError(f"{target} could not be set up: {what}", hint=hint, code=code)


def _last_relevant(stderr: str) -> str:
    """The last line that looks like an error, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|fatal|cannot|fail|no space", line, re.I)]
    return (errors or lines or [""])[-1]


def _key(setup: Setup) -> str:
    """Stands for what was asked and for how it is done; the wheel's hash is added there."""
    parts = [*setup.arguments(""), script("bootstrap"), program("describe")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def program(name: str) -> str:
    """The text of `scripts/NAME.py`, a program for the Python of a machine."""
    return files("aquachat.cloud").joinpath("scripts", f"{name}.py").read_text("utf-8")


def _is_branch(name: str) -> bool:
    """Whether git takes it for a branch (git-check-ref-format(1)), and no shell for more."""
    parts = name.split("/")
    is_odd = any(part[:1] in ("", ".") or part.endswith((".lock", ".")) for part in parts)
    return _BRANCH.fullmatch(name) is not None and ".." not in name and not is_odd
