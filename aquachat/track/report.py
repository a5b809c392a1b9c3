"""`report.md` and a self-contained `report.html`, from a run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquachat.files import write_text
from aquachat.log import redact
from aquachat.track.mixture_tables import mixture_tables
from aquachat.track.plots import standalone_svg, to_svg
from aquachat.track.report_data import DOCUMENT_FILE, ReportData, gather
from aquachat.track.report_figures import Picture, accuracy_pictures, curve_pictures
from aquachat.track.report_html import render_html
from aquachat.track.report_markdown import render_markdown
from aquachat.track.report_tables import (
    PRICE_KEY,
    Table,
    accuracy_table,
    at_k_table,
    calibration_table,
    comparison_table,
    group_tables,
    habit_table,
    letter_table,
    stage_table,
    summary_tables,
)
from aquachat.track.runs import RECIPE_FILE
from aquachat.track.score_tables import read_scores, score_tables
from aquachat.track.stage_pictures import origin_table, stage_pictures
from aquachat.track.surface import Surface, read_landscape
from aquachat.track.surface_picture import surface_svg
from aquachat.track.surface_table import landscape_table
from aquachat.track.values import to_json

FIGURES_DIR = "figures"
GROUP_KINDS = (
    *("num_steps", "tier", "family", "category", "subject"),
    *("rationale_words", "option_order"),
)

__all__ = ["ReportPaths", "Table", "summary_tables", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """The files of a report."""

    markdown: Path
    html: Path
    document: Path
    """`report.json`: what the next `aquachat report` needs beside the run's own files."""


def write_report(
    run_dir: Path,
    document: Mapping[str, Any] | None = None,
    *,
    price_usd_per_hour: float | None = None,
) -> ReportPaths:
    """Write the report of a run; sections for which there is nothing are left out.

    Args:
        run_dir: `runs/<run>`.
        document: of `aquachat run`; None to use the run's files and its last report. Its
            `environment`, `samples` and `origins` are used where they are given.
        price_usd_per_hour: of the rented machine that the run was trained on; None for none, or
            for what an earlier report knew.

    Raises:
        MissingFileError: there is no such run.
        DataError: the files cannot be written; older ones are as they were.
    """
    if price_usd_per_hour is not None:
        document = {**(document or {}), PRICE_KEY: price_usd_per_hour}
    data = gather(run_dir, document)
    landscape = read_landscape(run_dir)
    surfaces = landscape.surfaces if landscape is not None else ()
    tables = report_tables(data, read_scores(run_dir / "eval"))
    tables += [] if landscape is None else [landscape_table(landscape)]
    accuracy, curves = accuracy_pictures(data), curve_pictures(data)
    recipes = {stage: _recipe_text(run_dir / stage) for stage in data.recipes}
    recipes = {stage: text for stage, text in recipes.items() if text}
    svgs = {picture: to_svg(picture.figure, picture.caption) for picture in [*accuracy, *curves]}
    page = render_html(
        data,
        tables,
        [svgs[p] for p in accuracy],
        [svgs[p] for p in curves],
        recipes,
        surfaces,
        stage_pictures(run_dir, data),
    )
    files = _write_figures(run_dir / FIGURES_DIR, svgs)
    files += _write_surfaces(run_dir / FIGURES_DIR, surfaces)
    last_recipe = list(recipes.values())[-1] if recipes else ""
    text = render_markdown(data, tables, files, last_recipe)
    paths = ReportPaths(run_dir / "report.md", run_dir / "report.html", run_dir / DOCUMENT_FILE)
    write_text(paths.markdown, redact(text))
    write_text(paths.html, redact(page))
    kept = {**data.document, "run": data.run, "stages": data.stages}
    kept |= {"environment": data.environment, "comparisons": data.comparisons}
    write_text(paths.document, redact(to_json(kept, indent=2)) + "\n")
    return paths


def report_tables(data: ReportData, scores: Mapping[str, Any] | None = None) -> list[Table]:
    """All tables of a report, most important first; `scores` is what `read_scores` found."""
    found = [
        stage_table(data),
        accuracy_table(data),
        *score_tables(scores or {}),
        comparison_table(data),
        *group_tables(data, GROUP_KINDS),
        at_k_table(data),
        letter_table(data),
        habit_table(data),
        calibration_table(data),
        *mixture_tables(data),
        origin_table(data),
    ]
    return [table for table in found if table is not None]


def _write_figures(folder: Path, svgs: Mapping[Picture, str]) -> list[tuple[str, str]]:
    """Write each picture as an SVG file; (caption, path relative to the report)."""
    written = []
    for picture, svg in svgs.items():
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in picture.name) + ".svg"
        write_text(folder / name, redact(standalone_svg(svg)))
        written.append((picture.caption, f"{FIGURES_DIR}/{name}"))
    return written


def _write_surfaces(folder: Path, surfaces: Sequence[Surface]) -> list[tuple[str, str]]:
    """Write each surface as a still picture; (caption, path relative to the report)."""
    written = []
    for surface in surfaces:
        name = f"landscape-{surface.kind}.svg"
        write_text(folder / name, standalone_svg(surface_svg(surface)))
        written.append((surface.title, f"{FIGURES_DIR}/{name}"))
    return written


def _recipe_text(stage_dir: Path) -> str:
    try:
        return (stage_dir / RECIPE_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
