"""What `launch lambda`, `hyperbolic` and `host` share: their flags, and the work made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aquachat.cli.command import Command, check_choice
from aquachat.cli.options import Argument
from aquachat.errors import ConfigError, MissingFileError
from aquachat.log import secrets_of

if TYPE_CHECKING:
    from aquachat.cloud.limits import Limits
    from aquachat.cloud.work import Work

WORK_PANEL = "What runs"
MACHINE_PANEL = "The machine"
LIMITS_PANEL = "Limits"
SECRETS_PANEL = "Files and secrets"

DEFAULT_PRESET = "d8"
DEFAULT_VARIABLES = ("HF_TOKEN", "WANDB_API_KEY", "WANDB_ENTITY", "WANDB_PROJECT")
"""What of `.env` travels where there is no `.env.template` here."""
PROVIDER_KEYS = ("LAMBDA_API_KEY", "HYPERBOLIC_API_KEY", "HYPERBOLIC_API_TOKEN")
"""Never copied from `.env`: who has them can rent machines in your name."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def option(kind: Any, default: Any, *flags: str, help: str, panel: str, **extra: Any) -> Argument:
    """One flag of these commands."""
    shown = typer.Option(*flags, help=help, rich_help_panel=panel, show_default=False, **extra)
    return Argument(kind, default, shown)


def flag(name: str, help: str, panel: str) -> Argument:
    """A flag that is off unless given."""
    return option(bool, False, name, help=help, panel=panel)


def text(name: str, metavar: str, help: str, panel: str) -> Argument:
    """A flag with a value that may be left out."""
    return option(str | None, None, name, help=help, panel=panel, metavar=metavar)


def texts(name: str, metavar: str, help: str, panel: str) -> Argument:
    """A flag that may be repeated."""
    return option(list[str] | None, None, name, help=help, panel=panel, metavar=metavar)


WORDS = Argument(
    list[str] | None,
    None,
    typer.Argument(metavar="[-- COMMAND...]", help="Instead of the preset", show_default=False),
)

WORK_ARGUMENTS: dict[str, Argument] = {
    "words": WORDS,
    "preset": text(
        "--preset", "NAME", f"`aquachat run NAME` there (default: {DEFAULT_PRESET})", WORK_PANEL
    ),
    "run": text("--run", "NAME", "Name of the run (default: the preset and the job)", WORK_PANEL),
    "auto_start": flag(
        "--auto-start", "Train, bring the results here and end; else it is kept for you", WORK_PANEL
    ),
    "detach": flag("--detach", "Leave when training has started", WORK_PANEL),
    "device": text("--device", "cuda|cpu", "cpu skips the check of the GPU", WORK_PANEL),
    "python": text(
        "--python", "PATH", "Interpreter there whose torch is used (default: a new one)", WORK_PANEL
    ),
    "tokenizer": text(
        "--tokenizer", "NAME", "Use this tokenizer of yours instead of training one", WORK_PANEL
    ),
    "repo_url": text("--repo-url", "URL", "Let the machine clone this instead", SECRETS_PANEL),
    "branch": text("--branch", "NAME", "Of `--repo-url`", SECRETS_PANEL),
    "repo_dir": text("--repo-dir", "PATH", "Folder of the project there", SECRETS_PANEL),
    "project": option(
        Path | None,
        None,
        "--project",
        help="Folder that travels and is worked in (default: the git checkout here)",
        panel=SECRETS_PANEL,
    ),
    "no_project": flag("--no-project", "Send no project", SECRETS_PANEL),
    "send_data": option(
        list[Path] | None,
        None,
        "--send-data",
        help="File or folder that goes to `data/` of the job; may be repeated",
        panel=SECRETS_PANEL,
    ),
    "send_file": texts(
        "--send-file", "LOCAL:REMOTE", "File for its user only; may be repeated", SECRETS_PANEL
    ),
    "inject_env": texts(
        "--inject-env", "NAME", "Variable of yours for the training; may be repeated", SECRETS_PANEL
    ),
    "env_file": option(
        Path | None,
        None,
        "--env-file",
        help="`.env` of which the names in `.env.template` travel",
        panel=SECRETS_PANEL,
    ),
    "no_env_file": flag("--no-env-file", "Copy no `.env`", SECRETS_PANEL),
    "ssh_key": option(
        Path | None,
        None,
        "--ssh-key",
        help="Private key to log in with (default: your agent, then ~/.ssh)",
        panel=MACHINE_PANEL,
    ),
    "pull": texts(
        "--pull", "PATH", "Also bring this folder of the project here; may be repeated", WORK_PANEL
    ),
    "with_optimizer": flag(
        "--with-optimizer", "Also bring optimizer states, to go on training here", WORK_PANEL
    ),
}


def work_of(command: Command, *, copies_env_file: bool) -> Work:
    """What the flags say is to be done; every file is looked for before anything is ordered.

    Raises:
        ConfigError: a flag that cannot be used, or contradicts another.
        MissingFileError: a file that is not there.
    """
    from aquachat.cloud.bootstrap import Clone, Setup
    from aquachat.cloud.work import Work

    settings = command.settings
    device = check_choice("device", settings["device"] or "cuda", ("cuda", "cpu"))
    words = tuple(settings["words"] or ())
    if words and settings["preset"]:
        raise ConfigError(
            "`--preset` and a command exclude each other", hint="leave one of them out"
        )
    clone = None
    if settings["repo_url"] is not None:
        clone = (settings["repo_url"], settings["branch"])
    if settings["branch"] and clone is None:
        raise ConfigError("`--branch` needs `--repo-url`", hint="add `--repo-url URL`")
    # what the machine would refuse is said before it is ordered
    where = Setup("aquachat/job", "wheel", settings["python"], clone=clone and Clone(*clone))
    preset = settings["preset"] or DEFAULT_PRESET
    if not words:
        _check_preset(preset)
    env = _environment(command, copies_env_file=copies_env_file)
    _check_words(words, secrets_of({**command.environ, **env}))
    return Work(
        words=words,
        preset=preset,
        run=_run_name(settings["run"]),
        project=None if clone else _project(settings["project"], settings["no_project"]),
        clone=clone,
        repo_dir=_repo_dir(settings["repo_dir"]),
        tokenizer=_tokenizer(command),
        data=tuple(_existing(path, "--send-data") for path in settings["send_data"] or ()),
        files=tuple(_pair(item) for item in settings["send_file"] or ()),
        env=env,
        device="cpu" if device == "cpu" else "cuda",
        python=where.python,
        with_optimizer=settings["with_optimizer"],
        pull=tuple(_inside(name) for name in settings["pull"] or ()),
    )


def limits_of(settings: Mapping[str, Any]) -> Limits:
    """`--max-hours` and `--max-cost`."""
    from aquachat.cloud.limits import DEFAULT_MAX_HOURS, Limits

    hours = settings["max_hours"]
    cost = dollars(settings["max_cost"], "--max-cost")
    return Limits(DEFAULT_MAX_HOURS if hours is None else hours, cost)


def dollars(text: str | None, name: str = "--max-price") -> Decimal | None:
    """An amount such as `2.5` or `$2.50`.

    Raises:
        ConfigError: it is none, or not above zero.
    """
    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise ConfigError(f"`{name} {text}` is no price", hint="use dollars such as 2.5")
    return amount


def seconds_of(text: str | None, name: str) -> float:
    """A duration such as `2h`, `90m` or `45s`; 0 where none was given.

    Example:
        seconds_of("1.5h", "--wait-for-capacity") -> 5400.0

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return 0.0
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigError(f"`{name} {text}` is no duration", hint="write it as `2h` or `30m`")
    return float(match[1]) * _SECONDS[match[2]]


def key_file_of(path: Path | None) -> Path | None:
    """`--ssh-key`, which a machine that is paid for must not be the first to miss.

    Raises:
        MissingFileError: it is not there.
    """
    return None if path is None else _existing(path, "--ssh-key")


def _check_preset(preset: str) -> None:
    from aquachat.config.resolve import preset_layers

    preset_layers(preset, with_data=False)


def _run_name(name: str | None) -> str | None:
    from aquachat.paths import check_name

    return None if name is None else check_name(name)


def _repo_dir(folder: str | None) -> str | None:
    from aquachat.cloud.remote_paths import check_remote_folder

    return None if folder is None else check_remote_folder(folder)


def _inside(name: str) -> str:
    from aquachat.cloud.remote_paths import check_remote_path

    path = check_remote_path(name, "--pull")
    if path.startswith("/"):
        raise ConfigError(f"`--pull {name}` is not inside the project", hint="name it relative")
    return path


def _project(named: Path | None, none: bool) -> Path | None:
    """`--project`, else the folder here where it is a git checkout, which a home seldom is."""
    if none and named is not None:
        raise ConfigError("`--project` and `--no-project` exclude each other", hint="choose one")
    if named is not None:
        return _existing(named, "--project", folder=True)
    here = Path.cwd()
    return here if not none and (here / ".git").exists() else None


def _tokenizer(command: Command) -> Path | None:
    name = command.settings["tokenizer"]
    if name is None:
        return None
    folder = command.home.tokenizer(name)
    if not folder.is_dir():
        raise MissingFileError(
            f"there is no tokenizer `{name}` in `{command.home.tokenizers}`",
            hint="make one with `aquachat tokenize --name NAME`",
        )
    return folder


def _existing(path: Path, name: str, *, folder: bool = False) -> Path:
    found = path.expanduser()
    if not (found.is_dir() if folder else found.exists()):
        raise MissingFileError(f"there is no `{path}` for `{name}`", hint="correct its name")
    return found


def _pair(text: str) -> tuple[Path, str]:
    from aquachat.cloud.remote_paths import check_remote_path

    local, colon, remote = text.rpartition(":")
    if not (colon and local and remote):
        raise ConfigError(
            f"`--send-file {text}` does not say where to",
            hint="write it as `--send-file keys.json:.config/keys.json`",
        )
    return _existing(Path(local), "--send-file"), check_remote_path(remote)


def _environment(command: Command, *, copies_env_file: bool) -> dict[str, str]:
    """The variables that travel: what of `.env` may, then what was named."""
    from aquachat.cloud.env_file import render_env, select_variables

    settings = command.settings
    if settings["env_file"] is not None and settings["no_env_file"]:
        raise ConfigError("`--env-file` and `--no-env-file` exclude each other", hint="choose one")
    values: dict[str, str] = {}
    file = settings["env_file"] or (Path(".env") if copies_env_file else None)
    if file is not None and not settings["no_env_file"]:
        values = _copied(command, file, must_exist=settings["env_file"] is not None)
    names = settings["inject_env"] or []
    injected = select_variables(command.environ, names)
    missing = [name for name in names if name not in injected]
    if missing:
        raise ConfigError(
            f"{missing[0]}, named by `--inject-env`, is not set",
            hint=f"put `{missing[0]}=...` into `.env`, or leave the flag out",
        )
    values |= injected
    _check_credentials(values.get("GOOGLE_APPLICATION_CREDENTIALS"))
    render_env(values)  # what cannot be written there is said before anything is ordered
    return values


def _check_words(words: Sequence[str], secrets: Mapping[str, str]) -> None:
    """A command is seen by everybody on the machine, and is kept here."""
    for value, name in secrets.items():
        if any(value in word for word in words):
            raise ConfigError(
                f"the command holds the value of {name}, which lists of processes would show",
                hint=f"send it with `--inject-env {name}`, and let the command read it there",
            )


def _check_credentials(name: str | None) -> None:
    if name is not None and not Path(name).expanduser().is_file():
        raise MissingFileError(
            "GOOGLE_APPLICATION_CREDENTIALS names no file here",
            hint="correct it, or leave it out of what is sent",
        )


def _copied(command: Command, file: Path, *, must_exist: bool) -> dict[str, str]:
    from aquachat.cloud.env_file import parse_env_file

    try:
        found = parse_env_file(file.read_text("utf-8"), str(file))
    except FileNotFoundError:
        if must_exist:
            raise MissingFileError(
                f"there is no `{file}` for `--env-file`", hint="correct its name"
            ) from None
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{file}` is not UTF-8", hint="save it as UTF-8") from error
    allowed = set(_template_names()) - set(PROVIDER_KEYS)
    left_out = sorted(set(found) - allowed)
    if left_out:
        command.output.note(f"not copied from `{file}`: {', '.join(left_out)}")
    return {name: value for name, value in found.items() if name in allowed and value}


def _template_names() -> tuple[str, ...]:
    """The names in the `.env.template` here, also those that are commented out."""
    try:
        text = Path(".env.template").read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return DEFAULT_VARIABLES
    return tuple(re.findall(r"(?m)^\s*#?\s*([A-Za-z_][A-Za-z0-9_]*)=", text))
