"""Weights & Biases beside the run log: same keys, online or offline, and never in the way.

A missing key, a refused login, an unreachable server or a failure in the middle of a run costs one
warning; training goes on, and `metrics.jsonl` has everything. The run's id is kept in the stage's
folder, so that a resumed stage continues the same W&B run.
"""

from __future__ import annotations

import logging
import netrc
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from aquachat.errors import ConfigError
from aquachat.log import redact
from aquachat.track.values import as_number, jsonable

logger = logging.getLogger(__name__)

Mode = Literal["off", "online", "offline"]
DEFAULT_PROJECT = "aquachat"
DEFAULT_URL = "https://api.wandb.ai"
RUN_ID_FILE = "wandb_run_id"
INIT_TIMEOUT_S = 60
FINISH_TIMEOUT_S = 60
_MODES: Mapping[str, Mode] = {
    "off": "off",
    "disabled": "off",
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
}


@dataclass(frozen=True, slots=True)
class WandbOptions:
    """Where W&B runs go."""

    mode: Mode
    project: str = DEFAULT_PROJECT
    entity: str | None = None


def wandb_options(
    mode: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> WandbOptions:
    """Choose from flags, then `WANDB_MODE`, `WANDB_PROJECT` and `WANDB_ENTITY`, then the defaults.

    Without a flag or a `WANDB_MODE` W&B is off.

    Raises:
        ConfigError: a mode that there is not.
    """
    wanted, origin = (mode, "--wandb") if mode else (environ.get("WANDB_MODE"), "WANDB_MODE")
    chosen = _MODES.get((wanted or "off").lower())
    if chosen is None:
        raise ConfigError(f"{origin} cannot be `{wanted}`", hint="use off, online or offline")
    return WandbOptions(
        chosen,
        project or environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
        entity or environ.get("WANDB_ENTITY") or None,
    )


def has_credentials(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether W&B can log in without asking: `WANDB_API_KEY`, a token file, or a netrc entry."""
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(environ.get("WANDB_BASE_URL") or DEFAULT_URL).hostname or ""
    home = Path(environ.get("HOME") or Path.home())
    names = [environ["NETRC"]] if environ.get("NETRC") else [home / ".netrc", home / "_netrc"]
    for name in names:
        try:
            if netrc.netrc(name).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


class WandbSink:
    """A `MetricSink` that writes to one W&B run."""

    def __init__(self, run: Any, stage_dir: Path) -> None:
        """Take over an initialised `wandb.Run`; pictures are looked up in `stage_dir`."""
        self._run = run
        self._stage_dir = stage_dir
        self._failed = False

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Send one line; after the first failure, nothing."""
        if self._failed:
            return
        try:
            self._run.log({name: self._value(v) for name, v in metrics.items()}, step=step)
        except Exception as error:  # a remote's client: whatever it raises, training goes on
            self._give_up(error)

    @property
    def has_failed(self) -> bool:
        """Whether W&B stopped taking what it was sent."""
        return self._failed

    def log_tables(
        self, tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]]
    ) -> None:
        """Send tables of words: name -> columns and rows."""
        if self._failed:
            return
        import wandb

        try:
            found = {
                name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])
                for name, (columns, rows) in tables.items()
            }
            self._run.log(found, step=0)
        except Exception as error:  # as above
            self._give_up(error)

    def close(self, *, succeeded: bool) -> None:
        """Finish the run; it is marked failed in W&B where the stage failed."""
        try:
            self._run.finish(exit_code=0 if succeeded else 1)
        except Exception as error:  # as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            logger.warning(
                "W&B failed (%s); training goes on, and metrics.jsonl has every line",
                _one_line(error),
            )

    def _value(self, value: object) -> Any:
        """A number, or a picture where `value` names one of the stage's files."""
        plain = jsonable(value)
        number = as_number(plain)
        if number is not None or not isinstance(plain, str):
            return plain if number is None else number
        import wandb

        path = self._stage_dir / plain
        if path.suffix == ".png" and path.is_file():
            return wandb.Image(str(path))
        if path.suffix == ".html" and path.is_file():
            return wandb.Html(str(path))
        return plain


def open_wandb(
    stage_dir: Path,
    *,
    run: str,
    stage: str,
    options: WandbOptions,
    config: Mapping[str, object],
    resume: bool,
    environ: Mapping[str, str] = os.environ,
) -> WandbSink | None:
    """Start or continue the W&B run of a stage; None where W&B is off or cannot be used.

    Args:
        stage_dir: offline files go to its `wandb` folder, the run's id to `wandb_run_id`.
        run: the aquachat run; stages of one run form a W&B group.
        stage: the job type in W&B.
        options: see `wandb_options`.
        config: the resolved recipe.
        resume: continue the run whose id is stored; otherwise a new id is made.
        environ: where credentials are looked for.
    """
    mode = options.mode
    if mode == "off":
        return None
    if mode == "online" and not has_credentials(environ):
        logger.warning(
            "W&B has no key, so this run is logged offline; run `wandb login` or set "
            "WANDB_API_KEY, and `wandb sync` sends it later"
        )
        mode = "offline"
    stage_dir.mkdir(parents=True, exist_ok=True)
    run_id = _run_id(stage_dir, resume=resume)
    attempts: tuple[Literal["online", "offline"], ...] = (mode, "offline")
    for attempt in attempts:
        where = replace(options, mode=attempt)
        try:
            return WandbSink(_init(stage_dir, where, run, stage, run_id, config), stage_dir)
        except ImportError:
            logger.warning("W&B is not installed; run `pip install wandb`, or leave `--wandb` out")
            return None
        except Exception as error:  # login refused, no network, time-out: no reason not to train
            reason = _one_line(error)
            if attempt == "offline":
                break
            logger.warning("W&B cannot be used online (%s); this run is logged offline", reason)
            _forget_failed_run()
    logger.warning("W&B cannot be used (%s); metrics.jsonl has every line", reason)
    return None


def _init(
    stage_dir: Path,
    options: WandbOptions,
    run: str,
    stage: str,
    run_id: str,
    config: Mapping[str, object],
) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off",  # stdout holds the command's answer, and is not copied anywhere
        silent=True,
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        disable_code=True,
        disable_git=True,
        symlink=False,
    )
    is_online = options.mode == "online"
    return wandb.init(
        project=options.project,
        entity=options.entity,
        group=run,
        job_type=stage,
        name=f"{run}-{stage}",
        id=run_id,
        dir=str(stage_dir),
        mode="online" if is_online else "offline",
        resume="allow" if is_online else None,  # `wandb sync` joins offline parts by their id
        config=jsonable(config),
        reinit="finish_previous",
        settings=settings,
    )


def _forget_failed_run() -> None:
    """End W&B's service process: it keeps the id of a run that failed to start in use."""
    import wandb

    try:
        wandb.teardown(exit_code=1)
    except Exception as error:  # as in `WandbSink`; the offline attempt will say what is wrong
        logger.debug("W&B teardown: %s", _one_line(error))


def _one_line(error: Exception) -> str:
    return redact(" ".join(f"{type(error).__name__}: {error}".split()))


def _run_id(stage_dir: Path, *, resume: bool) -> str:
    path = stage_dir / RUN_ID_FILE
    stored = path.read_text("utf-8").strip() if resume and path.is_file() else ""
    if re.fullmatch(r"[a-z0-9]{8,32}", stored):
        return stored
    run_id = secrets.token_hex(4)
    path.write_text(run_id + "\n", "utf-8")
    return run_id
