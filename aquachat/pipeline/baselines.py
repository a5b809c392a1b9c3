"""The options-only baseline of each task, fitted on its training split where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aquachat.errors import AquachatError
from aquachat.eval.options_only import OptionsOnly, fit_options_only
from aquachat.pipeline.mixtures import DataFolders
from aquachat.tasks.base import ChoiceItem, Task
from aquachat.tasks.registry import TASKS
from aquachat.tasks.synthetic_task import synthetic_task

TRAINING_TASK = {"AQUA-HELDOUT": "AQUA"}
"""Where a task has no training split of its own."""


@dataclass(slots=True)
class OptionsOnlyBaselines:
    """Classifiers by task, each fitted once, when it is first asked for."""

    folders: DataFolders
    num_rows: int
    """Training questions for each; 0 fits none."""
    with_places: bool
    _fitted: dict[tuple[str, str], OptionsOnly | str] = field(default_factory=dict)

    def of(self, task: Task) -> OptionsOnly | str:
        """The classifier for a task, or in one clause why there is none."""
        key = (task.name, task.split)
        if key not in self._fitted:
            self._fitted[key] = self._fit(task)
        return self._fitted[key]

    def _fit(self, task: Task) -> OptionsOnly | str:
        if not self.num_rows:
            return "`eval.options_only_rows` is 0"
        evaluated = _items(task)
        if not evaluated:
            return "answers are free-form"
        if task.split == "train":
            return "the questions are the training split itself"
        if task.name not in TASKS:
            return "rows at a path have no training split"
        try:
            training = _items(self._training_task(task.name))
            asked = {_normalised(item.question) for item in evaluated}
            kept = [item for item in training if _normalised(item.question) not in asked]
            return fit_options_only(kept, with_places=self.with_places)
        except AquachatError as error:
            return str(error)

    def _training_task(self, name: str) -> Task:
        if name == "SYNTHETIC":
            return synthetic_task("train", count=self.num_rows)
        source = TRAINING_TASK.get(name, name)
        return self.folders.task(source, "train", max_examples=self.num_rows)


def _items(task: Task) -> Sequence[ChoiceItem]:
    """The multiple-choice items of a task; none where its answers are free-form."""
    if not len(task) or task[0].item is None:
        return ()
    return [item for index in range(len(task)) if (item := task[index].item) is not None]


def _normalised(question: str) -> str:
    return "".join(character for character in question.lower() if character.isalnum())
