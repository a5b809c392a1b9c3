"""A loss landscape in figures: how high the surroundings are, and the loss along the way."""

from __future__ import annotations

import math

from aquachat.track.report_tables import Table
from aquachat.track.surface import Landscape, Surface


def landscape_table(landscape: Landscape) -> Table:
    """Each surface's lowest and highest loss, and each checkpoint on it."""
    rows = []
    for surface in landscape.surfaces:
        low, high = min(surface.finite), max(surface.finite)
        rows.append((surface.title, f"{low:.4g} to {high:.4g}", _extent(surface)))
        rows += [
            (point.name, f"{point.loss:.4g}", f"({point.x:.3g}, {point.y:.3g})")
            for point in surface.path
        ]
    note = (
        f"Cross-entropy in nats on {landscape.num_targets:,} targets of {landscape.data}, around "
        f"{landscape.checkpoint}: {landscape.num_evaluations:,} losses in "
        f"{landscape.seconds:,.0f} s, seed {landscape.seed}."
    )
    return Table("Loss landscape", ("what", "loss", "where"), tuple(rows), note)


def _extent(surface: Surface) -> str:
    ends = [(min(values), max(values)) for values in (surface.xs, surface.ys)]
    assert all(math.isfinite(end) for pair in ends for end in pair)
    return " x ".join(f"[{low:.3g}, {high:.3g}]" for low, high in ends)
