"""Training rows that teach an evaluation question: the same one, nearly the same, or its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from aquachat.data.hygiene.minhash import MinHashIndex
from aquachat.data.hygiene.ngrams import NgramIndex
from aquachat.data.hygiene.words import normalised_question

SAME_QUESTION: Final = "in_evaluation_split"
NEAR_QUESTION: Final = "near_evaluation_question"
SHARED_WORDS: Final = "shares_evaluation_words"
CONTAMINATION_REASONS: Final = (SAME_QUESTION, NEAR_QUESTION, SHARED_WORDS)


@dataclass(frozen=True, slots=True)
class EvaluationQuestion:
    """A question that models are judged by."""

    split: str
    """For example `aqua/validation`."""
    row: int
    """Its line in the split's file, or its place in the source, from 1."""
    normalised: str


@dataclass(frozen=True, slots=True)
class TrainingText:
    """What the guard sees of a training row."""

    question: str | None
    """None for rows that ask no single question: conversations, documents."""
    text: str
    """All that is learned from, the question included."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """Why a training row should not be learned from, and which question it would give away."""

    reason: str
    """One of `CONTAMINATION_REASONS`."""
    question: EvaluationQuestion
    jaccard: float | None = None
    """Of a near duplicate."""
    words: str | None = None
    """The first stretch that is shared word for word."""

    def to_json(self) -> dict[str, Any]:
        """As `rejected.jsonl` and the report hold it."""
        found: dict[str, Any] = {"split": self.question.split, "row": self.question.row}
        if self.jaccard is not None:
            found["jaccard"] = round(self.jaccard, 3)
        if self.words is not None:
            found["words"] = self.words
        return found


class EvaluationGuard:
    """The questions of evaluation splits, against which training rows are held.

    Questions may be added until the first search.
    """

    def __init__(self) -> None:
        self._questions: dict[str, EvaluationQuestion] = {}

    def __len__(self) -> int:
        return len(self._questions)

    @property
    def questions(self) -> Sequence[EvaluationQuestion]:
        """The different questions, in the order in which they came."""
        return list(self._questions.values())

    def add(self, split: str, row: int, question: str) -> None:
        """Remember a question; one that is there already keeps its first place."""
        assert "_near" not in self.__dict__, "questions are added before the first search"
        normalised = normalised_question(question)
        if normalised:
            self._questions.setdefault(normalised, EvaluationQuestion(split, row, normalised))

    def check(self, rows: Sequence[TrainingText]) -> list[Contamination | None]:
        """What each row gives away: the same question before a near one before shared words."""
        found: list[Contamination | None] = [None] * len(rows)
        if not self._questions:
            return found
        for shared in self._ngrams.search([normalised_question(row.text) for row in rows]):
            question = self._listed[shared.question]
            found[shared.text] = Contamination(SHARED_WORDS, question, words=shared.words)
        asked = [(i, normalised_question(row.question or "")) for i, row in enumerate(rows)]
        asked = [(index, question) for index, question in asked if question]
        closest: dict[int, float] = {}
        for pair in self._near.matches([question for _, question in asked]):
            if pair.jaccard > closest.get(pair.left, 0):
                closest[pair.left] = pair.jaccard
                question = self._listed[pair.right]
                found[asked[pair.left][0]] = Contamination(NEAR_QUESTION, question, pair.jaccard)
        for index, normalised in asked:
            if normalised in self._questions:
                found[index] = Contamination(SAME_QUESTION, self._questions[normalised])
        return found

    @cached_property
    def _listed(self) -> list[EvaluationQuestion]:
        return list(self._questions.values())

    @cached_property
    def _near(self) -> MinHashIndex:
        return MinHashIndex(list(self._questions))

    @cached_property
    def _ngrams(self) -> NgramIndex:
        return NgramIndex(list(self._questions))
