"""Tables and cells as text: framed for a terminal, aligned and never cut for a pipe."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from io import StringIO

_ASCII = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "\N{PLUS-MINUS SIGN}": "+/-",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{MIDDLE DOT}": "*",
        "\N{RIGHTWARDS ARROW}": "->",
    }
)


def format_cell(cell: object) -> str:
    """A value as a table shows it.

    Example:
        format_cell(12345) -> "12,345"; format_cell(0.123456) -> "0.1235"; format_cell(None) -> "-"
    """
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return str(cell)


def framed_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    ascii_only: bool,
    colored: bool,
) -> str:
    """A framed table that wraps to `width` characters; an ASCII frame where asked for."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=box.ASCII if ascii_only else box.ROUNDED,
    )
    for index, column in enumerate(columns):
        numeric = is_numeric([row[index] for row in rows])
        table.add_column(Text(column), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    text = StringIO()
    console = Console(file=text, width=width, force_terminal=colored, no_color=not colored)
    console.print(table)
    return text.getvalue().rstrip("\n")


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Aligned text, two spaces between columns, no frame and no cut; the title first.

    Example:
        plain_table("", ["run", "steps"], [["a", "20"]]) -> "run  steps\na       20"
    """
    lines = [list(columns), *([cell.replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(_width(line[index]) for line in lines) for index in range(len(columns))]
    numeric = [is_numeric([row[index] for row in rows]) for index in range(len(columns))]
    text = [title] if title else []
    for line in lines:
        padded = [
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        text.append("  ".join(padded).rstrip())
    return "\n".join(text)


def encodable(text: str, encoding: str) -> str:
    """`text` with what `encoding` lacks spelt in ASCII, or as `?` where there is no spelling.

    Example:
        encodable("0.81 \N{PLUS-MINUS SIGN} 0.02", "ascii") -> "0.81 +/- 0.02"
    """
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        decomposed = unicodedata.normalize("NFKD", text.translate(_ASCII))
        spelt = "".join(c for c in decomposed if not unicodedata.combining(c))
        return spelt.encode(encoding, "replace").decode(encoding)


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column of cells holds numbers only, `-` for none aside."""
    numbers = [cell for cell in cells if cell != "-"]
    return bool(numbers) and all(cell[:1].isdigit() or cell[:1] in "+-" for cell in numbers)


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)
