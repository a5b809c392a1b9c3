"""AQuA-RAT as a taskset: prompts and grades are aquachat's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import verifiers.v1 as vf

from aquachat.paths import aqua_directory, open_home
from aquachat.tasks.aqua import load_aqua
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.multiple_choice import choice_example, grade_choice, refers_to_options, rotate


class AquaData(vf.TaskData):
    """One question, with its options in the order in which they are asked."""

    question: str
    options: tuple[str, ...]
    answer_index: int


class AquaTask(vf.Task[AquaData]):
    """Grades the last reply."""

    @vf.reward(weight=1.0)
    async def answer(self, trace: vf.Trace) -> float:
        """1.0 for the right letter, and 0.1 for an answer line that names one."""
        return self._grade(trace).reward

    @vf.metric
    async def correct(self, trace: vf.Trace) -> float:
        """Whether the letter is right."""
        return float(self._grade(trace).correct)

    @vf.metric
    async def answered(self, trace: vf.Trace) -> float:
        """Whether one of the letters is named."""
        return float(self._grade(trace).answer is not None)

    def _grade(self, trace: vf.Trace):
        item = ChoiceItem(
            id=self.data.id or "",
            question=self.data.question,
            options=self.data.options,
            answer_index=self.data.answer_index,
        )
        return grade_choice(choice_example(item), trace.last_reply)


class AquaConfig(vf.TasksetConfig):
    """Which rows are asked."""

    split: Literal["train", "validation", "test"] = "train"
    data_dir: Path | None = None
    """Of the splits; by default `AQUA_DATA_DIR`, else where `aquachat prepare aqua` wrote."""
    max_examples: int | None = None
    permute: bool = True
    """Ask each question with its options in another order, so that letters cannot be learned."""


class AquaTaskset(vf.Taskset[AquaTask, AquaConfig]):
    """A split of AQuA-RAT."""

    def load(self) -> Iterator[AquaTask]:
        """One task a row, in the order of the file."""
        config = self.config
        folder = aqua_directory(config.data_dir, open_home()).path
        rows = load_aqua(folder, config.split, max_examples=config.max_examples)
        for index in range(len(rows)):
            item = rows[index].item
            if config.permute and not refers_to_options(item):
                item = rotate(item, index % len(item.options))
            example = choice_example(item)
            yield AquaTask(
                AquaData(
                    id=item.id,
                    prompt=example.conversation.messages[0].text,
                    question=item.question,
                    options=item.options,
                    answer_index=item.answer_index,
                ),
                config.task,
            )
