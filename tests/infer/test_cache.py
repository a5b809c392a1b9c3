from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from aquachat.infer.cache import GroupCache, Moves, bytes_per_token, storage_dtype
from tests.infer.models import CPU
from tests.model.models import make_model


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_closing_holes_keeps_every_slot_once_with_the_fewest_copies(kept: list[bool]) -> None:
    holes = [slot for slot, stays in enumerate(kept) if not stays]
    moves = Moves.closing(holes, len(kept))
    slots = list(range(len(kept)))
    for target, source in zip(moves.targets, moves.sources, strict=True):
        slots[target] = slots[source]
    survivors = [slot for slot, stays in enumerate(kept) if stays]
    assert sorted(slots[: moves.remaining]) == survivors
    assert len(moves.targets) == sum(1 for slot in holes if slot < len(survivors))


def test_a_group_leaves_with_its_last_row() -> None:
    config = make_model().config
    cache = GroupCache(
        config,
        max_groups=3,
        max_rows=6,
        max_prompt_tokens=4,
        max_new_tokens=4,
        dtype=torch.float32,
        device=CPU,
    )
    cache.prefill([2, 4, 3], [1, 3, 2])
    assert (cache.num_groups, cache.num_rows) == (3, 6)
    cache.remove([1, 2])
    assert (cache.num_groups, cache.num_rows) == (3, 4)
    cache.remove([0])
    assert (cache.num_groups, cache.num_rows) == (2, 3)
    cache.remove([0, 1, 2])
    assert (cache.num_groups, cache.num_rows) == (0, 0)


def test_bytes_of_a_position_are_counted() -> None:
    config = make_model(num_kv_heads=2).config
    assert bytes_per_token(config, torch.float32) == 2 * 2 * 2 * 8 * 4
    assert storage_dtype(CPU, torch.bfloat16) is torch.float32
    assert storage_dtype(torch.device("cuda"), torch.bfloat16) is torch.bfloat16
