"""`hygiene.html`: what `aquachat prepare --check` found, as tables and pictures on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from aquachat.data.hygiene.report import HygieneReport
from aquachat.track.hygiene_tables import hygiene_tables
from aquachat.track.plots import Bar, grouped_bars, to_svg
from aquachat.track.report_html import figures_html, page_html, table_html
from aquachat.track.report_tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def hygiene_page(report: HygieneReport) -> str:
    """The whole page; it needs no network."""
    name = escape(report.dataset)
    findings = "".join(f"<li>{escape(finding)}</li>" for finding in report.findings)
    svgs = [to_svg(figure, caption) for caption, figure in hygiene_figures(report)]
    examples = "".join(table_html(table) for table in example_tables(report))
    searched = ", ".join(report.evaluation_splits) or "no evaluation split"
    heading = (
        f"<h1>Data set {name}</h1>"
        f'<p class="soft">{escape(report.source)}; licence: {escape(report.licence)}; training '
        f"text was searched for the questions of {escape(searched)}</p>"
    )
    sections = [
        ("short", "In short", f"<ul>{findings or '<li>nothing was found</li>'}</ul>"),
        ("pictures", "Pictures", figures_html(svgs)),
        ("tables", "Tables", "".join(table_html(table) for table in hygiene_tables(report))),
        ("examples", "Examples", examples),
    ]
    return page_html(f"{name} - aquachat data hygiene", heading, sections)


def hygiene_figures(report: HygieneReport) -> list[tuple[str, Figure]]:
    """Gold letters, whether the longest option is right, and rows with something about them."""
    made = [
        ("Gold letters by split", _letters(report)),
        ("How often the longest option is right", _longest(report)),
        ("Rows with something about them", _shares(report)),
    ]
    return [(caption, figure) for caption, figure in made if figure is not None]


def _letters(report: HygieneReport) -> Figure | None:
    balances = {name: s.letters for name, s in report.splits.items() if s.letters is not None}
    if not balances:
        return None
    letters = max((balance.expected for balance in balances.values()), key=len)
    totals = {name: sum(balance.observed.values()) for name, balance in balances.items()}
    series = {
        name: [Bar(balance.observed.get(letter, 0) / totals[name]) for letter in letters]
        for name, balance in balances.items()
    }
    first = next(iter(balances))
    even = [balances[first].expected.get(letter, 0) / totals[first] for letter in letters]
    return grouped_bars(
        "Gold letters",
        list(letters),
        series,
        ylabel="share of rows",
        baselines={"by chance": even},
        with_values=False,
    )


def _longest(report: HygieneReport) -> Figure | None:
    found = {name: s.gold_length for name, s in report.splits.items() if s.gold_length is not None}
    bars = [Bar(gold.gold_is_longest / gold.rows) for gold in found.values()]
    chance = [gold.expected / gold.rows for gold in found.values()]
    return grouped_bars(
        "The longest option is right\nof rows with a single longest one",
        list(found),
        {"longest": bars},
        ylabel="share of those rows",
        baselines={"by chance": chance},
    )


def _shares(report: HygieneReport) -> Figure | None:
    """Shares of the rows of each split; of those read where `prepare` left some out."""
    leaking = Counter[str]()
    for leak in report.leaks:
        leaking[leak.split] += leak.rows
    series: dict[str, list[Bar | None]] = {}
    for name, split in report.splits.items():
        left_out = sum(split.quarantined.values())
        counts = (
            sum(split.flagged.values()),
            split.repeats.same_question,
            split.repeats.near_question,
            leaking[name],
        )
        total = split.rows + left_out
        if total:
            shares = [Bar(left_out / total), *(Bar(count / total) for count in counts)]
            series[name] = list(shares)
    groups = ("left out", "with a flaw", "same question", "near question", "giving away")
    return grouped_bars(
        "Rows with something about them", groups, series, ylabel="share of rows", with_values=False
    )


def example_tables(report: HygieneReport) -> list[Table]:
    """The first few cases of everything that was found, for people to judge."""
    tables = []
    for name, split in report.splits.items():
        if split.repeats.examples:
            rows = tuple(_pair_row(example) for example in split.repeats.examples)
            tables.append(Table(f"Near duplicates within {name}", _PAIR, rows))
        against = split.contradictions
        if against is not None and against.examples:
            cells = tuple(
                (str(e["row"]), e["gold"] or "-", e["end"] or "-") for e in against.examples
            )
            title = f"Rationales of {name} that speak against the gold option"
            tables.append(Table(title, ("row", "gold option", "how the rationale ends"), cells))
    for overlap in report.overlaps:
        if overlap.examples:
            rows = tuple(_pair_row(example) for example in overlap.examples)
            tables.append(Table(f"{overlap.split} and {overlap.other}", _PAIR, rows))
    for leak in report.leaks:
        leaked = tuple(
            (str(e["row"]), str(e["reason"]), str(e["evaluation"]["row"]), str(e["text"]) or "-")
            for e in leak.examples
        )
        title = f"Rows of {leak.split} that give {leak.evaluation} away"
        tables.append(Table(title, ("row", "reason", "its row", "text"), leaked))
    return tables


_PAIR = ("rows", "Jaccard", "one", "other")


def _pair_row(example: Mapping[str, Any]) -> tuple[str, ...]:
    one, other = example["rows"]
    texts = example["texts"]
    return f"{one}, {other}", f"{example['jaccard']:.2f}", texts[0] or "-", texts[1] or "-"
