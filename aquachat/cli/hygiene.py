"""`aquachat prepare --check` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from aquachat.cli.command import Command
from aquachat.errors import ConfigError


def check(command: Command, names: Sequence[str], output_dir: str) -> None:
    """Check prepared sets, and print what was found: tables, then sentences, then files.

    Raises:
        ConfigError: one folder for several data sets.
        MissingFileError: a set is not prepared.
    """
    if output_dir and len(names) > 1:
        raise ConfigError(
            f"`--output-dir {output_dir}` holds one data set, and {len(names)} are named",
            hint="check them one at a time",
        )
    from aquachat.pipeline.hygiene import check_datasets
    from aquachat.track.hygiene_tables import hygiene_tables

    output = command.output
    with output.progress("check", len(names)) as progress:
        written = check_datasets(
            names,
            command.home,
            output_dir=output_dir,
            note=output.note,
            on_done=progress.advance,
        )
    output.result({"datasets": [one.to_json() for one in written]})
    for one in written:
        for table in hygiene_tables(one.report):
            output.table(table.title, table.columns, table.rows)
            output.text("")
        output.text(f"Found in {one.report.dataset}:")
        for finding in one.report.findings or ("nothing",):
            output.text(f"- {finding}")
        output.text(f"Report: `{one.document}`, `{one.page}`")
    output.next_command(_next_command(names))


def _next_command(names: Sequence[str]) -> str:
    return "aquachat eval --task AQUA-HELDOUT" if "aqua" in names else "aquachat tokenize"
