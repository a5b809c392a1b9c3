"""The run log that is always there: `metrics.jsonl` and `samples.jsonl` in a stage's folder.

One JSON object a line: `step`, `stage`, `time_s`, then slash-named metrics with unit suffixes, the
same keys as in W&B. A line is written whole and flushed before `log` returns; a line torn by a
crash is skipped by the readers and removed by the next resume. Numbers that are not finite are the
strings `"NaN"`, `"Infinity"` and `"-Infinity"` (see `aquachat.track.values`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, Self

from aquachat.errors import MissingFileError
from aquachat.files import write_text
from aquachat.track.values import to_json

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
RESERVED_KEYS = frozenset({"step", "stage", "time_s"})


class MetricSink(Protocol):
    """A further place that gets every line, for example W&B."""

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take the metrics of one line, numbers as numbers; must not raise."""
        ...

    def close(self, *, succeeded: bool) -> None:
        """Finish; must not raise."""
        ...


class StageLogger(Protocol):
    """What a training stage needs of a logger."""

    def log(self, step: int, metrics: Mapping[str, object], *, time_s: float | None = None) -> None:
        """Write one line of metrics."""
        ...

    def log_samples(self, step: int, rows: Iterable[Mapping[str, object]]) -> None:
        """Write sampled texts, one line a row."""
        ...

    def close(self, *, succeeded: bool = True) -> None:
        """Close what is open."""
        ...


class SilentLogger:
    """Writes nothing: for every process but the first."""

    def log(self, step: int, metrics: Mapping[str, object], *, time_s: float | None = None) -> None:
        """Write nothing."""

    def log_samples(self, step: int, rows: Iterable[Mapping[str, object]]) -> None:
        """Write nothing."""

    def close(self, *, succeeded: bool = True) -> None:
        """Do nothing."""


class RunLogger:
    """Appends to the two files of one stage, and hands each line of metrics to the sinks.

    Example:
        with RunLogger(Path("runs/a/sft"), "sft", resume_step=200) as logger:
            logger.log(201, {"train/loss": loss, "train/tokens_per_second": 51_000.0})
    """

    def __init__(
        self,
        stage_dir: Path,
        stage: str,
        *,
        resume_step: int | None = None,
        sinks: Sequence[MetricSink] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the files.

        Args:
            stage_dir: made if it is not there.
            stage: `base`, `mid`, `sft` or `rl`; written into each line.
            resume_step: the step of the checkpoint that training goes on from. Lines of later steps
                are dropped, since those steps will be taken again; `time_s` goes on from the last
                line that stays. None starts the stage over: all earlier lines are dropped.
            sinks: get each line too.
            clock: seconds that only grow.
        """
        stage_dir.mkdir(parents=True, exist_ok=True)
        self.stage_dir = stage_dir
        self.stage = stage
        keep_until = -1 if resume_step is None else resume_step
        kept = truncate_after(stage_dir / METRICS_FILE, keep_until)
        truncate_after(stage_dir / SAMPLES_FILE, keep_until)
        before_s = max((_time_of(line) for line in kept), default=0.0)
        self._sinks = tuple(sinks)
        self._clock = clock
        self._origin_s = clock() - before_s
        self._files: dict[str, IO[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self.close(succeeded=kind is None)

    @property
    def time_s(self) -> float:
        """Seconds of training since the stage began, pauses between two processes left out."""
        return self._clock() - self._origin_s

    def log(self, step: int, metrics: Mapping[str, object], *, time_s: float | None = None) -> None:
        """Write one line and hand it to the sinks.

        Args:
            step: the optimizer step that has been taken; 0 is before the first.
            metrics: slash-named numbers (of any library), or the path of a picture relative to the
                stage's folder. `step`, `stage` and `time_s` are not names of metrics.
            time_s: seconds of training so far, where the caller counts them itself.
        """
        assert not RESERVED_KEYS & metrics.keys(), f"reserved names in {sorted(metrics)}"
        elapsed_s = self.time_s if time_s is None else time_s
        head = {"step": step, "stage": self.stage, "time_s": round(elapsed_s, 3)}
        self._append(METRICS_FILE, [{**head, **metrics}])
        for sink in self._sinks:
            sink.log(step, metrics)

    def log_samples(self, step: int, rows: Iterable[Mapping[str, object]]) -> None:
        """Write one line a row to `samples.jsonl`, `step` and `stage` first."""
        head = {"step": step, "stage": self.stage}
        self._append(SAMPLES_FILE, [{**head, **row} for row in rows])

    def close(self, *, succeeded: bool = True) -> None:
        """Close the files and the sinks; a second call does nothing."""
        for file in self._files.values():
            file.close()
        self._files = {}
        for sink in self._sinks:
            sink.close(succeeded=succeeded)
        self._sinks = ()

    def _append(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        if not rows:
            return
        if name not in self._files:
            self._files[name] = (self.stage_dir / name).open("a", encoding="utf-8", newline="\n")
        file = self._files[name]
        file.write("".join(to_json(row) + "\n" for row in rows))
        file.flush()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file, lines that are torn or no objects left out.

    A file that is being written to may end in the middle of a line, and so may one after a crash.

    Raises:
        MissingFileError: there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no `{path}`", hint="see `aquachat runs`") from error
    rows: list[dict[str, Any]] = []
    for line in text.split("\n"):  # not splitlines: a text may hold U+2028
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` that have a step, in file order.

    Numbers that are not finite stay strings; `aquachat.track.values.as_number` reads them.

    Raises:
        MissingFileError: there is no such file.
    """
    return [row for row in read_json_lines(path) if _step_of(row) is not None]


def truncate_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines of steps after `step`, and torn ones, atomically; returns what stays.

    A file that is not there stays so.
    """
    if not path.exists():
        return []
    kept = [row for row in read_metrics(path) if (_step_of(row) or 0) <= step]
    text = "".join(to_json(row) + "\n" for row in kept)
    if text.encode() != path.read_bytes():
        write_text(path, text)
    return kept


def _step_of(row: Mapping[str, Any]) -> int | None:
    step = row.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def _time_of(row: Mapping[str, Any]) -> float:
    time_s = row.get("time_s")
    return float(time_s) if isinstance(time_s, (int, float)) else 0.0
