from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat import log

SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKl",
    "WANDB_API_KEY": "0123456789abcdef",
    "LAMBDA_API_KEY": "secret_lambda_value",
    "HYPERBOLIC_API_KEY": "sk_live_hyperbolic",
    "MY_DB_PASSWORD": "correct horse battery",
    "client_secret": "lowercase-names-too",
}


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    log.reset()


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_no_secret_reaches_a_log_line(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log.configure(environ=SECRETS, log_file=tmp_path / "training.log")
    value = SECRETS[name]
    logging.getLogger("aquachat.cloud").info("sent %s to the machine", value)
    logging.getLogger("some.library").warning("url https://u:%s@host/", value)
    try:
        raise ValueError(f"bad header {value}")
    except ValueError:
        logging.getLogger("aquachat.hub").exception("upload failed")
    for text in (capsys.readouterr().err, (tmp_path / "training.log").read_text()):
        assert value not in text
        assert text.count(f"[{name} redacted]") == 3
        assert "Traceback" in text


def test_a_secret_set_after_start_up_is_hidden_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.configure()
    monkeypatch.setenv("LATE_API_KEY", "from-the-env-file")
    logging.getLogger("aquachat").warning("key=from-the-env-file")
    heard = capsys.readouterr().err
    assert "from-the-env-file" not in heard
    assert "key=[LATE_API_KEY redacted]" in heard


def test_a_secret_that_holds_another_is_hidden_whole() -> None:
    environ = {"A_KEY": "abcdefgh", "B_KEY": "abcdefgh-and-more"}
    assert log.redact("x abcdefgh-and-more y abcdefgh", environ) == (
        "x [B_KEY redacted] y [A_KEY redacted]"
    )


def test_short_values_and_plain_variables_are_left_alone() -> None:
    environ = {"USE_TOKEN": "true", "HOME": "/home/someone", "KEYBOARD": "qwertyuiop"}
    text = "true /home/someone qwertyuiop"
    assert log.redact(text, environ) == text


def test_a_pipe_gets_one_dated_line_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    logging.getLogger("aquachat.train").info("step 1/20 loss 3.2")
    logging.getLogger("aquachat.train").info("step 2/20 loss 3.1")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO step 1/20 loss 3.2",
        "INFO step 2/20 loss 3.1",
    ]


def test_a_terminal_gets_bare_lines_and_named_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure()
    logging.getLogger("aquachat").info("step 1")
    logging.getLogger("aquachat").warning("slow disk")
    assert stream.getvalue() == "step 1\nwarning: slow disk\n"


@pytest.mark.parametrize(
    ("quiet", "verbose", "heard"),
    [(False, False, "info warning"), (True, False, "warning"), (False, True, "debug info warning")],
)
def test_quiet_and_verbose_choose_what_is_heard(
    quiet: bool, verbose: bool, heard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(quiet=quiet, verbose=verbose)
    logger = logging.getLogger("aquachat.data")
    for level in ("debug", "info", "warning"):
        getattr(logger, level)(level)
    assert " ".join(line.split()[-1] for line in capsys.readouterr().err.splitlines()) == heard


def test_configuring_twice_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.configure()
    logging.getLogger("aquachat").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_stream_that_cannot_spell_or_is_closed_never_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure()
    logging.getLogger("aquachat").info("loss ≤ 3")
    assert b"loss ? 3" in raw.getvalue()
    stream.close()
    logging.getLogger("aquachat").info("nobody listens")


def test_nothing_is_set_up_at_import() -> None:
    code = (
        "import logging, aquachat.log; "
        "assert logging.getLogger().handlers == []; "
        "assert logging.getLogger('aquachat').level == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
