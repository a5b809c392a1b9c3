from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aquachat.infer.types import Completion
from aquachat.model.batch import IGNORE
from aquachat.rl.grpo import PolicyGradient, clipped_surrogate, group_advantages
from aquachat.rl.rollout import WIDTH_MULTIPLE, Rollout, hash_seed, make_batches
from aquachat.tasks.base import Example, Grade
from aquachat.text.conversation import Conversation
from aquachat.text.render import StopReason
from tests.model.models import make_model

CPU = torch.device("cpu")
REWARDS = st.lists(st.sampled_from([0.0, 0.1, 1.1]), min_size=2, max_size=8)


@given(st.lists(REWARDS, min_size=1, max_size=5))
def test_advantages_sum_to_zero_and_flat_groups_are_exactly_zero(
    rewards_P_G: list[list[float]],
) -> None:
    for rewards, advantages in zip(rewards_P_G, group_advantages(rewards_P_G), strict=True):
        assert sum(advantages) == pytest.approx(0.0, abs=1e-12)
        if len(set(rewards)) == 1:
            assert advantages == [0.0] * len(rewards)
        else:
            assert [a + sum(rewards) / len(rewards) for a in advantages] == pytest.approx(rewards)


def test_the_surrogate_is_the_textbook_one() -> None:
    logprobs = torch.tensor([-1.0, -1.0, -2.0, -0.5])
    old = torch.tensor([-1.0, -1.5, -1.5, -1.5])
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    losses = clipped_surrogate(logprobs, old, advantages, 0.2, 0.3)
    expected = []
    for new, before, advantage in zip(
        logprobs.tolist(), old.tolist(), advantages.tolist(), strict=True
    ):
        ratio = math.exp(new - before)
        clipped = min(max(ratio, 0.8), 1.3)
        expected.append(-min(ratio * advantage, clipped * advantage))
    assert losses.tolist() == pytest.approx(expected)


def _rollout(
    prompt: list[int], tokens: list[int], advantage: float, forced: tuple[int, ...] = ()
) -> Rollout:
    sampled = tuple(place not in forced for place in range(len(tokens)))
    completion = Completion(
        tuple(tokens), tuple(-0.5 * s for s in sampled), sampled, StopReason.STOP
    )
    example = Example("x", Conversation(()), "A")
    return Rollout(example, prompt, completion, "", Grade(True, "A", 1.1), advantage, group=0)


def test_only_sampled_tokens_carry_loss_and_the_stop_token_is_one_of_them() -> None:
    batch = make_batches([_rollout([1, 2, 3], [4, 5, 6, 7], 0.5, forced=(1, 2))], 64, CPU)[0]
    assert batch.inputs.shape == (1, WIDTH_MULTIPLE)
    assert batch.inputs[0, :6].tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.targets[0, :6].tolist() == [IGNORE, IGNORE, 4, IGNORE, IGNORE, 7]
    assert (batch.targets[0, 6:] == IGNORE).all()
    assert batch.num_targets == 2
    assert batch.rollout is not None
    assert batch.rollout.advantages[0].tolist()[:7] == [0.0, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0]


def test_micro_batches_hold_every_rollout_once_within_the_limit() -> None:
    rollouts = [_rollout([1] * (3 + i), [2] * (1 + i % 4), 1.0) for i in range(20)]
    batches = make_batches(rollouts, 96, CPU)
    assert sum(len(batch.inputs) for batch in batches) == 20
    assert sum(b.num_targets for b in batches) == sum(len(r.completion.tokens) for r in rollouts)
    assert all(batch.inputs.numel() <= 96 for batch in batches)


def test_the_gradient_is_that_of_reinforce_and_ignores_the_micro_batch() -> None:
    """Brute force: -A log p of each sampled token, one rollout at a time, over all their tokens."""
    model = make_model()
    rollouts = [
        _rollout([1, 2, 3], [4, 5, 6], 0.7),
        _rollout([7, 8], [9, 10, 11, 12], -0.3, forced=(1,)),
        _rollout([1, 2, 3], [13], 0.2),
    ]
    total = sum(sum(r.completion.sampled) for r in rollouts)
    loss = torch.zeros(())
    for rollout in rollouts:
        tokens = torch.tensor([[*rollout.prompt, *rollout.completion.tokens]])
        hidden = model(tokens[:, :-1], compute_dtype=torch.float32)
        log_p = torch.log_softmax(model.logits(hidden[0]) / 0.8, dim=-1)
        for place, is_sampled in enumerate(rollout.completion.sampled):
            row = len(rollout.prompt) + place - 1
            if is_sampled:
                loss = loss - rollout.advantage * log_p[row, tokens[0, row + 1]] / total
    expected = torch.autograd.grad(loss, list(model.parameters()))

    objective = PolicyGradient(0.2, 0.2, temperature=0.8)
    for limit in (1, 16, 1000):
        model.zero_grad()
        batches = make_batches(rollouts, limit, CPU)
        assert sum(objective.denominator(b) for b in batches) == total
        for batch in batches:
            (objective(model, batch, torch.float32).value / total).backward()
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


def test_hash_seed_is_fixed_and_separates_its_parts() -> None:
    assert hash_seed(42, 0) == hash_seed(42, 0)
    assert len({hash_seed(a, b) for a in range(30) for b in range(30)}) == 900
    assert all(0 <= hash_seed(a, -1) < 2**63 for a in range(10))
