"""Every graded reply as a row on disk, so that any figure can be computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aquachat.errors import DataError, MissingFileError
from aquachat.files import atomic_writer, json_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One reply to one question in one option order, and its grade."""

    id: str
    """Of the question: rows of one id are replies to the same question."""
    order: int = 0
    """How many places the options were moved down; 0 is the order of the data."""
    sample: int = 0
    question: str
    """What the user said, options included."""
    gold: str
    choices: tuple[str, ...] = ()
    """The letters; empty for free-form answers."""
    answer: str | None
    """The letter or number that was read; None where the reply names none."""
    correct: bool
    reward: float
    reply: str
    """What was graded: the text without calculator calls."""
    parts: tuple[Mapping[str, str], ...] = ()
    """The reply as it was written, `{"type", "text"}` each."""
    finish: str
    """A `StopReason`."""
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    """Of the reply, forced tokens and the stop token included."""
    probabilities: Mapping[str, float] | None = None
    """Categorical protocol: of each letter, among the letters."""
    options_only: str | None = None
    """The letter that a classifier chooses which sees the options of this row alone."""
    is_well_formed: bool = False
    """Whether the reply ended by itself, in the one answer line that it has."""
    num_calls: int = 0
    """Well-formed calculator calls."""
    num_executed_calls: int = 0
    """Those of them that the calculator could evaluate."""
    attributes: Mapping[str, str | int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A row of the file."""
        row = asdict(self)
        if self.probabilities is None:
            del row["probabilities"]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Prediction:
        """The inverse of `to_json`.

        Raises:
            TypeError: a key is missing or unknown.
        """
        known = {**row, "choices": tuple(row["choices"]), "parts": tuple(row["parts"])}
        return cls(**known)


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write one JSON object a line, atomically.

    Raises:
        DataError: the system refused; what was there before is unchanged.
    """
    with atomic_writer(path) as file:
        for prediction in predictions:
            file.write(json_line(prediction.to_json()))


def read_predictions(path: Path) -> list[Prediction]:
    """The rows that `write_predictions` wrote.

    Raises:
        MissingFileError: there is no such file.
        DataError: a line is no prediction.
    """
    try:
        lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    except FileNotFoundError as error:
        raise MissingFileError(
            f"there are no predictions in `{path}`", hint="run `aquachat eval`"
        ) from error
    found = []
    for number, line in enumerate(lines if lines != [b""] else [], start=1):
        try:
            found.append(Prediction.from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"line {number} of `{path}` is no prediction ({error})",
                hint="run `aquachat eval` again",
            ) from error
    return found
