from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aquachat.cli.output import Output, exit_code_of, run_command
from aquachat.cli.progress import PlainProgress
from aquachat.cli.tables import encodable, plain_table
from aquachat.errors import (
    AquachatError,
    ConfigError,
    DataError,
    Interrupted,
    PreflightError,
    RemoteError,
    TryLaterError,
)


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


class Streams:
    """An `Output` on streams of its own."""

    def __init__(self, *, terminal: bool = False, answer: str = "", **options: object) -> None:
        kind: Callable[[], io.StringIO] = Terminal if terminal else io.StringIO
        self.out, self.err, stdin = kind(), kind(), Terminal(answer) if terminal else io.StringIO()
        environ = options.pop("environ", {})
        self.output = Output(
            stdout=self.out,
            stderr=self.err,
            stdin=stdin,
            environ=environ,  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )


def test_json_mode_prints_exactly_one_document_and_nothing_else() -> None:
    streams = Streams(json=True)
    streams.output.text("words")
    streams.output.table("Runs", ["run"], [["a"]])
    streams.output.note("working")
    streams.output.result({"run": "a", "loss": math.nan, "at": Path("runs/a")})
    streams.output.next_command("aquachat chat --run a")
    assert json.loads(streams.out.getvalue()) == {"run": "a", "loss": "NaN", "at": "runs/a"}
    assert streams.err.getvalue() == "working\nnext: `aquachat chat --run a`\n"


def test_a_second_document_is_a_mistake_of_ours() -> None:
    output = Streams(json=True).output
    output.result({})
    with pytest.raises(AssertionError, match="one JSON document"):
        output.result({})


def test_a_one_line_document_is_one_line() -> None:
    streams = Streams(json=True)
    streams.output.result({"address": "http://127.0.0.1:1", "n": [1, 2]}, one_line=True)
    assert streams.out.getvalue() == '{"address": "http://127.0.0.1:1", "n": [1, 2]}\n'


def test_without_json_the_answer_is_words_on_stdout() -> None:
    streams = Streams()
    streams.output.result({"run": "a"})
    streams.output.text("done")
    streams.output.warn("slow")
    streams.output.hint("run `aquachat doctor`")
    assert streams.out.getvalue() == "done\n"
    assert streams.err.getvalue() == "warning: slow\nhint: run `aquachat doctor`\n"


def test_quiet_keeps_the_answer_and_warnings_only() -> None:
    streams = Streams(quiet=True)
    streams.output.note("working")
    streams.output.hint("a hint")
    streams.output.next_command("aquachat eval")
    with streams.output.progress("reading", total=3) as progress:
        progress.advance(3)
    streams.output.warn("slow")
    streams.output.text("done")
    assert (streams.out.getvalue(), streams.err.getvalue()) == ("done\n", "warning: slow\n")


def test_a_piped_table_is_aligned_and_never_cut() -> None:
    streams = Streams(environ={"COLUMNS": "20"})
    path = "/a/very/long/path/" + "x" * 200
    streams.output.table(
        "Runs", ["run", "steps", "accuracy"], [["a", 12345, 0.5], [path, 7, None], ["日本", 1, 1.0]]
    )
    lines = streams.out.getvalue().splitlines()
    assert lines[0] == "Runs"
    assert lines[1].startswith("run ")
    assert path in lines[3]
    assert lines[2].split() == ["a", "12,345", "0.5"]
    assert lines[3].split()[1:] == ["7", "-"]
    # numbers end at the same column; a wide character takes two places
    assert lines[2].index("12,345") + 6 == lines[3].index(" 7") + 2
    assert lines[4].index(" 1") == lines[3].index(" 7") - 2


def test_a_cell_with_a_line_break_stays_one_row_in_a_pipe() -> None:
    assert plain_table("", ["a", "b"], [["x\ny", "z"]]) == "a    b\nx y  z"


def test_a_terminal_table_fits_its_width_and_keeps_every_word() -> None:
    streams = Streams(terminal=True, environ={"COLUMNS": "40", "NO_COLOR": "1"})
    streams.output.table("Runs", ["name", "what"], [["a", "many words that must wrap around here"]])
    text = streams.out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 40
    words = set(text.replace("│", " ").split())
    assert {"many", "words", "that", "must", "wrap", "around", "here"} <= words
    assert "\x1b" not in text


def test_markup_in_a_cell_is_text() -> None:
    streams = Streams(terminal=True, environ={"COLUMNS": "60", "NO_COLOR": "1"})
    streams.output.table("[red]T", ["a"], [["[bold]x[/bold] [/]"]])
    assert "[bold]x[/bold] [/]" in streams.out.getvalue()


def test_colour_is_for_terminals_without_no_color() -> None:
    for environ, colored in [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]:
        streams = Streams(terminal=True, environ=environ)
        streams.output.warn("slow")
        assert ("\x1b[" in streams.err.getvalue()) is colored
        assert "warning:" in streams.err.getvalue()
    piped = Streams(environ={})
    piped.output.warn("slow")
    assert "\x1b" not in piped.err.getvalue()


def test_an_ascii_stream_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    output = Output(stdout=stream, stderr=stream, environ={})
    output.text("0.81 ± 0.02 \N{EN DASH} naïve 日")
    output.table("", ["x"], [["a → b"]])
    assert raw.getvalue() == b"0.81 +/- 0.02 - naive ?\nx\na -> b\n"
    assert encodable("naïve ±", "utf-8") == "naïve ±"


def test_secrets_appear_on_no_stream_and_json_stays_valid() -> None:
    secret = "hf_AbCdEfGhIjKl"
    streams = Streams(json=True, environ={"HF_TOKEN": secret})
    streams.output.result({"url": f"https://{secret}@hub", secret: [secret]})
    streams.output.warn(f"refused {secret}")
    assert run_command(_raiser(RemoteError(f"bad {secret}", hint=secret)), output=streams.output)
    assert run_command(_raiser(RuntimeError(secret)), output=streams.output) == 70
    assert secret not in streams.out.getvalue() + streams.err.getvalue()
    assert json.loads(streams.out.getvalue())["url"] == "https://[HF_TOKEN redacted]@hub"


def _raiser(error: BaseException) -> Callable[[], object]:
    def function() -> object:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AquachatError("x"), 1),
        (DataError("x"), 1),
        (ConfigError("x"), 2),
        (PreflightError("x"), 3),
        (RemoteError("x"), 4),
        (TryLaterError("x"), 75),
        (Interrupted("x", exit_code=143), 143),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ZeroDivisionError("x"), 70),
        (SystemExit(3), 3),
        (SystemExit(), 0),
        (SystemExit("words"), 1),
    ],
)
def test_each_failure_has_its_exit_code(error: BaseException, code: int) -> None:
    streams = Streams(json=True)
    assert run_command(_raiser(error), output=streams.output) == code == exit_code_of(error)
    assert streams.out.getvalue() == ""


def test_a_known_failure_is_a_sentence_and_a_hint() -> None:
    streams = Streams(quiet=True)
    error = DataError("no rows in `train.jsonl`", hint="run `aquachat prepare aqua`")
    run_command(_raiser(error), output=streams.output)
    assert streams.err.getvalue() == (
        "error: no rows in `train.jsonl`\nhint: run `aquachat prepare aqua`\n"
    )


def test_debug_shows_the_traceback_of_a_known_failure() -> None:
    streams = Streams(environ={"AQUACHAT_DEBUG": "1"})
    run_command(_raiser(DataError("no rows")), output=streams.output)
    assert streams.err.getvalue().startswith("Traceback")
    assert streams.err.getvalue().endswith("error: no rows\n")


def test_a_bug_shows_its_traceback_and_asks_for_a_report() -> None:
    streams = Streams()
    run_command(_raiser(ZeroDivisionError("division by zero")), output=streams.output)
    text = streams.err.getvalue()
    assert "Traceback" in text
    assert "this is a bug in aquachat: ZeroDivisionError: division by zero" in text
    assert "please report it" in text


def test_success_is_zero() -> None:
    assert run_command(lambda: 5, output=Streams().output) == 0


@pytest.mark.parametrize(
    ("answer", "meant"),
    [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)],
)
def test_only_yes_means_yes(answer: str, meant: bool) -> None:
    streams = Streams(terminal=True, answer=answer)
    assert streams.output.confirm("terminate the machine?") is meant
    assert streams.err.getvalue() == "terminate the machine? [y/N] "
    assert streams.out.getvalue() == ""


def test_nobody_to_ask_is_an_error_unless_yes_was_given() -> None:
    with pytest.raises(ConfigError, match="delete 3 files") as caught:
        Streams().output.confirm("delete 3 files?")
    assert "--yes" in (caught.value.hint or "")
    assert Streams(assume_yes=True).output.confirm("delete 3 files?")


def test_progress_in_a_log_is_a_line_now_and_then() -> None:
    lines: list[str] = []
    now = [0.0]
    progress = PlainProgress("reading", 1000, write=lines.append, clock=lambda: now[0])
    with progress:
        for _ in range(100):
            now[0] += 1
            progress.advance(10)
    assert lines == [
        "reading: 300 of 1,000 (30%), 30 s",
        "reading: 600 of 1,000 (60%), 60 s",
        "reading: 900 of 1,000 (90%), 90 s",
        "reading: 1,000 of 1,000 (100%), 100 s",
    ]


def test_failed_progress_claims_nothing() -> None:
    lines: list[str] = []
    with pytest.raises(KeyError), PlainProgress("reading", 2, write=lines.append):
        raise KeyError
    assert lines == []


def test_a_bar_on_a_terminal_writes_to_stderr_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    output = Output(environ={"TERM": "xterm", "NO_COLOR": "1"})
    with output.progress("reading [1/2]", total=4) as progress:
        progress.advance(2)
        output.note("halfway")
        progress.update(completed=4, description="read")
    assert "4/4" in stream.getvalue()
    assert "halfway" in stream.getvalue()
    assert capsys.readouterr().out == ""


def test_a_reader_that_leaves_early_is_no_failure_with_a_traceback() -> None:
    code = (
        "import sys; from aquachat.cli.output import Output, run_command\n"
        "output = Output()\n"
        "def work():\n"
        "    for i in range(100000): output.text('line')\n"
        "sys.exit(run_command(work, output=output))"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")


def test_the_sink_is_light() -> None:
    code = (
        "import sys, aquachat.cli.output, aquachat.log; "
        "heavy = {'rich', 'torch', 'numpy', 'wandb', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
