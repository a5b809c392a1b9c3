"""Sample answers: what the model was asked, what it wrote, calculator calls told apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aquachat.text.conversation import PartKind

_MARKED = re.compile(
    r"<\|python_start\|>(?P<call>.*?)(?:<\|python_end\|>|$)"
    r"|<\|output_start\|>(?P<output>.*?)(?:<\|output_end\|>|$)"
    r"|<<(?P<expression>[^<>=]*)=(?P<value>[^<>]*)>>",
    re.DOTALL,
)
_SPECIAL = re.compile(r"<\|(?:bos|(?:user|assistant)_(?:start|end))\|>")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a reply: words, a calculator call, or what the calculator answered."""

    kind: Literal["text", "python", "python_output"]
    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One reply to a question, as it was graded."""

    model: str
    """The checkpoint, for example `rl@30`."""
    stretches: tuple[Stretch, ...]
    letter: str | None
    is_correct: bool | None


@dataclass(frozen=True, slots=True)
class SampleQuestion:
    """One question and the replies of one or more checkpoints to it."""

    id: str
    question: str
    options: tuple[str, ...]
    gold: str | None
    answers: tuple[ModelAnswer, ...]


def stretches_of(reply: object) -> tuple[Stretch, ...]:
    """The pieces of a reply: a string with marks of calls in it, or a list of message parts.

    Example:
        stretches_of("so <|python_start|>60*3<|python_end|><|output_start|>180<|output_end|>")
        -> (text "so ", python "60*3", python_output "180")
    """
    if isinstance(reply, Sequence) and not isinstance(reply, str):
        found = [
            Stretch(_kind(part.get("type")), str(part.get("text", "")))
            for part in reply
            if isinstance(part, Mapping)
        ]
        return tuple(stretch for stretch in found if stretch.text)
    text = _SPECIAL.sub("", str(reply or ""))
    pieces: list[Stretch] = []
    end = 0
    for match in _MARKED.finditer(text):
        pieces.append(Stretch("text", text[end : match.start()]))
        if match["call"] is not None:
            pieces.append(Stretch("python", match["call"]))
        elif match["output"] is not None:
            pieces.append(Stretch("python_output", match["output"]))
        else:
            pieces.append(Stretch("python", match["expression"]))
            pieces.append(Stretch("python_output", match["value"]))
        end = match.end()
    pieces.append(Stretch("text", text[end:]))
    return tuple(piece for piece in pieces if piece.text)


def collect_samples(
    rows_by_model: Mapping[str, Iterable[Mapping[str, Any]]], count: int = 3
) -> list[SampleQuestion]:
    """The first `count` questions, not picked, with each model's reply to them.

    Args:
        rows_by_model: checkpoint -> graded rows: `id`, `question` (or `prompt`), `options`,
            `reply` (or `parts`, `text`), `answer` (the letter read), `gold`, `correct`. Rows of
            other option orders and further samples (`order`, `sample` above 0) are left out.
        count: how many questions.
    """
    tables = {
        model: {_id(row): row for row in reversed(list(rows)) if _is_first(row)}
        for model, rows in rows_by_model.items()
    }
    if not tables:
        return []
    last = tables[list(tables)[-1]]
    samples = []
    for key in list(reversed(last))[:count]:
        replies = [(model, rows[key]) for model, rows in tables.items() if key in rows]
        row = last[key]
        options = row.get("options") or row.get("choices") or ()
        samples.append(
            SampleQuestion(
                id=key,
                question=str(row.get("question") or row.get("prompt") or ""),
                options=tuple(str(o) for o in options) if isinstance(options, list) else (),
                gold=_text(row, "gold", "answer_letter"),
                answers=tuple(_answer(model, reply) for model, reply in replies),
            )
        )
    return samples


def _answer(model: str, row: Mapping[str, Any]) -> ModelAnswer:
    reply = row.get("parts") or row.get("reply") or row.get("text") or row.get("completion")
    letter = _text(row, "answer", "letter", "predicted")
    gold = _text(row, "gold", "answer_letter")
    correct = row.get("correct")
    if not isinstance(correct, bool):
        correct = None if gold is None else letter == gold
    return ModelAnswer(model, stretches_of(reply), letter, correct)


def _kind(name: object) -> Literal["text", "python", "python_output"]:
    if name == PartKind.PYTHON:
        return "python"
    return "python_output" if name == PartKind.PYTHON_OUTPUT else "text"


def _id(row: Mapping[str, Any]) -> str:
    return str(row.get("id") or row.get("question") or row.get("prompt") or "")


def _is_first(row: Mapping[str, Any]) -> bool:
    return not row.get("order") and not row.get("sample")


def _text(row: Mapping[str, Any], *names: str) -> str | None:
    value = next((row[name] for name in names if row.get(name) is not None), None)
    return None if value is None else str(value)
