"""`aquachat prepare --check`: a report of each prepared set, written beside its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquachat.data.catalogue import HELDOUT, KNOWN_NAMES, unknown_name
from aquachat.data.hygiene.check import CheckProgress, check_dataset
from aquachat.data.hygiene.guard import CONTAMINATION_REASONS
from aquachat.data.hygiene.report import PAGE_NAME, REPORT_NAME, HygieneReport
from aquachat.data.manifest import PrepareReport
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
        ConfigError: there is no such data set.
        MissingFileError: a set is not prepared; reports of those before it are written.
        DataError: a file cannot be read or written.
    """
    written = []
    for name in names:
        note(f"check: {name}")
        folder = Path(output_dir).expanduser() if output_dir else home.data(name)
        if name not in KNOWN_NAMES and not folder.is_dir():
            raise unknown_name("data set", name, KNOWN_NAMES)
        report = check_dataset(folder, home.root / "data", progress=progress)
        document, page = folder / REPORT_NAME, folder / PAGE_NAME
        write_json(document, report.to_json())
        write_text(page, hygiene_page(report))
        written.append(WrittenReport(report, document, page))
        on_done()
    return written


def hygiene_notes(report: PrepareReport) -> Iterator[str]:
    """What `prepare` did about contamination, in words; nothing where there was nothing to do."""
    train = report.splits.get("train")
    if train is None:
        return
    left_out = {r: n for r, n in train.rejected.items() if r in CONTAMINATION_REASONS}
    kept = train.counts.get("kept_contaminated", {})
    for verb, counts in (("left out", left_out), ("kept", kept)):
        if counts:
            yield (
                f"{report.dataset}: {verb} {sum(counts.values()):,} training rows that give "
                f"evaluation questions away ({_listed(counts)})"
            )
    if HELDOUT in report.splits and "moved" in train.counts:
        moved = train.counts["moved"][HELDOUT]
        yield f"{report.dataset}: held {moved:,} training rows out, for `--task AQUA-HELDOUT`"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
