"""The conversation of `aquachat chat` in a terminal: what is typed, what is answered, commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aquachat.errors import AquachatError, ConfigError

if TYPE_CHECKING:
    from aquachat.pipeline.problems import Problems
    from aquachat.pipeline.talk import Talker

BANNER = """chat with {checkpoint} of run {run}
/aqua or /problem draws a question and grades the reply, /help names all commands, Ctrl-D leaves"""
HELP = """/aqua [NUMBER]      a question of AQuA-RAT's validation split, graded; any without NUMBER
/problem [NUMBER]   a synthetic question, graded; the next one without NUMBER
/retry              ask the last question again
/reset              forget the conversation
/set                show the settings
/set NAME VALUE     change one, for example /set temperature 0.2
/save [FILE]        write the conversation as JSON
/quit               leave, as does Ctrl-D
A line that ends with \\ goes on in the next one; \"\"\" on a line of its own begins and ends a text
of several lines. Ctrl-C stops a reply."""
FENCE = '"""'
AQUA_SOURCE, SYNTHETIC_SOURCE = "aqua/validation", "synthetic/new_numbers"
_ON_OFF = {"on": True, "true": True, "off": False, "false": False}
SETTINGS: dict[str, Callable[[str], Any]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "max_new_tokens": int,
    "seed": int,
    "tools": lambda text: _ON_OFF[text],
}
"""What `/set` changes, fields of `SamplingParams`, and how a value is read."""


class _Leave(Exception):
    """The person wants to go."""


@dataclass(slots=True)
class ChatSession:
    """Reads lines until the end of input; Ctrl-C ends a reply, not the conversation."""

    talker: Talker
    problems: Problems
    run: str
    read: Callable[[str], str]
    """Shows a prompt and gives a line, as `input` does; EOFError at the end."""
    write: Callable[[str], None]
    say_error: Callable[[AquachatError], None]
    last_question: str = ""
    _is_answered: bool = False
    """Whether the last question and its reply are in the history."""
    num_graded: int = 0
    num_right: int = 0
    _next_problem: int = 0
    _saved: set[Path] = field(default_factory=set)

    def converse(self) -> None:
        """Until `/quit` or the end of input."""
        while True:
            try:
                self._obey(self._read_question())
            except EOFError:
                self.write("\n")
                return
            except _Leave:
                return
            except KeyboardInterrupt:  # at the prompt it only forgets what was typed
                self.write("\n")
            except AquachatError as error:
                self.say_error(error)

    def _read_question(self) -> str:
        """One line, several whose ends are marked with a backslash, or a fenced text."""
        lines = [self.read("> ")]
        if lines[0].strip() == FENCE:
            fenced = []
            while (line := self.read("  ")).strip() != FENCE:
                fenced.append(line)
            return "\n".join(fenced).strip()
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1].rstrip()
            lines.append(self.read("  "))
        return "\n".join(lines).strip()

    def _obey(self, line: str) -> None:
        if not line.startswith("/"):
            if line:
                self._ask(line)
            return
        name, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self.write(f"{HELP}\n"),
            "/reset": lambda _: self._reset(),
            "/retry": lambda _: self._retry(),
            "/set": self._set,
            "/save": self._save,
            "/aqua": lambda text: self._problem(AQUA_SOURCE, _number(text)),
            "/problem": self._next_synthetic,
            "/quit": _leave,
            "/exit": _leave,
        }
        if name not in commands:
            raise ConfigError(f"there is no command `{name}`", hint="/help names them")
        commands[name](rest.strip())

    def _ask(self, question: str) -> bool:
        """Stream the reply; whether it was finished."""
        self.last_question, self._is_answered = question, False
        reply = self.talker.ask(question)
        try:
            for piece in reply:
                self.write(piece)
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # Ctrl-C came while a piece was being made
                reply.close()
            self.write(" [stopped, forgotten]\n")
            return False
        self.write("\n")
        self._is_answered = True
        return True

    def _reset(self) -> None:
        self.talker.reset()
        self._is_answered = False

    def _retry(self) -> None:
        if not self.last_question:
            raise ConfigError("there is no question yet", hint="type one")
        if self._is_answered:
            self.talker.forget_last()
        self._ask(self.last_question)

    def _next_synthetic(self, text: str) -> None:
        number = _number(text)
        if number is None:
            number, self._next_problem = self._next_problem, self._next_problem + 1
        self._problem(SYNTHETIC_SOURCE, number)

    def _problem(self, source: str, number: int | None) -> None:
        """Ask a drawn question in a conversation of its own, and grade the reply."""
        from aquachat.tasks.multiple_choice import grade_choice

        number, example = self.problems.draw(source, number)
        problem = example.conversation.messages[0].text
        self.talker.reset()
        self.write(f"{source} {number}\n{problem}\n\n")
        if not self._ask(problem):
            return
        grade = grade_choice(example, self.talker.last_reply()["text"])
        self.num_graded += 1
        self.num_right += grade.correct
        said = "no answer" if grade.answer is None else f"{grade.answer} is wrong"
        verdict = "right" if grade.correct else f"{said}, {example.answer} is right"
        self.write(f"({verdict}; {self.num_right} of {self.num_graded} right)\n")

    def _set(self, text: str) -> None:
        name, _, value = text.replace("=", " ").partition(" ")
        name = name.replace("-", "_")
        if not name:
            self.write("".join(f"{line}\n" for line in self._settings()))
            return
        if name not in SETTINGS:
            raise ConfigError(
                f"there is no setting `{name}`", hint=f"there are {', '.join(SETTINGS)}"
            )
        try:
            converted = SETTINGS[name](value.strip())
        except (ValueError, KeyError) as error:
            raise ConfigError(
                f"`{value.strip()}` is no value of {name}", hint="for example /set temperature 0.2"
            ) from error
        self.talker.params = replace(self.talker.params, **{name: converted})
        self.write(f"{name} is {_shown(converted)}\n")

    def _settings(self) -> Iterator[str]:
        for name in SETTINGS:
            yield f"{name:<15} {_shown(getattr(self.talker.params, name))}"

    def _save(self, text: str) -> None:
        from aquachat.files import write_json
        from aquachat.text.conversation import Conversation, conversation_to_json

        path = Path(text or f"chat-{time.strftime('%Y%m%d-%H%M%S')}.json").expanduser()
        if path.exists() and path.resolve() not in self._saved:
            raise ConfigError(f"`{path}` exists already", hint="name another file: /save FILE")
        params = {name: getattr(self.talker.params, name) for name in SETTINGS}
        document = {
            "run": self.run,
            "checkpoint": self.talker.checkpoint,
            "settings": params,
            "messages": conversation_to_json(Conversation(tuple(self.talker.history))),
        }
        write_json(path, document)
        self._saved.add(path.resolve())
        self.write(f"saved to {path}\n")


def _leave(_: str) -> None:
    raise _Leave


def _shown(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ConfigError(f"`{text}` is no number of a question", hint="for example /problem 12")
    return int(text)
