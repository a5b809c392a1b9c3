"""What is counted as the rows of a split go by."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from aquachat.data.catalogue import PreparedRow
from aquachat.data.hygiene.report import (
    MAX_EXAMPLES,
    Contradictions,
    GoldLength,
    LetterBalance,
    Repeats,
)
from aquachat.data.hygiene.statistics import (
    Lengths,
    binomial_p_value,
    goodness_of_fit,
    lengths_of,
)
from aquachat.data.hygiene.words import normalised_question, without_numbers
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.option_order import option_references
from aquachat.tasks.rationale import split_letter_statement

SHOWN_CHARS = 200
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?")
_RESULT = re.compile(r"=[^\d=.]{0,8}(\d+(?:\.\d+)?(?:/\d+)?)[^\d=]{0,20}\Z")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


class LengthTally:
    """Lengths in characters by what is measured."""

    def __init__(self) -> None:
        self._lengths: dict[str, list[int]] = defaultdict(list)

    def add(self, read: PreparedRow) -> None:
        """Measure a row."""
        item = read.item
        if item is not None:
            self._lengths["question"].append(len(item.question))
            self._lengths["option"] += map(len, item.options)
            if item.rationale:
                self._lengths["rationale"].append(len(item.rationale))
        elif read.question is not None:
            self._lengths["question"].append(len(read.question))
        if item is None:
            self.add_text(read.text)

    def add_text(self, text: str) -> None:
        """Measure a document, or all strings of a row."""
        self._lengths["text"].append(len(text))

    def lengths(self) -> dict[str, Lengths]:
        """Quantiles of each."""
        found = {name: lengths_of(values) for name, values in self._lengths.items()}
        return {name: lengths for name, lengths in found.items() if lengths is not None}


class ChoiceTally:
    """Gold letters, the length of the gold option, references, and what rationales say."""

    def __init__(self) -> None:
        self._letters = Counter[str]()
        self._num_options = Counter[int]()
        self._references = Counter[str]()
        self._chances: list[float] = []
        self._gold_is_longest = 0
        self._gold_characters: list[int] = []
        self._other_characters: list[int] = []
        self._stating = self._naming_other = self._reaching_other = 0
        self._examples: list[dict[str, Any]] = []

    def add(self, item: ChoiceItem, row: int) -> None:
        """Count an item; `row` is its line."""
        self._letters[item.answer_letter] += 1
        self._num_options[len(item.options)] += 1
        self._references[str(option_references(item))] += 1
        self._add_lengths(item)
        rationale, stated = split_letter_statement(item.rationale, item.letters)
        self._stating += stated is not None
        names_other = stated not in (None, item.answer_letter)
        reaches_other = reaches_other_option(item, rationale)
        self._naming_other += names_other
        self._reaching_other += reaches_other
        if (names_other or reaches_other) and len(self._examples) < MAX_EXAMPLES:
            ending = rationale[-SHOWN_CHARS:]
            self._examples.append(
                {"row": row, "gold": item.options[item.answer_index], "end": ending}
            )

    def _add_lengths(self, item: ChoiceItem) -> None:
        lengths = [len(option) for option in item.options]
        gold = lengths.pop(item.answer_index)
        self._gold_characters.append(gold)
        self._other_characters += lengths
        longest = max(gold, *lengths)
        if [gold, *lengths].count(longest) == 1:
            self._chances.append(1 / (len(lengths) + 1))
            self._gold_is_longest += gold == longest

    def letters(self) -> LetterBalance | None:
        """None without an item."""
        if not self._letters:
            return None
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: max(self._num_options)]
        expected = {
            letter: sum(rows / n for n, rows in self._num_options.items() if n > place)
            for place, letter in enumerate(letters)
        }
        observed = {letter: self._letters[letter] for letter in letters}
        return LetterBalance(observed, expected, goodness_of_fit(observed, expected))

    def gold_length(self) -> GoldLength | None:
        """None where no item has one longest option."""
        if not self._chances:
            return None
        expected = sum(self._chances)
        variance = sum(chance * (1 - chance) for chance in self._chances)
        return GoldLength(
            rows=len(self._chances),
            gold_is_longest=self._gold_is_longest,
            expected=expected,
            p_value=binomial_p_value(self._gold_is_longest, expected, variance),
            mean_gold_characters=sum(self._gold_characters) / len(self._gold_characters),
            mean_other_characters=sum(self._other_characters) / len(self._other_characters),
        )

    def references(self) -> dict[str, int]:
        """Rows by how their options refer to each other."""
        return dict(sorted(self._references.items()))

    def contradictions(self) -> Contradictions | None:
        """None without an item."""
        if not self._letters:
            return None
        return Contradictions(
            self._stating, self._naming_other, self._reaching_other, tuple(self._examples)
        )


def reaches_other_option(item: ChoiceItem, rationale: str) -> bool:
    """Whether a rationale comes out at another option's number and never has the gold one's.

    Only asked of items whose options hold one number each, all different, and of rationales that
    end in `= NUMBER`. It errs towards no: one that has the gold number on its way is not counted.
    """
    numbers = [_numbers_in(option) for option in item.options]
    values = [found[0] for found in numbers if len(found) == 1]
    if len(values) < len(item.options) or len(set(values)) < len(values):
        return False
    result = _RESULT.search(_THOUSANDS.sub("", rationale.rstrip()))
    if result is None or values[item.answer_index] in _numbers_in(rationale):
        return False
    return result[1] in values


def _numbers_in(text: str) -> list[str]:
    return _NUMBER.findall(_THOUSANDS.sub("", text))


class RepeatTally:
    """Questions of a split, to be compared with each other; rows without one by their text."""

    def __init__(self) -> None:
        self.questions: dict[str, int] = {}
        """Normalised question (or a hash of a text that asks none), and the first row with it."""
        self._rows = Counter[str]()
        self._with_options = Counter[bytes]()
        self._shown: dict[str, str] = {}

    def add(self, read: PreparedRow, row: int) -> None:
        """Remember a row; `row` is its line."""
        if read.question is None:
            return self.add_text(read.text, row)
        normalised = normalised_question(read.question)
        options = [] if read.item is None else sorted(map(normalised_question, read.item.options))
        self._with_options[_digest("\n".join([normalised, *options]))] += 1
        self._rows[normalised] += 1
        if self.questions.setdefault(normalised, row) == row:
            self._shown[normalised] = read.question[:SHOWN_CHARS]
        return None

    def add_text(self, text: str, row: int) -> None:
        """Remember a document, or a row that asks no single question, by its hash."""
        digest = _digest(normalised_question(text))
        self._with_options[digest] += 1
        self._rows[f"#{digest.hex()}"] += 1
        self.questions.setdefault(f"#{digest.hex()}", row)

    def rows_asking(self, question: str) -> int:
        """How many rows have this normalised question."""
        return self._rows[question]

    def shown(self, question: str) -> str:
        """The question as its first row words it; of a text only that it is one."""
        return self._shown.get(question, "(the same text)")

    def repeats(self, near: Sequence[tuple[str, str, float]]) -> Repeats:
        """All repeats of the split.

        Args:
            near: pairs of normalised questions of it that are near duplicates, with their
                similarity.
        """
        nearly = {question for one, other, _ in near for question in (one, other)}
        asked = [question for question in self.questions if not question.startswith("#")]
        templates = Counter(without_numbers(question) for question in asked)
        closest = sorted(near, key=lambda pair: (-pair[2], self.questions[pair[0]]))
        return Repeats(
            same_question=self._rows.total() - len(self._rows),
            same_question_and_options=self._with_options.total() - len(self._with_options),
            near_question=sum(self._rows[question] for question in nearly),
            same_template=sum(self._rows[q] for q in asked if templates[without_numbers(q)] > 1),
            examples=tuple(
                {
                    "rows": [self.questions[one], self.questions[other]],
                    "jaccard": round(similarity, 3),
                    "texts": [self.shown(one), self.shown(other)],
                }
                for one, other, similarity in closest[:MAX_EXAMPLES]
            ),
        )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
