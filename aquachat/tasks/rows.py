"""Rows in AQuA's form as items: DeepMind's, the predecessor's, and both in one as `prepare` writes.

    {"question": "...", "options": ["A)4", "B)5", ...], "rationale": "...", "correct": "B",
     "messages": [...], "letters": ["A", ...], "answer_letter": "B"}

The last three are the predecessor's. A row that has only those is read too: the question and the
options are recovered from its prompt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from aquachat.errors import DataError
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.multiple_choice import INSTRUCTION, question_text
from aquachat.tasks.rationale import split_letter_statement
from aquachat.tasks.row_files import RejectedRow, Row, RowReason, read_rows, rejected
from aquachat.text.answer import answer_line
from aquachat.text.conversation import Role, conversation_from_json

__all__ = [
    "ChoiceRow",
    "RejectedRow",
    "Row",
    "RowReason",
    "choice_row",
    "has_equal_options",
    "read_choice_row",
    "read_rows",
    "rejected",
    "some_letters_missing",
    "split_option_letters",
    "validate_choice_row",
]

MAX_ROW_CHARS = 8000
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BRACKET_PREFIX = re.compile(r"\s*\(?\s*([A-Za-z])\s*\)\s*")
_POINT_PREFIX = re.compile(r"\s*([A-Za-z])\s*[.:]\s+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PREDECESSOR_PROMPT = re.compile(
    r"Multiple Choice question: (?P<question>.*?)\n(?P<options>- .*=[A-Z])\n\n"
    r"Respond only with the letter of the correct answer\.\s*\Z",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """What a row holds: an item, unless a reason forbids it, and everything wrong with the row."""

    item: ChoiceItem | None
    reasons: tuple[RowReason, ...] = ()


def validate_choice_row(
    row: object, item_id: str = "", *, max_chars: int = MAX_ROW_CHARS
) -> ChoiceItem | RowReason:
    """The item of a row that is fit for training, else the first thing wrong with it."""
    read = read_choice_row(row, item_id, max_chars=max_chars)
    if read.reasons or read.item is None:
        return read.reasons[0]
    return read.item


def read_choice_row(row: object, item_id: str = "", *, max_chars: int = MAX_ROW_CHARS) -> ChoiceRow:
    """The item of a row and what is wrong with it.

    An evaluation row is asked whatever its flaws, as long as it has a question, options and a gold
    letter among them.
    """
    if not isinstance(row, Mapping):
        return ChoiceRow(None, (RowReason.NOT_AN_OBJECT,))
    fields = _fields(row)
    question, options = fields.get("question"), fields.get("options")
    if not isinstance(question, str) or not question.strip():
        return ChoiceRow(None, (RowReason.MISSING_QUESTION,))
    if not _is_option_list(options):
        return ChoiceRow(None, (RowReason.MISSING_OPTIONS,))
    texts = split_option_letters(options)
    if texts is None:
        return ChoiceRow(None, (RowReason.REPEATED_LETTERS,))
    gold = fields.get("correct", fields.get("answer_letter"))
    answer_index = _letter_index(gold, len(texts))
    if answer_index is None:
        return ChoiceRow(None, (RowReason.GOLD_NOT_IN_OPTIONS,))
    rationale = fields.get("rationale")
    item = ChoiceItem(
        id=item_id,
        question=question.strip(),
        options=texts,
        answer_index=answer_index,
        rationale=rationale.strip() if isinstance(rationale, str) else "",
        attributes={key: row[key] for key in ("category",) if isinstance(row.get(key), str)},
    )
    flaws = _flaws(item, max_chars)
    if some_letters_missing(options):
        flaws = (RowReason.MISSING_LETTERS, *flaws)
    return ChoiceRow(item, flaws)


def choice_row(item: ChoiceItem) -> dict[str, Any]:
    """The row of an item on disk: DeepMind's four fields and the predecessor's three.

    The text of `messages` is this project's prompt, since the predecessor's contradicts itself.
    """
    letters = list(item.letters)
    rationale, _ = split_letter_statement(item.rationale, item.letters)
    parts = [f"{rationale}\n"] if rationale else []
    parts.append(answer_line(item.answer_letter))
    reply = [{"type": "text", "text": part} for part in parts]
    return {
        "question": item.question,
        "options": [f"{x})" + text for x, text in zip(letters, item.options, strict=True)],
        "rationale": item.rationale,
        "correct": item.answer_letter,
        "messages": [
            {"role": "user", "content": question_text(item)},
            {"role": "assistant", "content": reply},
        ],
        "letters": letters,
        "answer_letter": item.answer_letter,
    }


def has_equal_options(options: Sequence[str]) -> bool:
    """Whether two options, without their letters, say the same.

    Spacing, the final full stop, commas between thousands and the width of characters say nothing;
    case does (`TT` and `Tt` are two genotypes), and so do signs.

    Example:
        has_equal_options(["1/2", " 1/2 ", "2"])   # True
    """
    return len({_said_by(option) for option in options}) < len(options)


def some_letters_missing(options: Sequence[str]) -> bool:
    """Whether some options begin with the letter of their place and others with none or another.

    Options may stand in another order of letters, or all without.

    Example:
        some_letters_missing(["A)4", "B)5", "6"])   # True
    """
    expected = _ALPHABET[: len(options)]
    found = [_own_letter(text) for text in options]
    if all(found) and set(found) <= set(expected):
        return False
    return any(letter == own for letter, own in zip(found, expected, strict=True))


def split_option_letters(options: Sequence[str]) -> tuple[str, ...] | None:
    """The options without their letters, in the order of the letters; None where letters repeat.

    Example:
        split_option_letters(["A)150 m", "(B) f(x)", "C. 5"])   # ("150 m", "f(x)", "5")
        split_option_letters(["A)1", "A)2", "C)3"])             # None
    """
    expected = _ALPHABET[: len(options)]
    matches = [_letter_prefix(text) for text in options]
    found = [_own_letter(text) for text in options]
    if all(found) and set(found) <= set(expected):
        if len(set(found)) < len(found):
            return None
        pairs = sorted(zip(found, options, matches, strict=True), key=lambda pair: pair[0])
        stripped = [text[match.end() :] if match else text for _, text, match in pairs]
    else:
        stripped = [
            text[match.end() :] if match and letter == own else text
            for text, match, letter, own in zip(options, matches, found, expected, strict=True)
        ]
    return tuple(
        _without_own_letter(" ".join(text.split()), own)
        for text, own in zip(stripped, expected, strict=True)
    )


def _letter_prefix(option: str) -> re.Match[str] | None:
    return _BRACKET_PREFIX.match(option) or _POINT_PREFIX.match(option)


def _own_letter(option: str) -> str:
    match = _letter_prefix(option)
    return match[1].upper() if match else ""


def _said_by(option: str) -> str:
    text = "".join(unicodedata.normalize("NFKC", option).split())
    return _THOUSANDS.sub("", text).removesuffix(".")


def _without_own_letter(option: str, own: str) -> str:
    # Some sources number options twice: `A)a) 899.015`.
    while (match := _BRACKET_PREFIX.match(option)) and match[1].upper() == own:
        option = option[match.end() :]
    return option


def _is_option_list(options: object) -> TypeGuard[Sequence[str]]:
    return (
        isinstance(options, list | tuple)
        and 2 <= len(options) <= len(_ALPHABET)
        and all(isinstance(option, str) for option in options)
    )


def _letter_index(gold: object, num_options: int) -> int | None:
    letter = gold.strip().upper() if isinstance(gold, str) else ""
    index = _ALPHABET.find(letter) if len(letter) == 1 else -1
    return index if 0 <= index < num_options else None


def _flaws(item: ChoiceItem, max_chars: int) -> tuple[RowReason, ...]:
    reasons = []
    if not all(item.options):
        reasons.append(RowReason.EMPTY_OPTION)
    if has_equal_options(item.options):
        reasons.append(RowReason.EQUAL_OPTIONS)
    rationale, stated = split_letter_statement(item.rationale, item.letters)
    if not rationale:
        reasons.append(RowReason.EMPTY_RATIONALE)
    if stated not in (None, item.answer_letter):
        reasons.append(RowReason.RATIONALE_NAMES_OTHER_LETTER)
    if len(item.question) + sum(map(len, item.options)) + len(item.rationale) > max_chars:
        reasons.append(RowReason.TOO_LONG)
    return tuple(reasons)


def _fields(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row's own fields, or those recovered from the predecessor's `messages`."""
    if "question" in row or "messages" not in row:
        return row
    try:
        conversation = conversation_from_json(row["messages"])
    except (DataError, TypeError):
        return row
    user = next(m for m in conversation.messages if m.role is Role.USER).text
    recovered = _from_predecessor_prompt(user) or _from_own_prompt(user, row.get("letters"))
    if recovered is None:
        return row
    question, options = recovered
    last = conversation.messages[-1]
    texts = [part.text for part in last.parts] if last.role is Role.ASSISTANT else []
    gold = row.get("answer_letter")
    if texts and texts[-1].strip() == answer_line(str(gold)):
        texts.pop()
    return {**row, "question": question, "options": options, "rationale": "".join(texts)}


def _from_predecessor_prompt(prompt: str) -> tuple[str, list[str]] | None:
    match = _PREDECESSOR_PROMPT.search(prompt)
    if match is None:
        return None
    lines = re.split(r"(?<==[A-Z])\n- ", match["options"].removeprefix("- "))
    return match["question"], [f"{line[-1]}){line[:-2]}" for line in lines]


def _from_own_prompt(prompt: str, letters: object) -> tuple[str, list[str]] | None:
    lines = prompt.removesuffix(f"\n{INSTRUCTION}").split("\n")
    if not isinstance(letters, list) or not 0 < len(letters) < len(lines):
        return None
    options = lines[-len(letters) :]
    for option, letter in zip(options, letters, strict=True):
        if not option.endswith(f" {letter}"):
            return None
    return "\n".join(lines[: -len(letters)]), [f"{line[-1]}){line[:-2]}" for line in options]
