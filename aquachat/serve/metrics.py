"""What `/metrics` says, in Prometheus' text format 0.0.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aquachat.serve.worker import WorkerCounts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(slots=True)
class Histogram:
    """Counts of values up to each bound."""

    bounds: tuple[float, ...] = SECONDS
    _counts: list[int] = field(default_factory=list)
    _sum: float = 0.0

    def __post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        place = next((i for i, bound in enumerate(self.bounds) if value <= bound), -1)
        self._counts[place] += 1
        self._sum += value

    def lines(self, name: str) -> Iterable[str]:
        """Cumulative buckets, sum and count."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            total += count
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'{name}_bucket{{le="{shown}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


@dataclass(slots=True)
class Metrics:
    """Counted on the event loop."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By path and status."""
    prompt_tokens: int = 0
    first_token_s: Histogram = field(default_factory=Histogram)
    reply_s: Histogram = field(default_factory=Histogram)

    def text(self, counts: WorkerCounts, capacity: Mapping[str, int]) -> str:
        """Everything."""
        lines: list[str] = []
        by_request = [
            (f'{{path="{path}",status="{status}"}}', count)
            for (path, status), count in sorted(self.requests.items())
        ]
        _metric(lines, "requests_total", "counter", "Requests by path and status", by_request)
        waiting = max(0, counts.open_samples - counts.active_rows)
        simple = (
            ("prompt_tokens_total", "counter", "Tokens of prompts", self.prompt_tokens),
            ("completion_tokens_total", "counter", "Tokens generated", counts.completion_tokens),
            ("cancelled_total", "counter", "Replies that were cancelled", counts.cancelled_samples),
            ("refused_total", "counter", "Requests refused with 429", counts.refused),
            ("active_replies", "gauge", "Replies that decode now", counts.active_rows),
            ("waiting_replies", "gauge", "Replies that wait for a place", waiting),
            ("max_active_replies", "gauge", "Most that decode together", capacity["active"]),
            ("max_replies", "gauge", "Most that decode and wait", capacity["all"]),
        )
        for name, kind, text, value in simple:
            _metric(lines, name, kind, text, [("", value)])
        for name, text, histogram in (
            ("first_token_seconds", "From a request to its first token", self.first_token_s),
            ("reply_seconds", "From a request to its last token", self.reply_s),
        ):
            lines += [f"# HELP aquachat_{name} {text}", f"# TYPE aquachat_{name} histogram"]
            lines += histogram.lines(f"aquachat_{name}")
        return "\n".join(lines) + "\n"


def _metric(
    lines: list[str], name: str, kind: str, text: str, values: Sequence[tuple[str, int]]
) -> None:
    lines += [f"# HELP aquachat_{name} {text}", f"# TYPE aquachat_{name} {kind}"]
    lines += [f"aquachat_{name}{labels} {value}" for labels, value in values]
