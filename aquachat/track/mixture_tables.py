"""What the stages of conversations took from each source, as tables of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aquachat.track.report_data import ReportData
from aquachat.track.report_tables import Table, count, percent
from aquachat.track.values import as_number


def mixture_tables(data: ReportData) -> list[Table]:
    """What each stage of conversations took from each source."""
    columns = (
        "source",
        "rows",
        "examples",
        "share",
        "epochs",
        "tokens",
        "targets",
        "truncated",
        "skipped",
    )
    note = (
        "Epochs are examples over rows of the source. Tokens are without padding, targets those "
        "that are learned. Truncated examples lost their end, skipped ones were not trained on."
    )
    tables = []
    for stage, sources in data.mixtures.items():
        rows = tuple(_mixture_row(source) for source in sources)
        tables.append(Table(f"Mixture of {stage}", columns, rows, note))
    return tables


def _mixture_row(source: Mapping[str, Any]) -> tuple[str, ...]:
    epochs = as_number(source.get("epochs"))
    return (
        str(source.get("source", "")),
        count(source.get("rows")),
        count(source.get("taken")),
        percent(as_number(source.get("share"))),
        "-" if epochs is None else f"{epochs:,.2f}",
        *(count(source.get(name)) for name in ("tokens", "targets", "truncated", "skipped")),
    )
