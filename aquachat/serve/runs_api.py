"""`/api/runs`: the runs of `AQUACHAT_HOME` and their `metrics.jsonl`, as they grow.

Run names are checked before they become part of a path and stages are those of training, so nothing
outside `runs/RUN/STAGE/metrics.jsonl` is ever opened.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aquachat.errors import ConfigError
from aquachat.paths import check_name
from aquachat.serve.errors import ApiError
from aquachat.serve.fields import Fields
from aquachat.serve.service import Service
from aquachat.serve.wire import CompactJSON
from aquachat.track.logger import METRICS_FILE
from aquachat.track.runs import STAGES, list_steps

MAX_CHUNK_BYTES: Final = 2**20
MAX_RUNS: Final = 500


def routes(service: Service) -> list[Route]:
    """The routes of the runs panel."""

    async def runs(request: Request) -> Response:
        return CompactJSON({"runs": await run_in_threadpool(list_run_stages, service.runs_dir)})

    async def metrics(request: Request) -> Response:
        fields = Fields(dict(request.query_params), "the query")
        after = _offset(fields.get("after"))
        version = fields.text("version", "")
        fields.refuse_others()
        path = metrics_path(
            service.runs_dir, request.path_params["run"], request.path_params["stage"]
        )
        return CompactJSON(await run_in_threadpool(read_rows_after, path, after, version))

    return [
        Route("/api/runs", runs, methods=["GET"]),
        Route("/api/runs/{run}/{stage}/metrics", metrics, methods=["GET"]),
    ]


def list_run_stages(runs_dir: Path) -> list[dict[str, Any]]:
    """Names, stages and the time of the last change; the newest first. Reads no metrics."""
    found: list[tuple[float, dict[str, Any]]] = []
    for folder in runs_dir.iterdir() if runs_dir.is_dir() else ():
        if not _is_name(folder.name):
            continue
        times = {stage: _modified_s(folder / stage / METRICS_FILE) for stage in STAGES}
        stages = [
            {"stage": stage, "modified_s": time_s, "checkpoints": list_steps(folder / stage)}
            for stage, time_s in times.items()
            if time_s is not None
        ]
        if stages:
            newest = max(time_s for time_s in times.values() if time_s is not None)
            run = {"run": folder.name, "modified_s": newest, "stages": stages}
            found.append((newest, run))
    newest_first = sorted(found, key=lambda entry: entry[0], reverse=True)
    return [run for _, run in newest_first[:MAX_RUNS]]


def metrics_path(runs_dir: Path, run: str, stage: str) -> Path:
    """The file of a stage's metrics.

    Raises:
        ApiError: the names are none of a run and a stage, or there is no such file.
    """
    if not _is_name(run) or stage not in STAGES:
        raise ApiError(404, "there is no such run", code="not_found")
    path = runs_dir / run / stage / METRICS_FILE
    if not path.is_file():
        raise ApiError(404, f"run `{run}` has no metrics of stage {stage}", code="not_found")
    return path


def read_rows_after(path: Path, after: int, version: str) -> dict[str, Any]:
    """Whole lines from byte `after` on, about a megabyte at most.

    Returns:
        `rows`; `next`, the `after` of the next call; `version`, which changes when a resumed run
        has rewritten the file; `restarted`, where it has since `version` and the rows are from the
        beginning; `is_complete`, whether there is no more for now.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            current = f"{status.st_dev:x}-{status.st_ino:x}"
            restarted = bool(after) and (version != current or status.st_size < after)
            start = 0 if restarted else after
            file.seek(start)
            content = file.read(MAX_CHUNK_BYTES)
            if len(content) == MAX_CHUNK_BYTES and b"\n" not in content:
                content += file.readline()
    except OSError as error:
        raise ApiError(404, "the metrics cannot be read", code="not_found") from error
    content = content[: content.rfind(b"\n") + 1]
    end = start + len(content)
    return {
        "rows": [row for line in content.splitlines() if (row := _row(line)) is not None],
        "next": end,
        "version": current,
        "restarted": restarted,
        "is_complete": len(content) < MAX_CHUNK_BYTES // 2,
    }


def _row(line: bytes) -> dict[str, Any] | None:
    """Numbers and strings of a line; what is not finite is a string there already."""
    try:
        row = json.loads(line, parse_constant=str)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return {key: value for key, value in row.items() if isinstance(value, int | float | str)}


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ConfigError:
        return False
    return True


def _modified_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _offset(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ApiError(400, "`after` must be a whole number", parameter="after")
    return int(text)
