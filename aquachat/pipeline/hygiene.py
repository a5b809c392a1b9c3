"""`aquachat prepare --check`: a report of each prepared set, written beside its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquachat.data.hygiene.check import CheckProgress, check_dataset
from aquachat.data.hygiene.report import PAGE_NAME, REPORT_NAME, HygieneReport
from aquachat.files import write_json, write_text
from aquachat.paths import Home
from aquachat.track.hygiene_page import hygiene_page


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report and its two files."""

    report: HygieneReport
    document: Path
    page: Path

    def to_json(self) -> dict[str, Any]:
        """The report with the names of its files."""
        files = {"json": str(self.document), "html": str(self.page)}
        return {**self.report.to_json(), "files": files}


def check_datasets(
    names: Sequence[str],
    home: Home,
    *,
    output_dir: str = "",
    note: Callable[[str], None],
    on_done: Callable[[], None],
    progress: CheckProgress | None = None,
) -> list[WrittenReport]:
    """Check each prepared set and write `hygiene.json` and `hygiene.html` into its folder.

    Args:
        names: data sets.
        home: where they are, unless `output_dir` names the folder of the only one.
        output_dir: see `home`; empty for none.
        note: told what is being done.
        on_done: called after each data set.
        progress: called as rows are read.

    Raises:
        MissingFileError: a set is not prepared; reports of those before it are written.
        DataError: a file cannot be read or written.
    """
    written = []
    for name in names:
        note(f"check: {name}")
        folder = Path(output_dir).expanduser() if output_dir else home.data(name)
        report = check_dataset(folder, home.root / "data", progress=progress)
        document, page = folder / REPORT_NAME, folder / PAGE_NAME
        write_json(document, report.to_json())
        write_text(page, hygiene_page(report))
        written.append(WrittenReport(report, document, page))
        on_done()
    return written
