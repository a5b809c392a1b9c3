"""ARC-EASY and ARC-CHALLENGE: school science questions, most with four options.

Clark and others: Think you have Solved Question Answering? (2018), arXiv 1803.05457. A row is
`{"question", "choices": {"text": [...], "label": [...]}, "answerKey"}`, as on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rows import ChoiceRow, RowReason, has_equal_options


def read_arc_row(row: Mapping[str, object], item_id: str) -> ChoiceRow:
    """The item of a row; its labels may be letters or numbers, the item's are letters."""
    question, choices = row.get("question"), row.get("choices")
    if not isinstance(question, str) or not question.strip():
        return ChoiceRow(None, (RowReason.MISSING_QUESTION,))
    texts, labels = (
        (choices.get("text"), choices.get("label"))
        if isinstance(choices, Mapping)
        else (None, None)
    )
    if (
        not isinstance(texts, list)
        or not isinstance(labels, list)
        or not 2 <= len(texts) == len(labels)
        or not all(isinstance(value, str) for value in (*texts, *labels))
    ):
        return ChoiceRow(None, (RowReason.MISSING_OPTIONS,))
    if len(set(labels)) < len(labels):
        return ChoiceRow(None, (RowReason.REPEATED_LETTERS,))
    if row.get("answerKey") not in labels:
        return ChoiceRow(None, (RowReason.GOLD_NOT_IN_OPTIONS,))
    options = tuple(" ".join(text.split()) for text in texts)
    flaws = (RowReason.EQUAL_OPTIONS,) if has_equal_options(options) else ()
    return ChoiceRow(
        ChoiceItem(item_id, question.strip(), options, labels.index(row["answerKey"])), flaws
    )
