"""Data sets of conversations for training: from a task, and from `messages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aquachat.data.order import generator_for
from aquachat.tasks.annotate import with_calls
from aquachat.tasks.base import ChoiceItem, Example, Task
from aquachat.tasks.multiple_choice import choice_conversation
from aquachat.tasks.option_order import reorder
from aquachat.text.conversation import Conversation


@dataclass(frozen=True, slots=True)
class FixedConversations:
    """Conversations that are the same in every epoch."""

    conversations: Sequence[Conversation]

    def __len__(self) -> int:
        return len(self.conversations)

    def get(self, index: int, epoch: int) -> Conversation:
        """Conversation `index`, whatever the epoch."""
        return self.conversations[index]


@dataclass(frozen=True, slots=True)
class TaskConversations:
    """The first `count` examples of a task as conversations.

    Options stand in another random order in every epoch, which depends on (seed, epoch, id of the
    item). An item whose options refer to each other keeps its order where relabelling could change
    its meaning. With `calculator`, arithmetic in the rationale that holds becomes calculator calls.
    """

    task: Task
    seed: int
    shuffle_options: bool = True
    calculator: bool = False
    count: int | None = None
    """None for all; more than there are is all."""

    def __len__(self) -> int:
        return len(self.task) if self.count is None else min(self.count, len(self.task))

    def get(self, index: int, epoch: int) -> Conversation:
        """Example `index` of the task, with the options of this epoch."""
        example: Example = self.task[index]
        item = example.item
        if item is None or not (self.shuffle_options or self.calculator):
            return example.conversation
        if self.shuffle_options:
            item = shuffled_options(item, self.seed, epoch)
        return choice_conversation(with_calls(item) if self.calculator else item)


def shuffled_options(item: ChoiceItem, seed: int, epoch: int) -> ChoiceItem:
    """The item with its options in the order that (seed, epoch, id of the item) decides."""
    order = generator_for(seed, "options", epoch, item.id).permutation(len(item.options))
    return reorder(item, order.tolist())
