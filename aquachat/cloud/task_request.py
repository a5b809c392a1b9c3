"""What a task file for another scheduler is to run, and on what; every value is checked here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from aquachat import __version__
from aquachat.cloud.limits import DEFAULT_MAX_HOURS, Limits
from aquachat.config.resolve import preset_layers
from aquachat.errors import ConfigError

DEFAULT_PRESET: Final = "d8"

_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_CREDENTIALS: Final = re.compile(r"https?://[^/\s]*@|://[^/@\s]*:[^/@\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """What a task file is to run, and on what. An empty field leaves the choice to the tool.

    Raises:
        ConfigError: a value that cannot be; the sentence names its flag.
    """

    preset: str | None = None
    """`aquachat run PRESET`; `d8` where there is no command either."""
    command: tuple[str, ...] = ()
    """Words; no shell reads them."""
    name: str = ""
    """Of the job, and of the run; by default `aquachat-PRESET`."""
    gpus: tuple[str, ...] = ()
    """In order of preference, where a tool takes several."""
    gpu_count: int = 1
    max_hours: float = DEFAULT_MAX_HOURS
    max_price_usd_per_hour: float | None = None
    regions: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ()
    package: str = f"aquachat=={__version__}"
    """What pip installs."""
    image: str = ""
    """A container, where a tool runs in one."""
    results: str = ""
    """Storage that outlives the job, in the tool's own words."""

    def __post_init__(self) -> None:
        """Check every value that lands in a file."""
        if self.command and self.preset:
            raise ConfigError(
                f"both `--preset {self.preset}` and a command were given",
                hint="leave `--preset` out, or what follows `--`",
            )
        if not self.command:
            preset_layers(self.preset or DEFAULT_PRESET)
        Limits(max_hours=self.max_hours)
        if self.gpu_count < 1:
            raise ConfigError(f"`--gpu-count` is {self.gpu_count}", hint="use 1 or more")
        price = self.max_price_usd_per_hour
        if price is not None and not (math.isfinite(price) and price > 0):
            raise ConfigError(f"`--max-price {price}` is no price", hint="use dollars such as 2.5")
        if _NAME.fullmatch(self.job) is None:
            raise ConfigError(
                f"`{self.job}` cannot be the name of a job",
                hint="use at most 40 small letters, digits and `-`: `--name my-run`",
            )
        self._check_words()

    def _check_words(self) -> None:
        for flag, words in (("--gpu", self.gpus), ("--region", self.regions)):
            for word in words:
                if not is_word(word):
                    raise ConfigError(
                        f"`{flag} {word}` is no name", hint="use letters, digits, `-`, `_` and `.`"
                    )
        for name in self.env_names:
            if _VARIABLE.fullmatch(name) is None:
                raise ConfigError(
                    f"`{name.partition('=')[0]}` is given to `--inject-env` in another form than "
                    "the name of an environment variable",
                    hint="give only the name: `--inject-env WANDB_API_KEY`",
                )
        texts = (("--package", self.package), ("--image", self.image), ("--results", self.results))
        for flag, text in texts:
            if _CREDENTIALS.search(text):
                raise ConfigError(
                    f"the address in `{flag}` holds a password or a token, which would be written "
                    "into the file",
                    hint="name a public address, or a file that the machine can read",
                )
            if _CONTROL.search(text) or text.startswith("-") or (not text and flag == "--package"):
                raise ConfigError(
                    f"`{flag} {text}` cannot be used",
                    hint="use one line without control characters",
                )

    @property
    def job(self) -> str:
        """The name of the job."""
        return self.name or f"aquachat-{'job' if self.command else self.preset or DEFAULT_PRESET}"

    @property
    def words(self) -> list[str]:
        """The command; started again with the same storage it goes on where it was."""
        if self.command:
            return list(self.command)
        run = ["aquachat", "run", self.preset or DEFAULT_PRESET, "--run", self.job, "--resume"]
        return [*run, "--gpus", str(self.gpu_count)] if self.gpu_count > 1 else run

    @property
    def max_minutes(self) -> int:
        """Whole minutes, at least one."""
        return max(1, int(self.max_hours * 60))


def is_word(text: str) -> bool:
    """Whether `text` is a plain name: letters, digits, `.`, `-` and `_`, at most 63."""
    return _WORD.fullmatch(text) is not None
