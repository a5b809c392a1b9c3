"""MMLU: four-option questions on 57 subjects.

Hendrycks and others: Measuring Massive Multitask Language Understanding (2021), arXiv 2009.03300.
A row is `{"question", "subject", "choices": [...], "answer": 0..3}`, as on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rows import ChoiceRow, RowReason, has_equal_options


def read_mmlu_row(row: Mapping[str, object], item_id: str) -> ChoiceRow:
    """The item of a row, its subject as an attribute; the answer is an index or a letter."""
    question, choices, answer = row.get("question"), row.get("choices"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        return ChoiceRow(None, (RowReason.MISSING_QUESTION,))
    if (
        not isinstance(choices, list)
        or len(choices) < 2
        or not all(isinstance(choice, str) for choice in choices)
    ):
        return ChoiceRow(None, (RowReason.MISSING_OPTIONS,))
    if isinstance(answer, str) and len(answer) == 1:
        answer = "ABCDEFGHIJ".find(answer)
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        return ChoiceRow(None, (RowReason.GOLD_NOT_IN_OPTIONS,))
    options = tuple(" ".join(choice.split()) for choice in choices)
    flaws = (RowReason.EQUAL_OPTIONS,) if has_equal_options(options) else ()
    subject = row.get("subject")
    attributes = {"subject": subject} if isinstance(subject, str) else {}
    item = ChoiceItem(item_id, question.strip(), options, answer, attributes=attributes)
    return ChoiceRow(item, flaws)
