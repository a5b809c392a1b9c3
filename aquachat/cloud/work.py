"""What is to run on a machine, what travels there, and the record that lets it be found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from aquachat.cloud.naming import is_job
from aquachat.cloud.remote_job import Place
from aquachat.cloud.target import Target
from aquachat.errors import DataError, MissingFileError
from aquachat.files import write_text
from aquachat.paths import Home

RECORD: Final = "job.json"
LOG: Final = "training.log"
RESULTS: Final = "results"
DEFAULT_PRESET: Final = "d8"
HOST: Final = "host"
"""What stands for the provider where a person named a machine of their own."""
NO_SECRETS: Final = frozenset(("WANDB_ENTITY", "WANDB_PROJECT"))
"""What travels in `.env` and may be shown."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a person wants to have done on a machine."""

    words: tuple[str, ...] = ()
    """The command; empty for the preset."""
    preset: str = DEFAULT_PRESET
    run: str | None = None
    """The run that a preset writes; by default named after the preset and the job."""
    project: Path | None = None
    """A folder that travels and is the working directory."""
    clone: tuple[str, str | None] | None = None
    """The address of a repository that the machine fetches itself, and its branch."""
    repo_dir: str | None = None
    """Where the project goes there; by default inside the job's folder."""
    tokenizer: Path | None = None
    """The folder of a tokenizer that was trained here, and is used there."""
    data: tuple[Path, ...] = ()
    files: tuple[tuple[Path, str], ...] = ()
    """Pairs of a file here and its name there, below the home."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secrets and settings for the `.env` there."""
    device: Literal["cuda", "cpu"] = "cuda"
    python: str | None = None
    """An interpreter of the machine whose packages are used; else an environment is made."""
    with_optimizer: bool = False
    pull: tuple[str, ...] = ()
    """Further folders of the project that come back."""

    @property
    def secrets(self) -> dict[str, str]:
        """The values of `env` that nothing here may show, whatever their names."""
        return {name: value for name, value in self.env.items() if name not in NO_SECRETS}

    def command(self, job: str, num_gpus: int) -> tuple[str, ...]:
        """The argument list that runs there; the preset uses every GPU.

        Example:
            Work().command("1a2b3c4d", 8) -> ("aquachat", "run", "d8", "--run", "d8-1a2b3c4d",
                "--num-processes", "8")
        """
        if self.words:
            return self.words
        run = self.run or f"{self.preset}-{job}"
        many = ("--num-processes", str(num_gpus)) if num_gpus > 1 else ()
        device = ("--device", "cpu") if self.device == "cpu" else ()
        named = () if self.tokenizer is None else ("--set", _uses(self.tokenizer.name))
        return ("aquachat", "run", self.preset, "--run", run, *many, *device, *named)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What this computer knows of a job beside the ledger; holds no secret."""

    job: str
    provider: str
    host: str
    user: str
    port: int
    work: str
    project: str
    key_file: str | None = None
    host_key: str | None = None
    command: tuple[str, ...] = ()
    """Empty until it was started, or where a person starts something by hand."""
    with_optimizer: bool = False
    pull: tuple[str, ...] = ()
    keep: bool = False
    self_terminate: bool = False
    variables: tuple[str, ...] = ()
    """The names of secrets that were sent: what they are set to here is not shown."""

    @property
    def target(self) -> Target:
        """Where the machine is."""
        key = None if self.key_file is None else Path(self.key_file)
        return Target(self.host, self.user, self.port, key, self.host_key)

    @property
    def place(self) -> Place:
        """Its folders there."""
        return Place(self.work, self.project)


@dataclass(frozen=True, slots=True)
class JobFolder:
    """`AQUACHAT_HOME/cloud/JOB`: the record, `known_hosts`, the log, and what came back."""

    path: Path

    @property
    def job(self) -> str:
        """Eight hexadecimal digits."""
        return self.path.name

    @property
    def log(self) -> Path:
        """The training's log, byte for byte."""
        return self.path / LOG

    @property
    def results(self) -> Path:
        """What was pulled: the same folders as in AQUACHAT_HOME."""
        return self.path / RESULTS

    def save(self, record: JobRecord) -> None:
        """Write the record.

        Raises:
            DataError: the disk refused it.
        """
        write_text(self.path / RECORD, json.dumps(asdict(record), indent=1) + "\n")

    def load(self) -> JobRecord:
        """The record.

        Raises:
            MissingFileError: nothing was reached for this job from this computer.
            DataError: it cannot be read.
        """
        file = self.path / RECORD
        try:
            values = json.loads(file.read_text("utf-8"))
            return _record(values)
        except FileNotFoundError:
            raise MissingFileError(
                f"nothing is known here of how to reach job `{self.job}`",
                hint="`aquachat launch status` shows what runs",
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"`{file}` cannot be read: {error}",
                hint=f"`aquachat launch stop {self.job}` ends its machine without it",
            ) from error


def job_folder(home: Home, job: str) -> JobFolder:
    """The folder of a job."""
    return JobFolder(home.cloud / job)


def find_job(home: Home, job: str | None) -> JobFolder:
    """The folder of a job, or of the one that was begun last.

    Raises:
        MissingFileError: there is none.
    """
    known = [path.parent for path in home.cloud.glob(f"*/{RECORD}") if is_job(path.parent.name)]
    if job is not None:
        if is_job(job) and home.cloud / job in known:
            return job_folder(home, job)
        names = ", ".join(sorted(path.name for path in known)) or "none yet"
        raise MissingFileError(
            f"there is no job `{job}` in `{home.cloud}`",
            hint=f"jobs that can be reached: {names}; `aquachat launch status` shows what runs",
        )
    if not known:
        raise MissingFileError(
            f"no job was begun from `{home.cloud}`",
            hint="begin one with `aquachat launch lambda`, `hyperbolic` or `host`",
        )
    return JobFolder(max(known, key=lambda path: (path / RECORD).stat().st_mtime))


def with_command(record: JobRecord, words: tuple[str, ...]) -> JobRecord:
    """The record of a job whose command was started."""
    return replace(record, command=words)


def _uses(tokenizer: str) -> str:
    return f"tokenize.tokenizer={tokenizer}"


def _record(values: Any) -> JobRecord:
    lists = {
        name: tuple(map(str, values.get(name, ()))) for name in ("command", "pull", "variables")
    }
    return JobRecord(**{**values, **lists})
