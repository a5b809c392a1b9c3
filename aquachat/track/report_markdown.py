"""A report as Markdown, with its pictures in files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aquachat.track.report_data import ReportData
from aquachat.track.report_tables import Table, findings
from aquachat.track.samples import SampleQuestion

VERDICTS = {True: "right", False: "wrong", None: "not graded"}
_SPECIAL = re.compile(r"([\\`*<|&]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""What could begin markup; an underscore inside a word and a bracket of an interval cannot."""


def render_markdown(
    data: ReportData,
    tables: Sequence[Table],
    pictures: Sequence[tuple[str, str]],
    recipe: str,
) -> str:
    """The whole report.

    Args:
        data: what there is to say.
        tables: in order of appearance.
        pictures: (caption, path relative to the report).
        recipe: TOML of the last stage, empty if unknown.
    """
    blocks = [f"# Run {escaped(data.run)}"]
    if sentences := findings(data):
        blocks += ["## In short", "\n".join(f"- {escaped(line)}" for line in sentences)]
    for table in tables:
        blocks += [f"## {escaped(table.title)}", markdown_table(table)]
        if table.note:
            blocks.append(table.note)
    if pictures:
        blocks.append("## Curves and figures")
        blocks += [f"![{escaped(caption)}]({path})" for caption, path in pictures]
    if data.samples:
        blocks += ["## Sample answers", "The first questions of the set, not picked."]
        blocks += [sample_block(sample) for sample in data.samples]
    rows = tuple(data.environment.items())
    blocks += ["## Environment", markdown_table(Table("", ("what", "value"), rows))]
    if recipe:
        blocks += ["## Recipe", fenced(recipe, "toml")]
    return "\n\n".join(blocks) + "\n"


def markdown_table(table: Table) -> str:
    r"""A table with pipes; cells are escaped, so that no text can become markup.

    Example:
        markdown_table(Table("", ("a", "b"), (("1", "x|y"),))) ->
        "| a | b |\n| --- | --- |\n| 1 | x\|y |"
    """
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    text = []
    for number, line in enumerate(lines):
        cells = line if number == 1 else [escaped(cell) for cell in line]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def sample_block(sample: SampleQuestion) -> str:
    """One question with each model's reply, verbatim in fenced blocks."""
    lines = [sample.question, *(f"- {option}" for option in sample.options)]
    blocks = [f"### {escaped(sample.id)}", fenced("\n".join(lines))]
    for answer in sample.answers:
        text = "".join(
            {"text": s.text, "python": f"[calculator: {s.text}", "python_output": f" = {s.text}]"}[
                s.kind
            ]
            for s in answer.stretches
        )
        verdict = VERDICTS[answer.is_correct]
        letter, gold = escaped(answer.letter or "none"), escaped(sample.gold or "unknown")
        blocks.append(
            f"**{escaped(answer.model)}** answered {letter}, right is {gold}: **{verdict}**"
        )
        blocks.append(fenced(text))
    return "\n\n".join(blocks)


def fenced(text: str, language: str = "text") -> str:
    """A code block whose fence is longer than any run of backticks in `text`."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def escaped(text: str) -> str:
    r"""Text on one line, without meaning to Markdown or HTML.

    Example:
        escaped("<b>|x") -> r"\<b>\|x"
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
