"""Tables in the documentation that are made from `benchmarks/results`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"


def fill(name: str, lines: Sequence[str], page: Path = PAGE) -> None:
    """Put lines between the marks `<!-- NAME -->` and `<!-- end NAME -->` of a page."""
    page.write_text(filled(page.read_text("utf-8"), name, lines), "utf-8")


def filled(text: str, name: str, lines: Sequence[str]) -> str:
    """The page's text with these lines between the marks.

    Raises:
        ValueError: the page has no such marks.
    """
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text) is None:
        raise ValueError(f"the page has no marks `{start}`")
    content = "\n".join([start, "", *lines, "", end])
    return pattern.sub(lambda _: content, text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def percent(value: float) -> str:
    """Example: `percent(0.2) -> "20.0%"`."""
    return f"{100 * value:.1f}%"
