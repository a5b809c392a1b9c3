"""A loss surface in 3D: an SVG that is complete by itself, and that `surface.js` lets one turn.

Our own 100 lines instead of plotly, whose script would add 4 MB to every report. The script is a
constant, so the page allows it by its hash and nothing else: what a model wrote still can do
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any, Final

from aquachat.track.surface import Surface

Point = tuple[float, float, float]
"""x and y from -1 to 1, z from 0 to 1."""

YAW: Final = 0.65
PITCH: Final = 0.6
# The same as in `surface.js`:
STOPS: Final = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Viridis: told apart by colour-blind readers and in grey."""
SCALE: Final = 165
CENTER: Final = (275, 240)
HEIGHT: Final = 1.1
WIDTH_PX: Final = 640
HEIGHT_PX: Final = 480
MIN_LABEL_DISTANCE: Final = 0.12
INK: Final = "currentColor"


def script() -> str:
    """The program that turns surfaces."""
    return (resources.files("aquachat.track") / "surface.js").read_text("utf-8")


def script_policy() -> str:
    """What a content security policy says to allow `script()` and no other."""
    digest = hashlib.sha256(script().encode()).digest()
    return f"script-src 'sha256-{base64.b64encode(digest).decode()}'"


def surface_svg(surface: Surface) -> str:
    """One `<svg>` element for an HTML page."""
    scene = make_scene(surface)
    vertices, path = scene["vertices"], scene["path"]
    faces = [
        (
            sum(_project(vertices[i])[2] for i in face),
            sum(vertices[i][2] for i in face) / 4,
            [_project(vertices[i]) for i in face],
        )
        for face in scene["faces"]
    ]
    faces.sort(key=lambda face: -face[0])
    floor = [_project(corner) for corner in ((-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0))]
    parts = [f'<polygon class="floor" points="{_points(floor)}" fill="none" stroke="{INK}"/>']
    parts += [
        f'<polygon class="face" points="{_points(points)}" fill="{color_at(height)}" '
        'stroke="#0003" stroke-width="0.5"/>'
        for _, height, points in faces
    ]
    if path:
        points = _points([_project(point) for point in path])
        parts.append(
            f'<polyline class="way" points="{points}" fill="none" stroke="#d55e00" '
            'stroke-width="2.5"/>'
        )
    names = _labels(path, [point.name for point in surface.path])
    parts += [_mark(at, name) for at, name in zip(path, names, strict=True)]
    parts.append(_scale(surface))
    spoken = escape(_spoken(surface), quote=True)
    data = escape(json.dumps(scene, separators=(",", ":")), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" role="img" '
        f'aria-label="{spoken}" data-scene="{data}">{"".join(parts)}</svg>'
    )


def surface_figure(surface: Surface) -> str:
    """The picture under its title, with what it shows and how to turn it."""
    title, note = escape(surface.title), escape(surface.note)
    return (
        f'<figure class="surface"><h3>{title}</h3>{surface_svg(surface)}<figcaption class="note">'
        f'{note}<span class="turn" hidden> Drag it, or use the arrow keys, to turn it.</span>'
        "</figcaption></figure>"
    )


def make_scene(surface: Surface) -> dict[str, Any]:
    """What is drawn, in a cube; a loss that is no number stands at the top."""
    low, high = _range(surface)
    xs, ys = _unit(surface.xs), _unit(surface.ys)
    vertices = [
        [round(x, 4), round(y, 4), round(_height(loss, low, high), 4)]
        for y, row in zip(ys, surface.losses, strict=True)
        for x, loss in zip(xs, row, strict=True)
    ]
    width = len(xs)
    faces = [
        [at, at + 1, at + width + 1, at + width]
        for row in range(len(ys) - 1)
        for at in range(row * width, row * width + width - 1)
    ]
    path = [
        [
            round(_place(point.x, surface.xs), 4),
            round(_place(point.y, surface.ys), 4),
            round(_height(point.loss, low, high), 4),
        ]
        for point in surface.path
    ]
    return {"yaw": YAW, "pitch": PITCH, "vertices": vertices, "faces": faces, "path": path}


def color_at(height: float) -> str:
    """The colour of a height between 0 and 1."""
    place = min(max(height, 0.0), 1.0) * (len(STOPS) - 1)
    low = min(math.floor(place), len(STOPS) - 2)
    pairs = zip(STOPS[low], STOPS[low + 1], strict=True)
    mixed = (round(a + (b - a) * (place - low)) for a, b in pairs)
    return f"rgb({','.join(map(str, mixed))})"


def _project(point: Sequence[float]) -> Point:
    x, y, z = point
    h = (z - 0.5) * HEIGHT
    across = x * math.cos(YAW) - y * math.sin(YAW)
    away = x * math.sin(YAW) + y * math.cos(YAW)
    up = away * math.sin(PITCH) + h * math.cos(PITCH)
    depth = away * math.cos(PITCH) - h * math.sin(PITCH)
    return CENTER[0] + SCALE * across, CENTER[1] - SCALE * up, depth


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)


def _mark(point: Sequence[float], name: str) -> str:
    x, y, _ = _project(point)
    return (
        f'<g class="mark" transform="translate({x:.1f} {y:.1f})"><circle r="4.5" fill="#d55e00" '
        f'stroke="#fff" stroke-width="1.5"/><text x="8" y="-6" font-size="16" fill="{INK}" '
        f'class="halo">{escape(name)}</text></g>'
    )


def _labels(path: Sequence[Sequence[float]], names: Sequence[str]) -> list[str]:
    """The words at each mark: marks that nearly coincide share those of the first.

    Example:
        _labels([(0, 0, 0), (0, 0.01, 0), (1, 1, 0)], ["a", "b", "c"])   # ["a, b", "", "c"]
    """
    groups: list[list[int]] = []
    for number, point in enumerate(path):
        if groups and math.dist(path[groups[-1][0]], point) < MIN_LABEL_DISTANCE:
            groups[-1].append(number)
        else:
            groups.append([number])
    words = [""] * len(names)
    for first, *others in groups:
        last = others[-1] if others else first
        joint = "" if first == last else ", " if len(others) == 1 else " to "
        words[first] = f"{names[first]}{joint}{names[last]}" if joint else names[first]
    return words


def _scale(surface: Surface) -> str:
    """The colours of the losses, with the lowest and the highest."""
    low, high = _range(surface)
    steps = 24
    bars = "".join(
        f'<rect x="581" y="{70 + 240 * index / steps:.0f}" width="14" '
        f'height="{240 / steps + 0.5:.1f}" fill="{color_at(1 - (index + 0.5) / steps)}"/>'
        for index in range(steps)
    )
    return (
        f'<g font-size="16" fill="{INK}" text-anchor="middle">{bars}'
        f'<text x="588" y="40">nats per</text><text x="588" y="61">target: {high:.3g}</text>'
        f'<text x="588" y="328">{low:.3g}</text></g>'
    )


def _spoken(surface: Surface) -> str:
    low, high = _range(surface)
    return f"{surface.title}: a surface of losses between {low:.3g} and {high:.3g} nats per target"


def _range(surface: Surface) -> tuple[float, float]:
    """The lowest and highest loss on the grid and the path."""
    found = surface.finite + [p.loss for p in surface.path if math.isfinite(p.loss)]
    return min(found), max(found)


def _height(loss: float, low: float, high: float) -> float:
    if not math.isfinite(loss):
        return 1.0
    return (loss - low) / (high - low) if high > low else 0.0


def _unit(values: Sequence[float]) -> list[float]:
    return [_place(value, values) for value in values]


def _place(value: float, values: Sequence[float]) -> float:
    """Where a value lies between the first (-1) and the last (1)."""
    return 2 * (value - values[0]) / ((values[-1] - values[0]) or 1.0) - 1
