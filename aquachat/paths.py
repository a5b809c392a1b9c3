"""Where files are: `AQUACHAT_HOME` and the data directories a user can name.

Nothing here reads or creates a file. The environment is a parameter, so that a test or a library
user can pass their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aquachat.errors import ConfigError, MissingFileError

HOME_VARIABLE: Final = "AQUACHAT_HOME"
AQUA_VARIABLES: Final = ("AQUA_DATA_DIR", "NANOCHAT_AQUA_DIR")
"""Read in this order when `--data-dir` is not given; the second is the predecessor's."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,127}")


def check_name(name: str, kind: str = "run") -> str:
    """Return `name` if it can be the name of a folder of ours on every system.

    Args:
        name: starts with a letter or digit; then letters, digits and `. _ + = -`; at most 128.
        kind: what is named, for the message: `run`, `tokenizer`, `dataset`, `corpus`...

    Raises:
        ConfigError: the name is empty, starts with a dot, or holds a slash, a space or the like.
    """
    if _NAME.fullmatch(name) is None or ".." in name or name.endswith("."):
        raise ConfigError(
            f"`{name}` cannot be the name of a {kind}",
            hint="use letters, digits, `-`, `_` and single dots, for example `tiny-2`",
        )
    return name


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds everything aquachat writes unless told otherwise.

    Example:
        open_home({}).data("aqua")   # ~/.cache/aquachat/data/aqua
    """

    root: Path

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.root / "runs"

    @property
    def tokenizers(self) -> Path:
        """The folder of all tokenizers."""
        return self.root / "tokenizers"

    @property
    def downloads(self) -> Path:
        """The folder of what was downloaded and unpacked, kept so that it comes only once."""
        return self.root / "downloads"

    @property
    def cloud(self) -> Path:
        """The folder of the machine ledger and of one folder per cloud job."""
        return self.root / "cloud"

    @property
    def env_file(self) -> Path:
        """The `.env` that is read after the one in the current directory."""
        return self.root / ".env"

    def data(self, dataset: str) -> Path:
        """The prepared files of a dataset: its splits, `manifest.json` and `rejected.jsonl`."""
        return self.root / "data" / check_name(dataset, "dataset")

    def tokenizer(self, name: str) -> Path:
        """The folder of a saved tokenizer."""
        return self.tokenizers / check_name(name, "tokenizer")

    def corpus(self, name: str) -> Path:
        """The folder of token shards and their index."""
        return self.root / "corpora" / check_name(name, "corpus")

    def run(self, run: str) -> Path:
        """The folder of a run: one folder per stage, `eval`, and the reports."""
        return self.runs / check_name(run, "run")

    def stage(self, run: str, stage: str) -> Path:
        """The folder of one stage of a run, for example `runs/tiny/sft`."""
        return self.run(run) / check_name(stage, "stage")

    def evals(self, run: str) -> Path:
        """The folder of a run's evaluation results."""
        return self.run(run) / "eval"


def open_home(environ: Mapping[str, str] = os.environ) -> Home:
    """The home that `AQUACHAT_HOME` names, else `~/.cache/aquachat`. An empty value is unset."""
    named = environ.get(HOME_VARIABLE, "").strip()
    root = Path(named).expanduser() if named else Path.home() / ".cache" / "aquachat"
    return Home(root.absolute())


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A folder of prepared splits, and who named it."""

    path: Path
    named_by: str
    """`--data-dir`, an environment variable, or `AQUACHAT_HOME` for the default."""

    def split(self, name: str) -> Path:
        """The file of a split.

        Raises:
            MissingFileError: it is not there. Nothing is ever downloaded in its place.
        """
        file = self.path / f"{name}.jsonl"
        if file.is_file():
            return file
        dataset = self.path.name
        if self.named_by == HOME_VARIABLE:
            raise MissingFileError(
                f"`{dataset}` has no prepared split `{name}` in `{self.path}`",
                hint=f"run `aquachat prepare {dataset}`",
            )
        raise MissingFileError(
            f"`{self.path}`, named by {self.named_by}, has no `{name}.jsonl`",
            hint=f"run `aquachat prepare aqua --output-dir {self.path}`, or name another folder",
        )


def aqua_directory(
    data_dir: str | Path | None, home: Home, environ: Mapping[str, str] = os.environ
) -> DataDirectory:
    """Where AQuA's splits are: `data_dir`, then `AQUA_DATA_DIR`, `NANOCHAT_AQUA_DIR`, then `home`.

    An empty environment variable is unset.
    """
    if data_dir is not None and str(data_dir):
        return DataDirectory(Path(data_dir).expanduser().absolute(), "--data-dir")
    for variable in AQUA_VARIABLES:
        if value := environ.get(variable, "").strip():
            return DataDirectory(Path(value).expanduser().absolute(), variable)
    return dataset_directory("aqua", home)


def dataset_directory(dataset: str, home: Home) -> DataDirectory:
    """Where the splits of a dataset are when no folder was named."""
    return DataDirectory(home.data(dataset), HOME_VARIABLE)
