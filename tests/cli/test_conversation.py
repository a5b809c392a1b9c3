"""`aquachat chat` in a terminal: lines in, replies and commands out."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from aquachat.cli.conversation import ChatSession
from aquachat.errors import AquachatError
from aquachat.infer.types import SamplingParams
from aquachat.pipeline.problems import Problems
from aquachat.pipeline.talk import Talker
from aquachat.tasks.multiple_choice import question_text
from aquachat.tasks.rows import choice_row
from aquachat.tasks.synthetic import generate_items
from aquachat.text.conversation import Role
from tests.cli.programs import KEPT_VARIABLES, Cli
from tests.infer.models import TOKENIZER
from tests.serve.servers import RENDERER, endless_engine, made_engine, scripted_engine


class Terminal:
    """A session whose lines are given and whose output is kept."""

    def __init__(self, folder: Path, engine: Any, *lines: str, **params: Any) -> None:
        self.lines: Iterator[str] = iter(lines)
        self.written = ""
        self.errors: list[AquachatError] = []
        self.settings = SamplingParams(**{"temperature": 0.0, "max_new_tokens": 12, **params})
        self.talker = Talker(engine, RENDERER, TOKENIZER, self.settings, "sft@1")
        self.session = ChatSession(
            talker=self.talker,
            problems=Problems(folder, folder / "aqua"),
            run="made",
            read=self._read,
            write=self._write,
            say_error=self.errors.append,
        )
        self.session.converse()

    def _read(self, prompt: str) -> str:
        try:
            line = next(self.lines)
        except StopIteration:
            raise EOFError from None
        if line == "^C":
            raise KeyboardInterrupt
        return line

    def _write(self, text: str) -> None:
        self.written += text

    @property
    def said(self) -> list[str]:
        return [message.text for message in self.talker.history if message.role is Role.USER]


def test_a_conversation_has_a_history_until_it_is_reset(tmp_path: Path) -> None:
    assert Terminal(tmp_path, made_engine(), "one", "", "two").said == ["one", "two"]
    assert Terminal(tmp_path, made_engine(), "one", "/reset", "two").said == ["two"]
    assert Terminal(tmp_path, made_engine(), "one", "/quit", "two").said == ["one"]


def test_a_question_may_have_several_lines(tmp_path: Path) -> None:
    lines = ("a \\", "b\\", "c", '"""', "d", "", "  e", '"""')
    assert Terminal(tmp_path, made_engine(), *lines).said == ["a\nb\nc", "d\n\n  e"]


def test_calculator_calls_are_shown(tmp_path: Path) -> None:
    script = "Is <|python_start|>6*7<|python_end|>....42<|assistant_end|>"
    shown = Terminal(tmp_path, scripted_engine("q", script), "q", max_new_tokens=50).written
    assert shown == "Is [6*7 = 42] 42\n\n"
    open_call = "Is <|python_start|>6*<|python_end|>!<|assistant_end|>"
    shown = Terminal(tmp_path, scripted_engine("q", open_call), "q", max_new_tokens=50).written
    assert shown == "Is [6*] !\n\n"


def test_settings_are_changed_and_checked(tmp_path: Path) -> None:
    terminal = Terminal(
        tmp_path, made_engine(), "/set temperature 0.2", "/set tools off", "/set top-k=5", "/set"
    )
    params = terminal.talker.params
    assert (params.temperature, params.tools, params.top_k) == (0.2, False, 5)
    assert "temperature     0.2\n" in terminal.written
    assert not terminal.errors
    wrong = ("/set temperature -1", "/set temperature x", "/set colour 3", "/set tools", "/dance")
    terminal = Terminal(tmp_path, made_engine(), *wrong, "/set temperature nan", "still here")
    assert len(terminal.errors) == 6
    assert terminal.talker.params == terminal.settings
    assert terminal.said == ["still here"]


def test_a_retry_replaces_the_last_reply(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, made_engine(), "one", "two", "/retry")
    assert terminal.said == ["one", "two"]
    assert len(terminal.talker.history) == 4
    assert Terminal(tmp_path, made_engine(), "/retry").errors


def test_a_conversation_is_saved_and_no_file_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    terminal = Terminal(tmp_path, made_engine(), "one", f"/save {file}", "two", f"/save {file}")
    assert not terminal.errors
    document = json.loads(file.read_text())
    assert [message["role"] for message in document["messages"]] == ["user", "assistant"] * 2
    assert document["settings"]["temperature"] == 0.0
    file.write_text("precious")
    assert "exists already" in Terminal(tmp_path, made_engine(), f"/save {file}").errors[0].message
    assert file.read_text() == "precious"


def test_a_problem_is_drawn_and_graded(tmp_path: Path) -> None:
    (item,) = generate_items("new_numbers", 2, 1)
    right = f"So.\nAnswer: {item.answer_letter}<|assistant_end|>"
    engine = scripted_engine(question_text(item), right)
    terminal = Terminal(tmp_path, engine, "before", "/problem 0", max_new_tokens=60)
    assert terminal.written.endswith("(right; 1 of 1 right)\n\n")
    assert terminal.said == [question_text(item)]
    terminal = Terminal(tmp_path, endless_engine(), "/problem", "/problem 7", "/problem x")
    assert terminal.written.count("no answer, ") == 2
    assert "0 of 2 right" in terminal.written
    assert "synthetic/new_numbers 7\n" in terminal.written
    assert len(terminal.errors) == 1


def test_aqua_is_drawn_where_it_is_prepared(tmp_path: Path) -> None:
    (error,) = Terminal(tmp_path, made_engine(), "/aqua").errors
    assert error.hint == "run `aquachat prepare aqua`"
    (tmp_path / "aqua").mkdir()
    (item,) = generate_items("train", 0, 1)
    (tmp_path / "aqua" / "validation.jsonl").write_text(json.dumps(choice_row(item)) + "\n")
    terminal = Terminal(tmp_path, made_engine(), "/aqua", "/aqua 1")
    assert terminal.written.startswith(f"aqua/validation 0\n{item.question}")
    assert "has no problem 1" in terminal.errors[0].message


def test_a_conversation_that_fills_the_context_goes_on_after_a_reset(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, made_engine(max_seq_len=64), "one", "x" * 80, "/reset", "two")
    assert "leaves no room" in terminal.errors[0].message
    assert terminal.said == ["two"]


def test_ctrl_c_stops_a_reply_and_forgets_it(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, made_engine(), "one", "^C")
    talker, history = terminal.talker, len(terminal.talker.history)

    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    written: list[str] = []
    session = terminal.session
    session.write = lambda text: written.append(text) if "stopped" in text else interrupted(text)
    assert cast(Any, session)._ask("two") is False
    assert written == [" [stopped, forgotten]\n"]
    assert len(talker.history) == history
    assert terminal.said == ["one"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_the_program_talks_on_a_terminal(trained: Cli) -> None:
    main, terminal = pty.openpty()
    environ = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environ |= {
        "AQUACHAT_HOME": str(trained.home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "TERM": "dumb",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "aquachat", "chat", "--run", "whole", "--max-new-tokens", "5"],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environ, cwd=trained.folder,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    shown, seen = b"", 0

    def wait_for(text: bytes) -> None:
        """Wait until it is shown, after what was waited for before."""
        nonlocal shown, seen
        deadline = time.monotonic() + 60
        while text not in shown[seen:]:
            assert time.monotonic() < deadline, shown
            if select.select([main], [], [], 0.5)[0]:
                shown += os.read(main, 4096)
        seen = shown.index(text, seen) + len(text)

    try:
        wait_for(b"> ")
        os.write(main, b"/set temperature 0.2\n")
        wait_for(b"temperature is 0.2")
        os.write(main, b"/problem\n")
        wait_for(b"1 right)")
        wait_for(b"> ")
        os.write(main, b"/quit\n")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert b"chat with rl@" in shown
    assert b"Traceback" not in shown
