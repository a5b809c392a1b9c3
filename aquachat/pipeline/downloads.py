"""How downloads are shown: in the bar on a terminal, elsewhere one line for each file."""

from __future__ import annotations

from typing import Protocol

from aquachat.data.download import DownloadEvent, DownloadEventKind
from aquachat.pipeline.progress import ProgressBar

MEGABYTE = 1_000_000


class _Notes(Protocol):
    def note(self, text: str) -> None:
        """Say what is being done."""
        ...


class DownloadDisplay:
    """Shows what is downloaded, and between downloads how many sets are ready.

    Args:
        output: says a line for each file and each retry.
        progress: the command's bar.
        description: of the bar between downloads.
        total: what the bar counts between downloads.
    """

    def __init__(self, output: _Notes, progress: ProgressBar, description: str, total: int) -> None:
        self._output = output
        self._progress = progress
        self._description = description
        self._total = total
        self._num_done = 0
        self._sizes: dict[str, tuple[int, int]] = {}
        """Bytes that are there, and bytes of the whole as far as they are known, by file."""

    def show(self, event: DownloadEvent) -> None:
        """Show one event; the downloader hands them over one at a time."""
        name = event.file.path.name
        if event.kind is DownloadEventKind.RETRY:
            self._output.note(f"download: {name}: {event.detail}")
            return
        total = event.total_bytes if event.total_bytes is not None else event.num_bytes
        known = name in self._sizes
        self._sizes[name] = (event.num_bytes, total)
        done = sum(there for there, _ in self._sizes.values()) / MEGABYTE
        whole = sum(of for _, of in self._sizes.values()) / MEGABYTE
        self._progress.update(
            completed=round(done, 1), total=round(whole, 1), description="download (MB)"
        )
        if event.kind is DownloadEventKind.DONE:
            what = "downloaded" if known else "is there already:"
            self._output.note(f"download: {what} {name}, {event.num_bytes / MEGABYTE:,.1f} MB")

    def end_set(self) -> None:
        """Count one more data set as ready."""
        self._num_done += 1
        self._sizes.clear()
        self._progress.update(
            completed=self._num_done, total=self._total, description=self._description
        )
