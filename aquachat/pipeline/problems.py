"""Questions to try the model on: prepared AQuA rows and synthetic problems, by number."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.tasks.base import Example
from aquachat.tasks.multiple_choice import choice_example
from aquachat.tasks.registry import task_by_name
from aquachat.tasks.synthetic import Split, generate_items

AQUA_SOURCES: Final = {
    "aqua/validation": ("AQUA", "validation"),
    "aqua/test": ("AQUA", "test"),
    "aqua/heldout": ("AQUA-HELDOUT", "heldout"),
}
SYNTHETIC_SOURCES: Final[dict[str, Split]] = {
    "synthetic/new_numbers": "new_numbers",
    "synthetic/new_phrasings": "new_phrasings",
    "synthetic/more_steps": "more_steps",
}
SYNTHETIC_SEED: Final = 2
NUM_SYNTHETIC: Final = 1_000_000


@dataclass(slots=True)
class Problems:
    """Reads a split when it is first asked for."""

    data_root: Path
    aqua_dir: Path
    _loaded: dict[str, list[Example]] = field(default_factory=dict)

    def sources(self) -> list[dict[str, Any]]:
        """The sources that there are, AQuA first; `count` is how many numbers each has."""
        found = []
        for source in AQUA_SOURCES:
            try:
                count = len(self._rows(source))
            except (MissingFileError, DataError):
                continue
            found.append({"source": source, "count": count})
        return found + [{"source": name, "count": NUM_SYNTHETIC} for name in SYNTHETIC_SOURCES]

    def draw(self, source: str, number: int | None = None) -> tuple[int, Example]:
        """A problem and its number; a random one where none is given.

        Raises:
            ConfigError: there is no such source or number.
            MissingFileError: the source is not prepared.
            DataError: its file cannot be used.
        """
        count = self._count(source)
        if number is None:
            number = secrets.randbelow(count)
        if not 0 <= number < count:
            raise ConfigError(
                f"`{source}` has no problem {number}", hint=f"choose one from 0 to {count - 1}"
            )
        if source in AQUA_SOURCES:
            return number, self._rows(source)[number]
        split = SYNTHETIC_SOURCES[source]
        (item,) = generate_items(split, SYNTHETIC_SEED, 1, start=number)
        return number, choice_example(item)

    def _count(self, source: str) -> int:
        if source in AQUA_SOURCES:
            return len(self._rows(source))
        if source in SYNTHETIC_SOURCES:
            return NUM_SYNTHETIC
        names = ", ".join((*AQUA_SOURCES, *SYNTHETIC_SOURCES))
        raise ConfigError(f"there is no source of problems `{source[:60]}`", hint=f"use {names}")

    def _rows(self, source: str) -> list[Example]:
        if source not in self._loaded:
            name, split = AQUA_SOURCES[source]
            task = task_by_name(name, split, data_root=self.data_root, aqua_dir=self.aqua_dir)
            self._loaded[source] = [task[index] for index in range(len(task))]
        return self._loaded[source]
