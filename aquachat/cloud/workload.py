"""What a run of the pipeline has to compute, counted from its recipe; without torch.

Tokens of base training are exact. Conversations are exact in number and assumed in length, since
their rows are not on this computer: `CONVERSATION_TOKENS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aquachat.config.recipes import ChatRecipe, Recipe, RlRecipe
from aquachat.config.resolve import Layer, preset_layers, preset_names, resolve
from aquachat.model.config import GPTConfig
from aquachat.model.memory import estimate_memory
from aquachat.model.scaling import (
    base_iterations,
    config_for,
    count_parameters,
    training_flops_per_token,
)
from aquachat.train.schedule import chat_steps

MODEL_PRESET: Final = "d12"
"""Whose other settings hold for a depth that has no preset of its own."""
CONVERSATION_TOKENS: Final[Mapping[str, int]] = {
    "smoltalk": 800,  # 1.81 GB in 460,341 rows (its card): 3,935 bytes, some cut at 2,048 tokens
    "chat": 300,
    "mmlu": 150,
    "gsm8k": 210,
    "aqua": 150,
    "arc-easy": 90,
    "arc-challenge": 100,
    "identity": 60,
    "spelling": 100,
    "synthetic": 120,
    "drills": 40,
}
"""Assumed tokens of a conversation, its special tokens included."""
OTHER_TOKENS: Final = 300
PROMPT_TOKENS: Final = 80
"""Assumed tokens of an AQuA question with its options."""
REPLY_TOKENS: Final = 128
"""Assumed tokens of a sampled reply, where `max_new_tokens` allows as many."""
CORE_TASKS: Final = 22
CORE_EXAMPLE_TOKENS: Final = 2000
"""Assumed tokens read for one question of CORE: its examples, times its options where they are
not shared."""
VALIDATION_QUESTIONS: Final = 254
"""Rows of AQuA's validation split."""
SHARD_MB: Final = 100
SHARD_TOKENS: Final = 50_000_000
"""About what a shard of FineWeb or ClimbMix comes to."""
OTHER_DOWNLOADS_MB: Final = 2000


@dataclass(frozen=True, slots=True)
class StageWork:
    """What one stage computes, over all GPUs."""

    name: str
    tokens: int = 0
    """Trained on, for `eval` none."""
    flops: float = 0.0
    """Of training, and of what is only read."""
    sampled_tokens: int = 0
    """Decoded one after the other: rollouts, and replies of evaluations."""
    num_rows: int = 0
    """Replies that are sampled at the same time, over all GPUs."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A run of the whole pipeline.

    Example:
        Workload.of_depth(8).tokens      # of base, mid, SFT and RL together
    """

    name: str
    """The preset, or `depth 16`."""
    recipe: Recipe
    config: GPTConfig
    stages: tuple[StageWork, ...]

    @classmethod
    def of_preset(cls, name: str) -> Workload:
        """`aquachat run NAME`.

        Raises:
            ConfigError: there is no such preset.
        """
        return cls.of_recipe(name, resolve(preset_layers(name)).recipe)

    @classmethod
    def of_depth(cls, depth: int) -> Workload:
        """The preset `dN`; where there is none, the GPU presets' settings at that depth.

        Raises:
            ConfigError: no model has this depth.
        """
        if f"d{depth}" in preset_names():
            return cls.of_preset(f"d{depth}")
        deep: tuple[str, Layer] = ("flag", {"model": {"depth": depth}})
        recipe = resolve([*preset_layers(MODEL_PRESET), deep]).recipe
        return cls.of_recipe(f"depth {depth}", recipe)

    @classmethod
    def of_recipe(cls, name: str, recipe: Recipe) -> Workload:
        """Any recipe, with what flags changed in it."""
        config = config_for(recipe.model, vocab_size=recipe.tokenize.vocab_size)
        stages = (
            _base(recipe, config),
            _chat("mid", recipe.mid, config),
            _chat("sft", recipe.sft, config),
            _rl(recipe.rl, config),
            _evaluation(recipe),
        )
        return cls(name, recipe, config, stages)

    @property
    def command(self) -> str:
        """What runs it; a depth without a preset takes the settings and as much text as it needs.

        Example: `aquachat run d12 --depth 16 --set prepare.shards=135`
        """
        if self.name in preset_names():
            return f"aquachat run {self.name}"
        depth = self.config.num_layers
        return f"aquachat run {MODEL_PRESET} --depth {depth} --set prepare.shards={self.num_shards}"

    @property
    def num_parameters(self) -> int:
        """All of the model's."""
        return count_parameters(self.config).total

    @property
    def tokens(self) -> int:
        """Trained on in all stages."""
        return sum(stage.tokens for stage in self.stages)

    @property
    def flops(self) -> float:
        """Of all stages, sampling not counted."""
        return sum(stage.flops for stage in self.stages)

    @property
    def sampled_tokens(self) -> int:
        """Of rollouts and evaluations."""
        return sum(stage.sampled_tokens for stage in self.stages)

    @property
    def num_shards(self) -> int:
        """Training shards of text that are needed: the preset's, or what base training reads."""
        if self.name in preset_names():
            return self.recipe.prepare.shards if _reads_shards(self.recipe) else 0
        return math.ceil(self.stages[0].tokens / SHARD_TOKENS)

    @property
    def downloaded_mb(self) -> int:
        """Data that the machine downloads, in 10^6 bytes; 0 for generated data."""
        return SHARD_MB * self.num_shards + (OTHER_DOWNLOADS_MB if self.num_shards else 0)

    @property
    def device_batch_tokens(self) -> int:
        """Of the largest micro-batch of any stage."""
        recipe = self.recipe
        stages = (recipe.base, recipe.mid, recipe.sft, recipe.rl)
        return max(stage.device_batch_tokens for stage in stages)

    @property
    def smallest_batch_tokens(self) -> int:
        """One row: no micro-batch can be smaller."""
        recipe = self.recipe
        return max(recipe.base.seq_len, recipe.mid.max_tokens, recipe.sft.max_tokens)

    def memory_bytes(self, device_batch_tokens: int) -> int:
        """Of one GPU while it trains in bfloat16; see `aquachat.model.memory`."""
        return estimate_memory(
            self.config,
            device_batch_tokens=device_batch_tokens,
            dtype_bytes=2,
            device_type="cuda",
        ).total_bytes

    @property
    def decode_bytes_per_step(self) -> int:
        """Weights that each step of sampling reads, bfloat16; the embedding is only looked up."""
        counts = count_parameters(self.config)
        return 2 * (counts.total - counts.embedding)

    @property
    def cache_bytes_per_row(self) -> int:
        """Keys and values that each step reads for each reply, bfloat16, halfway through it."""
        width = self.config.num_kv_heads * self.config.head_dim
        return 2 * 2 * self.config.num_layers * width * (PROMPT_TOKENS + REPLY_TOKENS // 2)


def _reads_shards(recipe: Recipe) -> bool:
    return bool({"fineweb", "climbmix"} & set(recipe.prepare.datasets))


def _base(recipe: Recipe, config: GPTConfig) -> StageWork:
    base = recipe.base
    steps = base.num_iterations or base_iterations(
        count_parameters(config).total, base.tokens_per_parameter, base.tokens_per_step
    )
    tokens = steps * base.tokens_per_step
    per_token = training_flops_per_token(config, base.seq_len)
    has_core = base.core_examples > 0 and "core" in recipe.prepare.datasets
    num_core = _num_evaluations(steps, base.core_every) if has_core else 0
    read = num_core * CORE_TASKS * base.core_examples * CORE_EXAMPLE_TOKENS
    read += _num_evaluations(steps, base.eval_every) * base.eval_tokens
    return StageWork("base", tokens, per_token * (tokens + read / 3))


def _chat(name: str, recipe: ChatRecipe, config: GPTConfig) -> StageWork:
    steps = chat_steps(recipe, recipe.synthetic_rows)
    examples = steps * recipe.examples_per_step
    length = _mean_tokens(recipe)
    tokens = round(examples * length)
    questions = _num_evaluations(steps, recipe.eval_every) * recipe.eval_examples
    replies = min(recipe.eval_max_new_tokens, REPLY_TOKENS)
    flops = float(tokens * training_flops_per_token(config, round(length)))
    return StageWork(name, tokens, flops, questions * replies, recipe.eval_examples)


def _mean_tokens(recipe: ChatRecipe) -> float:
    """Tokens of a conversation of the mixture, as assumed."""
    total = sum(recipe.mixture.values()) or 1.0
    lengths = {
        name: min(CONVERSATION_TOKENS.get(name, OTHER_TOKENS), recipe.max_tokens)
        for name in recipe.mixture
    }
    weighted = sum(weight * lengths[name] for name, weight in recipe.mixture.items())
    return weighted / total or float(OTHER_TOKENS)


def _rl(recipe: RlRecipe, config: GPTConfig) -> StageWork:
    """Every rollout is taken to be learned from, which is the most there can be."""
    reply = min(recipe.max_new_tokens, REPLY_TOKENS)
    rows = recipe.prompts_per_step * recipe.num_generations
    rollouts = recipe.num_iterations * rows
    tokens = rollouts * (PROMPT_TOKENS + reply)
    questions = _num_evaluations(recipe.num_iterations, recipe.eval_every) * recipe.eval_examples
    flops = float(tokens * training_flops_per_token(config, PROMPT_TOKENS + reply))
    return StageWork("rl", tokens, flops, (rollouts + questions) * reply, rows)


def _evaluation(recipe: Recipe) -> StageWork:
    """Generative questions only: reading a question once costs next to nothing."""
    entry = recipe.eval
    if "generative" not in entry.protocols:
        return StageWork("eval")
    rows = entry.max_examples or max(VALIDATION_QUESTIONS, recipe.prepare.synthetic_eval_rows)
    asked = len(entry.tasks) * rows * (entry.option_orders or 5) * len(entry.stages)
    reply = min(entry.max_new_tokens, REPLY_TOKENS)
    sampled = asked * entry.num_samples * reply
    return StageWork("eval", sampled_tokens=sampled, num_rows=rows)


def _num_evaluations(steps: int, every: int) -> int:
    """While training and at the end; `every` 0 is the end only."""
    return 1 + (steps // every if every else 0)
