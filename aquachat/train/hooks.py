"""What a stage does beside the steps: evaluation, samples. The loop knows only this protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aquachat.model.gpt import GPT


@dataclass(frozen=True, slots=True)
class Hook:
    """Called every `every` steps and after the last one; its metrics join that step's line.

    `every = 0` means after the last step only.
    """

    name: str
    every: int
    measure: Callable[[GPT, int], Mapping[str, float]]
    """(model in evaluation mode, steps taken) -> metrics, run under `torch.no_grad`."""

    def is_due(self, step: int, num_steps: int) -> bool:
        """Whether to run after `step` steps."""
        return step == num_steps or (self.every > 0 and step % self.every == 0)
