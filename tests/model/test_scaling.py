from __future__ import annotations

import pytest
import torch

from aquachat.config.recipes import ModelRecipe
from aquachat.errors import ConfigError
from aquachat.model.gpt import GPT
from aquachat.model.scaling import (
    base_iterations,
    config_for,
    config_for_depth,
    count_parameters,
    width_of_depth,
)


@pytest.mark.parametrize(
    ("depth", "vocab_size", "width", "heads", "millions"),
    [
        (8, 32_768, 512, 4, 59),
        (8, 65_536, 512, 4, 92),
        (12, 65_536, 768, 6, 186),
        (20, 65_536, 1280, 10, 561),
        (26, 65_536, 1664, 13, 1082),
    ],
)
def test_depth_gives_the_specified_shape_and_size(
    depth: int, vocab_size: int, width: int, heads: int, millions: int
):
    config = config_for_depth(depth, vocab_size=vocab_size, max_seq_len=2048)
    assert (config.hidden_size, config.num_heads, config.head_dim) == (width, heads, 128)
    assert round(count_parameters(config).total / 1e6) == millions


@pytest.mark.parametrize(("depth", "steps"), [(8, 3520), (12, 7080), (20, 21_400), (26, 41_275)])
def test_horizon_is_that_of_the_specification(depth: int, steps: int):
    config = config_for_depth(depth, vocab_size=65_536, max_seq_len=2048)
    assert base_iterations(count_parameters(config).total) == steps


def test_depth_that_does_not_divide_is_rounded_up_to_whole_heads():
    assert [width_of_depth(depth) for depth in (1, 2, 3, 7, 8)] == [128, 128, 256, 512, 512]
    with pytest.raises(ConfigError, match="depth 0"):
        width_of_depth(0)


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_formula_counts_what_the_model_has(arch: str, num_kv_heads: int):
    config = config_for_depth(
        8, arch=arch, vocab_size=1000, max_seq_len=256, num_kv_heads=num_kv_heads
    )
    with torch.device("meta"):
        model = GPT(config)
    counts = count_parameters(config)
    assert counts.total == model.num_parameters()
    assert counts.embedding == model.embed_tokens.weight.numel()
    assert counts.matrices == sum(p.numel() for p in model.layers.parameters())


def test_recipe_zeros_stand_for_what_depth_gives():
    config = config_for(ModelRecipe(depth=12), vocab_size=65_536)
    assert (config.hidden_size, config.num_heads, config.num_kv_heads) == (768, 6, 6)
    named = ModelRecipe(depth=3, arch="smear", hidden_size=128, num_heads=4, max_seq_len=384)
    config = config_for(named, vocab_size=1000)
    assert (config.hidden_size, config.num_heads, config.head_dim) == (128, 4, 32)
    assert (config.arch, config.max_seq_len, config.smear) == ("smear", 384, True)


def test_a_width_that_is_named_and_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="cannot make 3 heads"):
        config_for(ModelRecipe(depth=2, hidden_size=128, num_heads=3), vocab_size=100)
