"""AQUA: DeepMind's AQuA-RAT, algebra word problems with five options and a rationale.

Ling, Yogatama, Dyer, Blunsom: Program Induction by Rationale Generation (ACL 2017),
arXiv 1705.04146. Rows are read as `aquachat.tasks.rows` describes.
"""

from __future__ import annotations

from pathlib import Path

from aquachat.errors import ConfigError, MissingFileError
from aquachat.tasks.choice_task import ChoiceTask, load_choice_task

AQUA_SPLITS = ("train", "validation", "test")


def load_aqua(
    directory: Path, split: str = "validation", *, seed: int = 0, max_examples: int | None = None
) -> ChoiceTask:
    """A split of AQuA from a directory with `train.jsonl`, `validation.jsonl` and `test.jsonl`.

    DeepMind's own files, `train.json`, `dev.json` and `test.json`, are read where those are not.

    Raises:
        ConfigError: a split that AQuA does not have.
        MissingFileError: the directory lacks the split; nothing is downloaded in its place.
    """
    if split not in AQUA_SPLITS:
        raise ConfigError(
            f"AQUA has no split `{split}`", hint=f"use one of {', '.join(AQUA_SPLITS)}"
        )
    original = "dev" if split == "validation" else split
    candidates = (directory / f"{split}.jsonl", directory / f"{original}.json")
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise MissingFileError(
            f"the {split} split of AQUA is not in `{directory}`", hint="run `aquachat prepare aqua`"
        )
    return load_choice_task(
        path, name="AQUA", split=split, dataset="aqua", seed=seed, max_examples=max_examples
    )
