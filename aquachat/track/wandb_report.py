"""A report's tables and 3D pictures in Weights & Biases: one W&B run of type `report` a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from aquachat.files import write_text
from aquachat.log import redact
from aquachat.track.report import report_tables
from aquachat.track.report_data import gather
from aquachat.track.report_html import page_html
from aquachat.track.score_tables import read_scores
from aquachat.track.surface import Surface, read_landscape
from aquachat.track.surface_picture import surface_figure
from aquachat.track.surface_table import landscape_table
from aquachat.track.wandb_sink import WandbOptions, open_wandb

REPORT_DIR = "report"
"""Of a run: what is sent to W&B, and W&B's own offline files."""


def publish_report(
    run_dir: Path, options: WandbOptions, *, environ: Mapping[str, str] = os.environ
) -> bool:
    """Log every table, and every surface as a page that can be turned; whether W&B took them.

    A second report of the same run continues the same W&B run. Where W&B is off or cannot be used
    nothing is sent, and what `open_wandb` says is all that happens.

    Raises:
        MissingFileError: there is no such run.
    """
    if options.mode == "off":
        return False
    data, landscape = gather(run_dir), read_landscape(run_dir)
    tables = report_tables(data, read_scores(run_dir / "eval"))
    tables += [] if landscape is None else [landscape_table(landscape)]
    folder = run_dir / REPORT_DIR
    surfaces = () if landscape is None else landscape.surfaces
    pictures = {f"landscape/{s.kind}": _write_page(folder, s) for s in surfaces}
    sink = open_wandb(
        folder,
        run=run_dir.name,
        stage="report",
        options=options,
        config={"environment": data.environment},
        resume=True,
        environ=environ,
    )
    if sink is None:
        return False
    contents = {f"report/{t.title}": (t.columns, t.rows) for t in tables if t.title}
    sink.log_tables(contents)
    sink.log(1, pictures)
    sink.close(succeeded=True)
    return not sink.has_failed


def _write_page(folder: Path, surface: Surface) -> str:
    """Write one surface as a page of its own; its path in `folder`."""
    name = f"landscape-{surface.kind}.html"
    page = page_html("Loss landscape", "", [("it", "", surface_figure(surface))], turns=True)
    write_text(folder / name, redact(page))
    return name
