"""From depth to shape, parameters and horizon, without building the model or loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aquachat.config.recipes import ModelRecipe
from aquachat.errors import ConfigError
from aquachat.model.config import GPTConfig

WIDTH_PER_LAYER: Final = 64
HEAD_DIM: Final = 128
TOKENS_PER_PARAMETER: Final = 20.0
"""Chinchilla's ratio (https://arxiv.org/abs/2203.15556), over all parameters."""
TOKENS_PER_STEP: Final = 524_288


def width_of_depth(depth: int, head_dim: int = HEAD_DIM) -> int:
    """64 x depth, rounded up to whole heads.

    Example: depth 12 gives 768 (6 heads); depth 7 gives 512, not 448, since 448 is 3.5 heads.
    """
    if depth < 1:
        raise ConfigError(f"a model cannot have depth {depth}", hint="use `--depth 8` or more")
    return -(-WIDTH_PER_LAYER * depth // head_dim) * head_dim


def config_for_depth(depth: int, *, arch: str = "nanochat", **shape: Any) -> GPTConfig:
    """The config of a depth; `shape` gives `vocab_size` and `max_seq_len` and overrides the rest.

    Where `hidden_size`, `num_heads` or `num_kv_heads` is absent or 0, width is `width_of_depth`,
    heads are 128 wide, and each has its own keys and values.

    Raises:
        ConfigError: the depth or an override does not make a model.
    """
    width = shape.pop("hidden_size", None) or width_of_depth(depth)
    num_heads = shape.pop("num_heads", None) or -(-width // HEAD_DIM)
    num_kv_heads = shape.pop("num_kv_heads", None) or num_heads
    return GPTConfig.for_arch(
        arch,
        num_layers=depth,
        hidden_size=width,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        **shape,
    )


def config_for(recipe: ModelRecipe, *, vocab_size: int) -> GPTConfig:
    """The config that a `[model]` recipe asks for; its zeros stand for what depth gives.

    Raises:
        ConfigError: the recipe does not make a model.
    """
    return config_for_depth(
        recipe.depth,
        arch=recipe.arch,
        vocab_size=vocab_size,
        max_seq_len=recipe.max_seq_len,
        hidden_size=recipe.hidden_size,
        num_heads=recipe.num_heads,
        num_kv_heads=recipe.num_kv_heads,
    )


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """How many parameters a model has, and where."""

    embedding: int
    unembedding: int
    matrices: int
    scalars: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.unembedding + self.matrices + self.scalars


def count_parameters(config: GPTConfig) -> ParameterCounts:
    """The parameters of `GPT(config)`, by formula."""
    width = config.hidden_size
    attention = 2 * width * width + 2 * width * config.num_kv_heads * config.head_dim
    mlp = 2 * width * config.mlp_size
    scalars = width * config.smear + 2 * config.num_layers * config.x0_lambdas
    return ParameterCounts(
        embedding=config.vocab_size * width,
        unembedding=config.vocab_size * width,
        matrices=config.num_layers * (attention + mlp),
        scalars=scalars,
    )


def training_flops_per_token(config: GPTConfig, seq_len: int) -> int:
    """Training FLOPs per token: 6 per matrix weight, 12 T C per layer of attention, not halved.

    The count of nanochat and PaLM (appendix B, https://arxiv.org/abs/2204.02311), so that
    utilisation figures compare. The head counts, the embedding (a look-up) does not; a forward
    pass alone is a third.
    """
    counts = count_parameters(config)
    matrices = counts.total - counts.embedding
    return 6 * matrices + 12 * config.num_layers * config.hidden_size * seq_len


def base_iterations(
    num_parameters: int,
    tokens_per_parameter: float = TOKENS_PER_PARAMETER,
    tokens_per_step: int = TOKENS_PER_STEP,
) -> int:
    """Optimizer steps of base training, at least 1: whole steps within the token budget."""
    return max(1, int(num_parameters * tokens_per_parameter) // tokens_per_step)
