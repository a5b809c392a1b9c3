"""Where a command's words go: the answer to stdout, all else to stderr, an error to an exit code.

One `Output` is made per command and handed down. With `--json` stdout holds exactly one JSON
document and nothing else; an error leaves stdout empty and says its sentence on stderr in either
mode.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from aquachat.cli.progress import BarProgress, PlainProgress, QuietProgress
from aquachat.cli.tables import encodable, format_cell, framed_table, plain_table
from aquachat.errors import AquachatError, ConfigError
from aquachat.log import is_terminal, redact
from aquachat.track.values import jsonable, to_json

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""Whoever read our stdout left (`aquachat runs | head -1`): what a shell shows for SIGPIPE."""
EXIT_BUG = 70

_COLORS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Output:
    """The one sink of a command.

    Streams default to the process's own, looked up at each write, so that a progress bar or a test
    that replaces them is respected.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        assume_yes: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        stdin: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Choose the form.

        Args:
            json: one JSON document on stdout; tables and text are left out.
            quiet: no notes, hints or progress; the answer, warnings and errors stay.
            assume_yes: every question of `confirm` is answered yes.
            stdout: replaces the process's stream, as do `stderr` and `stdin`.
            stderr: see `stdout`.
            stdin: see `stdout`.
            environ: NO_COLOR, TERM, COLUMNS and the values of secrets are read from it.
        """
        self.json = json
        self.quiet = quiet
        self.assume_yes = assume_yes
        self._streams = (stdin, stdout, stderr)
        self._environ = os.environ if environ is None else environ
        self._has_result = False

    @property
    def stdin(self) -> TextIO:
        """Where answers to `confirm` come from."""
        return self._streams[0] or sys.stdin

    @property
    def stdout(self) -> TextIO:
        """Where the answer goes."""
        return self._streams[1] or sys.stdout

    @property
    def stderr(self) -> TextIO:
        """Where everything else goes."""
        return self._streams[2] or sys.stderr

    def result(self, document: object, *, one_line: bool = False) -> None:
        """Print `document` as JSON if `--json` was asked for, else nothing; at most once a command.

        Args:
            document: anything `aquachat.track.values.jsonable` understands.
            one_line: for a line that a program waits for (`serve --json`).
        """
        assert not self._has_result, "a command prints one JSON document"
        self._has_result = True
        if self.json:
            hidden = _redact_values(jsonable(document), self._environ)
            self._answer(to_json(hidden, indent=None if one_line else 2))

    def text(self, text: str) -> None:
        """Print a part of the answer that is not a table; nothing with `--json`."""
        if not self.json:
            self._answer(redact(text, self._environ))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; nothing with `--json`.

        A terminal gets a framed table that wraps to its width. A pipe gets aligned columns, two
        spaces apart, never cut. Integers get thousands separators, other numbers four digits, None
        is `-`; columns of numbers are aligned to the right.
        """
        if self.json:
            return
        cells = [[redact(format_cell(cell), self._environ) for cell in row] for row in rows]
        if is_terminal(self.stdout):
            width = int(self._environ.get("COLUMNS") or shutil.get_terminal_size((100, 24)).columns)
            ascii_only = "utf" not in (getattr(self.stdout, "encoding", None) or "utf-8").lower()
            colored = self._has_color(self.stdout)
            framed = framed_table(
                title, columns, cells, width=width, ascii_only=ascii_only, colored=colored
            )
            self._answer(framed)
        else:
            self._answer(plain_table(title, columns, cells))

    def note(self, text: str) -> None:
        """Say what is being done, on stderr; not with `--quiet`."""
        if not self.quiet:
            self._say(text)

    def warn(self, text: str) -> None:
        """Say what went not as asked, on stderr."""
        self._say(f"{self._paint('warning:', 'yellow')} {text}")

    def hint(self, text: str) -> None:
        """Name a way on, on stderr; not with `--quiet`."""
        if not self.quiet:
            self._say(f"{self._paint('hint:', 'cyan')} {text}")

    def next_command(self, command: str) -> None:
        """Name the command that usually follows this one; every command ends with it."""
        if not self.quiet:
            self._say(f"{self._paint('next:', 'green')} `{command}`")

    def error(self, error: AquachatError) -> None:
        """Say the sentence of a known failure, and its hint, on stderr.

        With `AQUACHAT_DEBUG=1` the traceback comes first.
        """
        if self._environ.get("AQUACHAT_DEBUG") == "1":
            self._say(_traceback_of(error).rstrip())
        self._say(f"{self._paint('error:', 'red')} {error.message}")
        if error.hint:
            self._say(f"{self._paint('hint:', 'cyan')} {error.hint}")

    def bug(self, error: BaseException) -> None:
        """Show the traceback of an error that nobody foresaw, and ask for a report."""
        self._say(_traceback_of(error).rstrip())
        sentence = f"this is a bug in aquachat: {type(error).__name__}: {error}"
        self._say(f"{self._paint('error:', 'red')} {sentence}")
        self._say(
            f"{self._paint('hint:', 'cyan')} please report it with the traceback above and the "
            "output of `aquachat --version`"
        )

    def progress(
        self, description: str, total: float | None = None
    ) -> BarProgress | PlainProgress | QuietProgress:
        """A context manager whose `advance` and `update` show how far a task is.

        Example:
            with output.progress("reading", total=len(files)) as progress:
                for file in files:
                    read(file)
                    progress.advance()
        """
        if self.quiet:
            return QuietProgress()
        if self._streams[2] is None and is_terminal(self.stderr) and not self._is_dumb():
            return BarProgress(description, total, color=self._has_color(self.stderr))
        return PlainProgress(description, total, write=self._say)

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question on stderr; only `y` and `yes` mean yes.

        Raises:
            ConfigError: nobody can answer, since stdin or stderr is not a terminal.
        """
        if self.assume_yes:
            return True
        if not (is_terminal(self.stdin) and is_terminal(self.stderr)):
            raise ConfigError(
                f"cannot ask outside a terminal: {question}", hint="add `--yes` to go ahead"
            )
        self._write(self.stderr, f"{redact(question, self._environ)} [y/N] ", end="")
        return self.stdin.readline().strip().lower() in {"y", "yes"}

    def _answer(self, text: str) -> None:
        try:
            self._write(self.stdout, text)
        except BrokenPipeError:  # typer would end with 1, as for a failure
            _let_go_of_stdout()
            raise SystemExit(EXIT_BROKEN_PIPE) from None

    def _say(self, text: str) -> None:
        try:
            self._write(self.stderr, redact(text, self._environ))
        except (OSError, ValueError):  # nobody reads stderr any more: the work goes on
            return

    def _write(self, stream: TextIO, text: str, end: str = "\n") -> None:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(encodable(text, encoding) + end)
        stream.flush()

    def _is_dumb(self) -> bool:
        return self._environ.get("TERM") in {"dumb", "unknown"}

    def _has_color(self, stream: TextIO) -> bool:
        return not self._environ.get("NO_COLOR") and not self._is_dumb() and is_terminal(stream)

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[1;{_COLORS[color]}m{text}\x1b[0m" if self._has_color(self.stderr) else text


def exit_code_of(error: BaseException) -> int:
    """The exit code that `error` ends the program with.

    Example:
        exit_code_of(RemoteError("...")) -> 4; exit_code_of(KeyboardInterrupt()) -> 130;
        exit_code_of(ZeroDivisionError()) -> 70
    """
    if isinstance(error, AquachatError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        return error.code if isinstance(error.code, int) else 1
    return EXIT_BUG


def run_command(function: Callable[[], object], *, output: Output | None = None) -> int:
    """Call `function`, say on stderr what went wrong, and return the exit code.

    Of a known failure the sentence and the hint are shown, and with `AQUACHAT_DEBUG=1` the
    traceback too; of anything else the traceback.
    """
    output = output or Output()
    try:
        function()
        return 0
    except SystemExit as error:
        if isinstance(error.code, str):
            output.error(AquachatError(error.code))
        return exit_code_of(error)
    except AquachatError as error:
        output.error(error)
        return exit_code_of(error)
    except KeyboardInterrupt as error:
        output.warn("interrupted")
        return exit_code_of(error)
    except BrokenPipeError as error:
        _let_go_of_stdout()
        return exit_code_of(error)
    except Exception as error:
        output.bug(error)
        return exit_code_of(error)


def _redact_values(value: object, environ: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return redact(value, environ)
    if isinstance(value, dict):
        return {redact(key, environ): _redact_values(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact_values(item, environ) for item in value]
    return value


def _traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _let_go_of_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # a stream of a test has no descriptor
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
