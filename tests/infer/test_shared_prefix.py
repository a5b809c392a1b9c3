from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aquachat.infer.shared_prefix import MIN_SHARED_TOKENS, batches_of, groups_of
from tests.infer.models import chat_model, full_logits, make_engine, make_prompts

PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60), min_size=1, max_size=12)


def computed_tokens(groups: list, prompts: list[list[int]]) -> int:
    return sum(
        group.num_shared + sum(len(prompts[member]) - group.num_shared for member in group.members)
        for group in groups
    )


@given(PROMPTS, st.integers(0, 40))
def test_groups_hold_neighbours_that_begin_alike_and_never_cost_more(
    rests: list[list[int]], num_alike: int
) -> None:
    prompts = [[7] * num_alike + rest for rest in rests]
    groups = groups_of(prompts)
    members = [member for group in groups for member in group.members]
    assert members == list(range(len(prompts)))
    for group in groups:
        assert (group.num_shared > 0) == (len(group.members) > 1)
        heads = {tuple(prompts[member][: group.num_shared]) for member in group.members}
        assert len(heads) == 1
        assert all(len(prompts[member]) > group.num_shared for member in group.members)
        assert group.num_shared == 0 or group.num_shared >= MIN_SHARED_TOKENS
    assert computed_tokens(groups, prompts) <= sum(map(len, prompts))


def test_orders_of_a_question_stay_together_and_questions_apart() -> None:
    one, other = make_prompts([50, 40])
    other[:20] = one[:20]
    rests = make_prompts([12, 12, 12], seed=1)
    prompts = [question + rest for question in (one, other) for rest in rests]
    groups = groups_of(prompts)
    assert [group.members for group in groups] == [(0, 1, 2), (3, 4, 5)]
    assert [group.num_shared for group in groups] == [50, 40]


def test_batches_hold_every_group_once_within_the_limit() -> None:
    prompts = []
    for number, length in enumerate((20, 60, 33, 48)):
        (head,) = make_prompts([length], seed=number)
        prompts += [head + rest for rest in make_prompts([3, 9], seed=10 + number)]
    groups = groups_of(prompts)
    batches = list(batches_of(groups, prompts, 200))
    assert sorted(g.members for batch in batches for g in batch) == [g.members for g in groups]
    assert len(batches) > 1
    for batch in batches:
        rests = [sum(len(prompts[m]) - g.num_shared for m in g.members) for g in batch]
        assert len(batch) * (max(g.num_shared for g in batch) + max(rests)) <= 200


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_logits_after_shared_beginnings_are_those_of_a_full_forward(
    arch: str, kv_heads: int
) -> None:
    model = chat_model(arch, num_kv_heads=kv_heads)
    prompts = []
    for number, length in enumerate((30, 60, 17, 5)):
        (head,) = make_prompts([length], seed=number)
        prompts += [head + rest for rest in make_prompts([1, 20, 7, 33], seed=10 + number)]
    prompts += [[*prompts[0]], [*prompts[0]], *make_prompts([96, 2], seed=99)]
    candidates = [65, 3, 200]
    found = make_engine(model).next_logits(prompts, candidates)
    expected = torch.stack([full_logits(model, prompt)[-1, candidates] for prompt in prompts])
    assert torch.allclose(found, expected, atol=1e-4)
