"""Log lines for people, on stderr, with the values of secrets taken out.

Nothing happens at import: a command calls `configure` once. Modules log through
`logging.getLogger(__name__)`; libraries are heard from warnings on.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TextIO

SECRET_NAME = re.compile(
    r"(_KEY|_TOKEN|_SECRET|PASSWORD|PASSPHRASE|_CREDENTIALS)$|^(KEY|TOKEN|SECRET)$", re.IGNORECASE
)
MIN_SECRET_LENGTH = 8
"""Shorter values (`1`, `true`, `main`) would blot out ordinary words, and are no keys."""


def secrets_of(environ: Mapping[str, str], also: Mapping[str, str] | None = None) -> dict[str, str]:
    """Secret values, longest first, each with the name of its variable.

    A value of several lines counts as a whole and line by line, as it would be shown.

    Args:
        environ: of which those values are secret whose names say so.
        also: values that are secret whatever their names.

    Example:
        secrets_of({"HF_TOKEN": "hf_abcdefgh", "HOME": "/root"}) -> {"hf_abcdefgh": "HF_TOKEN"}
    """
    named = [pair for pair in environ.items() if SECRET_NAME.search(pair[0])]
    found = {
        text.strip(): name
        for name, value in (*named, *(also or {}).items())
        for text in (value, *value.splitlines())
        if len(text.strip()) >= MIN_SECRET_LENGTH
    }
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def redact(
    text: str, environ: Mapping[str, str] | None = None, also: Mapping[str, str] | None = None
) -> str:
    """Replace each secret value in `text` by `[NAME redacted]`; see `secrets_of`.

    The environment is read at each call, since `.env` is loaded after start-up.
    """
    for value, name in secrets_of(os.environ if environ is None else environ, also).items():
        if value in text:
            text = text.replace(value, f"[{name} redacted]")
    return text


class RedactingFormatter(logging.Formatter):
    """Formats a record, then takes secrets out of the whole text, tracebacks included."""

    def __init__(self, *, plain: bool, environ: Mapping[str, str] | None = None) -> None:
        """Set the style: `plain` for a terminal, else one dated line with the level."""
        dated = "%(asctime)s %(levelname)s %(message)s"
        super().__init__("%(message)s" if plain else dated, datefmt="%Y-%m-%d %H:%M:%S")
        self._plain = plain
        self._environ = environ

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record; on a terminal a warning says that it is one."""
        text = super().format(record)
        if self._plain and record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        return redact(text, self._environ)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment, so that a progress bar stays below.

    A character that the stream cannot encode is replaced: a log line never stops training.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The current standard error stream."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a closed or broken stream is not an error."""
        try:
            text = self.format(record) + "\n"
            encoding = getattr(self.stream, "encoding", None) or "utf-8"
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError):  # the reader of a pipe left, or the stream was closed
            return


def configure(
    *,
    quiet: bool = False,
    verbose: bool = False,
    log_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Send log lines to stderr, and to `log_file` if given; call again to change the settings.

    Args:
        quiet: warnings only.
        verbose: debug lines of aquachat too.
        log_file: appended to, one dated line per record, whatever stderr is.
        environ: where secrets are looked up; the process's environment by default.
    """
    reset()
    root = logging.getLogger()
    handlers: list[logging.Handler] = [StderrHandler()]
    handlers[0].setFormatter(RedactingFormatter(plain=is_terminal(sys.stderr), environ=environ))
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, encoding="utf-8", errors="replace"))
        handlers[1].setFormatter(RedactingFormatter(plain=False, environ=environ))
    for handler in handlers:
        handler.set_name("aquachat")
        root.addHandler(handler)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("aquachat").setLevel(level)
    # all that it logs it raises too, and `cloud.remote` says it in a sentence
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


def reset() -> None:
    """Undo `configure`; handlers of others stay."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() == "aquachat"]:
        root.removeHandler(handler)
        handler.close()
    for name in ("aquachat", "paramiko"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a person looks at `stream`; a closed or missing stream is no terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
