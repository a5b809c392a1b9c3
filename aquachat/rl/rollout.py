"""Rollouts as a batch source: questions in, sampled and graded replies out.

P prompts, G replies of one prompt, T time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aquachat.config.recipes import RlRecipe
from aquachat.data.order import EpochOrders
from aquachat.data.packing import padded
from aquachat.infer.engine import Engine
from aquachat.infer.types import Completion, SamplingParams
from aquachat.model.batch import IGNORE, Batch, JsonDict, RolloutFields
from aquachat.rl.grpo import group_advantages
from aquachat.tasks.base import Example, Grade, Task, grade_all
from aquachat.text.render import ChatRenderer, StopReason
from aquachat.world import World

WIDTH_MULTIPLE = 32
"""Widths of micro-batches are rounded up to it, as in `data.packing`: few matrix shapes."""

ExampleAt = Callable[[int, int], Example]
"""(index into the task, epoch) -> the example, its options perhaps in another order each epoch."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled reply and what it earned."""

    example: Example
    prompt: Sequence[int]
    completion: Completion
    text: str
    grade: Grade
    advantage: float
    group: int


@dataclass(slots=True, kw_only=True)
class RolloutSource:
    """Samples `num_generations` replies for each question of a step with the current policy.

    The questions of step s are a function of (seed, s) alone; the sampling noise of a reply is a
    function of (seed, s, prompt, reply number), whichever process samples it.
    """

    task: Task
    example_at: ExampleAt
    engine: Engine
    renderer: ChatRenderer
    recipe: RlRecipe
    world: World
    seed: int
    on_rollouts: Callable[[int, Sequence[Rollout]], None] | None = None
    _metrics: dict[str, float] = field(default_factory=dict)
    _orders: EpochOrders = field(init=False)

    def __post_init__(self) -> None:
        self._orders = EpochOrders(len(self.task), self.seed, "rollouts")

    def step_batches(self, step: int) -> Sequence[Batch]:
        """Sample, grade and batch the rollouts of `step`."""
        started = time.perf_counter()
        self.engine.refresh()
        examples = self._examples(step)
        prompts = [self.renderer.prompt(e.conversation.without_last()) for e in examples]
        params = SamplingParams(
            max_new_tokens=self.recipe.max_new_tokens,
            temperature=self.recipe.temperature,
            top_k=self.recipe.top_k,
            num_samples=self.recipe.num_generations,
            seed=hash_seed(self.seed, step),
        )
        completions_P_G = self.engine.generate(prompts, params)
        seconds = time.perf_counter() - started
        rollouts = self._graded(examples, prompts, completions_P_G)
        self._metrics = self._measure(rollouts, seconds)
        if self.on_rollouts is not None:
            self.on_rollouts(step, rollouts)
        used = [r for r in rollouts if r.advantage != 0.0]
        return make_batches(used, self.recipe.device_batch_tokens, self.world.device)

    def metrics(self) -> Mapping[str, float]:
        """What the last `step_batches` measured, over all processes."""
        return self._metrics

    def state_dict(self) -> JsonDict:
        """Empty: strictly on-policy, so nothing is pending between steps."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def _examples(self, step: int) -> list[Example]:
        """This process's share of the step's questions."""
        per_step, total = self.recipe.prompts_per_step, len(self.task)
        positions = range(step * per_step, (step + 1) * per_step)
        mine = positions[self.world.rank :: self.world.size]
        return [self.example_at(*self._locate(position, total)) for position in mine]

    def _locate(self, position: int, total: int) -> tuple[int, int]:
        """(index, epoch) of the question at `position` of the endless shuffled order."""
        epoch, offset = divmod(position, total)
        return int(self._orders[epoch][offset]), epoch

    def _graded(
        self,
        examples: Sequence[Example],
        prompts: Sequence[Sequence[int]],
        completions_P_G: Sequence[Sequence[Completion]],
    ) -> list[Rollout]:
        texts_P_G = [
            [self.renderer.parse(c.tokens).text for c in completions_G]
            for completions_G in completions_P_G
        ]
        pairs = [
            (example, text)
            for example, texts_G in zip(examples, texts_P_G, strict=True)
            for text in texts_G
        ]
        grades = iter(grade_all(self.task, pairs))
        grades_P_G = [[next(grades) for _ in texts_G] for texts_G in texts_P_G]
        advantages_P_G = group_advantages([[g.reward for g in grades] for grades in grades_P_G])
        return [
            Rollout(
                examples[p],
                prompts[p],
                completion,
                texts_P_G[p][g],
                grades_P_G[p][g],
                advantages_P_G[p][g],
                group=p,
            )
            for p, completions_G in enumerate(completions_P_G)
            for g, completion in enumerate(completions_G)
        ]

    def _measure(self, rollouts: Sequence[Rollout], seconds: float) -> dict[str, float]:
        """The `rl/` metrics of this step, over all processes."""
        letters = "ABCDE" if self.task.protocols >= {"categorical"} else ""
        sums = {
            "count": float(len(rollouts)),
            "rl/acc": float(sum(r.grade.correct for r in rollouts)),
            "rl/mean_reward": sum(r.grade.reward for r in rollouts),
            "rl/format_valid": float(sum(r.grade.answer is not None for r in rollouts)),
            "rl/completion_tokens_mean": float(sum(len(r.completion.tokens) for r in rollouts)),
            "rl/truncated_fraction": float(
                sum(r.completion.finish is StopReason.LENGTH for r in rollouts)
            ),
        }
        groups = {r.group for r in rollouts}
        used = {r.group for r in rollouts if r.advantage != 0.0}
        num_groups, num_used = self.world.sum_scalars(float(len(groups)), float(len(used)))
        for letter in letters:
            answers = sum(r.grade.answer == letter for r in rollouts)
            sums[f"rl/letter_fraction/{letter}"] = float(answers)
        totals = dict(zip(sums, self.world.sum_scalars(*sums.values()), strict=True))
        count = totals.pop("count")
        means = {name: value / count for name, value in totals.items()}
        generated = totals["rl/completion_tokens_mean"]
        return means | {
            "rl/frac_groups_used": num_used / num_groups,
            "rl/rollout_tokens_per_second": generated / seconds,
        }


def hash_seed(*parts: int) -> int:
    """A 63-bit seed from whole numbers, the same on every platform (splitmix64 steps)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def make_batches(
    rollouts: Sequence[Rollout], device_batch_tokens: int, device: torch.device
) -> list[Batch]:
    """Right-padded micro-batches of at most `device_batch_tokens` positions, sorted by length.

    The loss is on sampled tokens, the stop token among them; prompts, padding and tokens that a
    tool forced carry none. A single rollout longer than the limit is a batch of its own.
    """
    ordered = sorted(rollouts, key=lambda r: len(r.prompt) + len(r.completion.tokens))
    batches: list[Batch] = []
    rows: list[Rollout] = []
    for rollout in ordered:
        width = _width(rollout)
        if rows and (len(rows) + 1) * width > device_batch_tokens:
            batches.append(_pad(rows, device))
            rows = []
        rows.append(rollout)
    if rows:
        batches.append(_pad(rows, device))
    return batches


def _width(rollout: Rollout) -> int:
    """Positions of a row that holds this rollout."""
    return padded(len(rollout.prompt) + len(rollout.completion.tokens) - 1, WIDTH_MULTIPLE)


def _pad(rows: Sequence[Rollout], device: torch.device) -> Batch:
    """One micro-batch; row i predicts token t+1 at position t."""
    width = max(map(_width, rows))
    inputs = torch.zeros(len(rows), width, dtype=torch.int64)
    targets = torch.full((len(rows), width), IGNORE, dtype=torch.int64)
    advantages = torch.zeros(len(rows), width)
    old_logprobs = torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        tokens = torch.tensor([*row.prompt, *row.completion.tokens], dtype=torch.int64)
        first, last = len(row.prompt) - 1, len(tokens) - 1
        sampled = torch.tensor(row.completion.sampled, dtype=torch.bool)
        inputs[i, :last] = tokens[:-1]
        targets[i, first:last] = torch.where(sampled, tokens[first + 1 :], IGNORE)
        advantages[i, first:last] = row.advantage * sampled
        old_logprobs[i, first:last] = torch.tensor(row.completion.logprobs) * sampled
    groups = torch.tensor([row.group for row in rows], dtype=torch.int64)
    rollout = RolloutFields(advantages, old_logprobs, group_ids=groups)
    num_targets = int((targets != IGNORE).sum())
    return Batch(inputs, targets, num_targets, rollout=rollout).to(device)
