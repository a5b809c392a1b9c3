"""What a stage will take from each source of its mixture, before anything is loaded or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aquachat.config.recipes import ChatRecipe
from aquachat.data.manifest import read_manifest
from aquachat.data.mixture import Mixture
from aquachat.errors import AquachatError
from aquachat.pipeline.mixtures import (
    DataFolders,
    PartRequest,
    part_source,
    train_split,
)
from aquachat.train.schedule import chat_steps

MANY_EPOCHS = 20
"""A source that is gone over more often than this is warned about."""
COLUMNS = ("source", "rows", "share", "examples", "epochs")
NOT_PREPARED = "not prepared"


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One source of a mixture; what cannot be known yet is None."""

    source: str
    rows: int | None
    """None where the set is not prepared."""
    share: float
    """Of all examples."""
    examples: int | None
    epochs: float | None

    def cells(self) -> tuple[str, ...]:
        """A row of the table with `COLUMNS`."""
        return (
            self.source,
            NOT_PREPARED if self.rows is None else f"{self.rows:,}",
            f"{100 * self.share:.2f}%",
            "-" if self.examples is None else f"{self.examples:,}",
            "-" if self.epochs is None else f"{self.epochs:,.2f}",
        )


def plan_mixture(recipe: ChatRecipe, stage: str, folders: DataFolders) -> list[PlannedPart]:
    """The sources of a stage with what it will take from each; none where it names none.

    Rows are those of the manifests. Rows that turn out to be unusable make the real figures, in
    `mixture.json`, a little higher in epochs.

    Raises:
        ConfigError: a weight that cannot be.
    """
    weights = {name: weight for name, weight in recipe.mixture.items() if weight > 0}
    if not weights:
        return []
    rows = [part_rows(PartRequest(name, recipe, stage, 0, folders)) for name in weights]
    mixture = Mixture(list(weights), [size or 1 for size in rows], list(weights.values()), 0)
    num_examples = _num_examples(recipe, mixture, rows)
    use = mixture.use(num_examples or 0)
    return [
        PlannedPart(
            name,
            size,
            share / sum(mixture.shares),
            None if num_examples is None else use[name].examples,
            None if num_examples is None or size is None else use[name].epochs,
        )
        for name, size, share in zip(weights, rows, mixture.shares, strict=True)
    ]


def many_epochs_warnings(plan: Sequence[PlannedPart], stage: str) -> list[str]:
    """A sentence for each source that is gone over so often that it would be learned by heart."""
    return [
        f"{stage} goes {part.epochs:,.0f} times over the {part.rows:,} rows of {part.source}; "
        f"lower its weight in `{stage}.mixture`, or prepare more rows"
        for part in plan
        if part.epochs is not None and part.epochs > MANY_EPOCHS
    ]


def part_rows(request: PartRequest) -> int | None:
    """Rows in an epoch of a part, None where its set is not prepared."""
    source = part_source(request.name)
    if source.dataset is None:
        return request.recipe.synthetic_rows
    split = train_split(request, source.dataset)
    found = _rows_of(request.prepared_file(source.dataset, split), split)
    limit = source.limit(request.recipe)
    return min(found, limit) if found and limit else found


def _num_examples(recipe: ChatRecipe, mixture: Mixture, rows: Sequence[int | None]) -> int | None:
    is_known = recipe.num_iterations or recipe.examples_per_epoch or None not in rows
    if not is_known:
        return None
    return chat_steps(recipe, mixture.epoch_examples()) * recipe.examples_per_step


def _rows_of(path: Path, split: str) -> int | None:
    if not path.is_file():
        return None
    try:
        return read_manifest(path.parent).splits[split].rows
    except (AquachatError, KeyError):  # rows that somebody put there without `prepare`
        with path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
