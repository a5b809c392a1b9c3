"""What a report takes over from the stages: pictures they logged, and where settings came from."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from aquachat.track.report_data import ReportData
from aquachat.track.report_tables import Table

MAX_PICTURE_BYTES = 2_000_000
"""A larger picture is left in the stage's folder."""
MAX_PICTURES = 32


@dataclass(frozen=True, slots=True)
class StagePicture:
    """A PNG file, inline."""

    caption: str
    """For example `rl: attn/heatmap/layer_00, step 40`."""
    data_url: str


def stage_pictures(run_dir: Path, data: ReportData) -> list[StagePicture]:
    """The last picture of each name that a stage logged: in `metrics.jsonl`, the path of a file.

    Only files in the stage's own folder are read, whatever the line says.
    """
    found = []
    for stage, rows in data.histories.items():
        last = {
            name: (row.get("step"), value)
            for row in rows
            for name, value in row.items()
            if "/" in name and isinstance(value, str) and value.endswith(".png")
        }
        for name, (step, value) in sorted(last.items()):
            contents = _read(run_dir / stage, value)
            if contents is not None:
                encoded = base64.b64encode(contents).decode()
                caption = f"{stage}: {name}, step {step}"
                found.append(StagePicture(caption, f"data:image/png;base64,{encoded}"))
    return found[:MAX_PICTURES]


def origin_table(data: ReportData) -> Table | None:
    """Every setting of the run and where its value came from; None where nobody recorded that."""
    origins = data.document.get("origins")
    if not isinstance(origins, dict) or not origins or not data.recipes:
        return None
    recipe = list(data.recipes.values())[-1]
    rows = tuple(
        (f"{section}.{key}", _shown(value), str(origins.get(f"{section}.{key}", "-")))
        for section, values in recipe.items()
        if isinstance(values, dict)
        for key, value in values.items()
    )
    return Table("Settings and their origins", ("setting", "value", "from"), rows)


def _read(folder: Path, name: str) -> bytes | None:
    """A picture's bytes; None for what is no PNG in `folder`, or too large."""
    path = (folder / name).resolve()
    try:
        if not path.is_relative_to(folder.resolve()) or path.stat().st_size > MAX_PICTURE_BYTES:
            return None
        contents = path.read_bytes()
    except OSError:
        return None
    return contents if contents.startswith(b"\x89PNG\r\n\x1a\n") else None


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != "" else "-"
