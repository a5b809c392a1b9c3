"""What `aquachat run` ends with: tables, three sample answers, where the report is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aquachat.cli.output import Output


def print_summary(output: Output, document: Mapping[str, Any]) -> None:
    """Print the tables and the samples of a finished run."""
    from aquachat.track.report import summary_tables
    from aquachat.track.score_tables import score_tables

    for table in [*summary_tables(document), *score_tables(document)]:
        output.table(table.title, table.columns, table.rows)
    for sample in document["samples"]:
        output.text(sample_text(sample))
    if document["report"]:
        output.text(f"report: {document['report']}")
    minutes, seconds = divmod(round(document["seconds"]), 60)
    peak = document["peak_rss_bytes"]
    memory = "" if peak is None else f" and at most {peak / 1e9:.1f} GB of memory"
    output.text(f"took {minutes} min {seconds} s{memory}")


def sample_text(sample: Mapping[str, Any]) -> str:
    """A question, the model's reply with its calculator calls, and its grade."""
    reply = "".join(_part_text(part) for part in sample["parts"]) or sample["reply"]
    verdict = "right" if sample["correct"] else f"wrong, {sample['gold']} is right"
    indented = "\n".join(f"    {line}" for line in reply.splitlines())
    return f"\n{sample['question']}\n{indented}\n  ({verdict})"


def _part_text(part: Mapping[str, str]) -> str:
    if part["type"] == "python":
        return f"[{part['text']}"
    if part["type"] == "python_output":
        return f" = {part['text']}] "
    return part["text"]
