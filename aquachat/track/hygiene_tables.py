"""The tables of `aquachat prepare --check`, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from aquachat.data.hygiene.guard import CONTAMINATION_REASONS
from aquachat.data.hygiene.report import HygieneReport, SplitHygiene
from aquachat.tasks.option_order import OptionReferences
from aquachat.track.report_tables import Table

T = TypeVar("T")


def hygiene_tables(report: HygieneReport) -> list[Table]:
    """All tables that have a row."""
    tables = [
        _rows(report),
        _reasons("Left out by prepare", {n: s.quarantined for n, s in report.splits.items()}),
        _reasons("Kept with a flaw", {n: s.flagged for n, s in report.splits.items()}),
        _leaks(report),
        _overlaps(report),
        _repeats(report),
        _letters(report),
        _gold_lengths(report),
        _rationales(report),
        _references(report),
        _lengths(report),
    ]
    return [table for table in tables if table.rows]


def _rows(report: HygieneReport) -> Table:
    rows = tuple(
        (
            name,
            f"{split.rows:,}",
            f"{split.unreadable:,}",
            f"{sum(split.quarantined.values()):,}",
            f"{sum(split.flagged.values()):,}",
            ", ".join(split.licences),
        )
        for name, split in report.splits.items()
    )
    columns = ("split", "rows", "unreadable", "left out", "with a flaw", "licence")
    return Table(f"Rows of {report.dataset}", columns, rows)


def _reasons(title: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    rows = tuple(
        (name, reason, f"{count:,}")
        for name, reasons in counts.items()
        for reason, count in reasons.items()
    )
    return Table(title, ("split", "reason", "rows"), rows)


def _leaks(report: HygieneReport) -> Table:
    rows = tuple(
        (
            leak.split,
            leak.evaluation,
            *(f"{leak.reasons.get(reason, 0):,}" for reason in CONTAMINATION_REASONS),
        )
        for leak in report.leaks
    )
    columns = ("split", "evaluation", "same question", "near question", "shared words")
    return Table("Training rows that give an evaluation question away", columns, rows)


def _overlaps(report: HygieneReport) -> Table:
    rows = tuple(
        (
            overlap.split,
            overlap.other,
            f"{overlap.same_question:,}",
            f"{overlap.near_question:,}",
        )
        for overlap in report.overlaps
    )
    columns = ("split", "shares with", "rows, same question", "rows, near question")
    return Table("Questions in two splits", columns, rows)


def _repeats(report: HygieneReport) -> Table:
    rows = tuple(
        (
            name,
            f"{split.repeats.same_question:,}",
            f"{split.repeats.same_question_and_options:,}",
            f"{split.repeats.near_question:,}",
            f"{split.repeats.same_template:,}",
        )
        for name, split in report.splits.items()
    )
    columns = ("split", "same question", "and same options", "near question", "other numbers only")
    return Table("Rows that repeat others of their split", columns, rows)


def _letters(report: HygieneReport) -> Table:
    having = {name: s.letters for name, s in report.splits.items() if s.letters is not None}
    letters = sorted({letter for balance in having.values() for letter in balance.observed})
    rows = []
    for name, balance in having.items():
        total = sum(balance.observed.values())
        shares = [
            f"{balance.observed[x] / total:.1%}" if x in balance.observed else "-" for x in letters
        ]
        test = balance.test
        statistic = ("-", "-") if test is None else (f"{test.statistic:.1f}", _p(test.p_value))
        rows.append((name, *shares, *statistic))
    return Table("Gold letters", ("split", *letters, "chi-square", "p"), tuple(rows))


def _gold_lengths(report: HygieneReport) -> Table:
    rows = tuple(
        (
            name,
            f"{gold.rows:,}",
            f"{gold.gold_is_longest:,}",
            f"{gold.expected:,.1f}",
            _p(gold.p_value),
            f"{gold.mean_gold_characters:.2f}",
            f"{gold.mean_other_characters:.2f}",
        )
        for name, gold in _of(report, lambda split: split.gold_length)
    )
    columns = ("split", "rows with one longest", "it is right", "by chance", "p")
    means = ("mean characters, gold", "others")
    return Table("Is the longest option right?", columns + means, rows)


def _rationales(report: HygieneReport) -> Table:
    rows = tuple(
        (
            name,
            f"{found.stating_a_letter:,}",
            f"{found.naming_other_letter:,}",
            f"{found.reaching_other_option:,}",
        )
        for name, found in _of(report, lambda split: split.contradictions)
    )
    columns = ("split", "state a letter", "another than the gold", "come out at another option")
    return Table("Rationales against their gold letter", columns, rows)


def _references(report: HygieneReport) -> Table:
    rows = tuple(
        (name, *(f"{split.option_references.get(kind, 0):,}" for kind in OptionReferences))
        for name, split in report.splits.items()
        if split.option_references
    )
    columns = ("split", "do not", "do, relabelled", "do, kept in order")
    return Table("Options that refer to each other", columns, rows)


def _lengths(report: HygieneReport) -> Table:
    rows = []
    for name, split in report.splits.items():
        for what, x in split.lengths.items():
            quantiles = (x.minimum, x.p5, x.p25, x.median, x.p75, x.p95, x.maximum)
            shown = (f"{value:,.0f}" for value in quantiles)
            rows.append((f"{name}, {what}", f"{x.count:,}", f"{x.mean:,.1f}", *shown))
    columns = ("what", "count", "mean", "least", "5%", "25%", "50%", "75%", "95%", "most")
    return Table("Lengths in characters", columns, tuple(rows))


def _of(report: HygieneReport, part: Callable[[SplitHygiene], T | None]) -> Iterator[tuple[str, T]]:
    """The splits that have a part, with it."""
    for name, split in report.splits.items():
        found = part(split)
        if found is not None:
            yield name, found


def _p(value: float) -> str:
    return "<1e-300" if value == 0 else f"{value:.2g}"
