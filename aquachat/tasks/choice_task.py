"""A multiple-choice task over items in memory: AQUA, ARC, MMLU, SYNTHETIC and custom rows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from aquachat.errors import DataError
from aquachat.tasks.base import ChoiceItem, Example, Grade, ScoringProtocol
from aquachat.tasks.multiple_choice import choice_example, grade_choice
from aquachat.tasks.rows import (
    ChoiceRow,
    RejectedRow,
    RowReason,
    read_choice_row,
    read_rows,
    rejected,
)

T = TypeVar("T")
ReadRow = Callable[[Mapping[str, object], str], ChoiceRow]
"""Makes an item of a row's fields and an id."""


class ChoiceTask:
    """Items with a name and a split.

    `rejected` holds the rows of the file from which no item could be made: they count as examples
    that were not scored. `flagged` names what is wrong with an item that is asked all the same,
    for example two equal options.
    """

    protocols: frozenset[ScoringProtocol] = frozenset({"categorical", "generative"})

    def __init__(
        self,
        name: str,
        split: str,
        items: Sequence[ChoiceItem],
        *,
        rejected: Sequence[RejectedRow] = (),
        flagged: Mapping[str, tuple[RowReason, ...]] | None = None,
    ) -> None:
        self.name = name
        self.split = split
        self.items = tuple(items)
        self.rejected = tuple(rejected)
        self.flagged = dict(flagged or {})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        return choice_example(self.items[index])

    def grade(self, example: Example, reply: str) -> Grade:
        """1.0 for the right letter plus 0.1 for a valid answer line."""
        return grade_choice(example, reply)


def seeded_subset(rows: Sequence[T], max_examples: int | None, seed: int) -> list[T]:
    """At most `max_examples` rows, drawn by `seed` alone, in their own order.

    Files are often sorted by subject, so the first rows would not stand for the rest.
    """
    if max_examples is None or max_examples >= len(rows):
        return list(rows)
    drawn = random.Random(seed).sample(range(len(rows)), max_examples)
    return [rows[index] for index in sorted(drawn)]


def load_choice_task(
    path: Path,
    *,
    name: str,
    split: str,
    dataset: str,
    read_row: ReadRow = read_choice_row,
    seed: int = 0,
    max_examples: int | None = None,
) -> ChoiceTask:
    """The rows of a file as a task; ids read `<dataset>/<split>/<line>`.

    No row is left out for a flaw: what could not be asked at all is in `task.rejected`.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file has no usable row.
    """
    items: list[ChoiceItem] = []
    bad: list[RejectedRow] = []
    flagged: dict[str, tuple[RowReason, ...]] = {}
    for row in read_rows(path):
        if isinstance(row, RejectedRow):
            bad.append(row)
            continue
        item_id = f"{dataset}/{split}/{row.line_number}"
        read = read_row(row.value, item_id)
        if read.item is None:
            bad.append(rejected(row, read.reasons[0]))
            continue
        items.append(read.item)
        if read.reasons:
            flagged[item_id] = read.reasons
    if not items:
        raise DataError(
            f"no row of `{path}` is a question with options"
            f" (line {bad[0].line_number}: {bad[0].reason})",
            hint="a row needs at least `question`, `options` and `correct`, or else `question` and"
            " `answer`",
        )
    kept = seeded_subset(items, max_examples, seed)
    return ChoiceTask(name, split, kept, rejected=bad, flagged=flagged)
