"""Group-relative policy optimisation: advantages and the loss, as pure functions and an objective.

GRPO (Shao et al. 2024, arXiv 2402.03300) without the division by the standard deviation (Dr. GRPO,
arXiv 2503.20783) and with the loss averaged over the tokens of the global batch (DAPO, arXiv
2503.14476). Names follow TRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aquachat.model.batch import IGNORE, Batch
from aquachat.model.gpt import GPT
from aquachat.model.losses import target_logprobs
from aquachat.train.objective import LossSum


def group_advantages(rewards_P_G: Sequence[Sequence[float]]) -> list[list[float]]:
    """Reward minus the mean of its group.

    Example:
        rewards [[1.1, 0.1]] -> [[0.5, -0.5]]; a group of equal rewards -> all 0.0, exactly.
    """
    advantages_P_G = []
    for rewards_G in rewards_P_G:
        if min(rewards_G) == max(rewards_G):
            advantages_P_G.append([0.0] * len(rewards_G))
            continue
        mean = sum(rewards_G) / len(rewards_G)
        advantages_P_G.append([reward - mean for reward in rewards_G])
    return advantages_P_G


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, epsilon: float, epsilon_high: float
) -> Tensor:
    """PPO's pessimistic loss of each token, to be minimised.

    Args:
        logprobs: (N,) under the policy that is trained, with gradient.
        old_logprobs: (N,) under the policy that sampled.
        advantages: (N,).
        epsilon: the ratio is clipped to [1 - epsilon, 1 + epsilon_high].
        epsilon_high: see `epsilon`.

    Returns:
        (N,) -min(ratio * A, clip(ratio) * A).
    """
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1.0 - epsilon, 1.0 + epsilon_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


@dataclass(frozen=True, slots=True)
class PolicyGradient:
    """Clipped policy gradient summed over sampled tokens, divided by their global number."""

    epsilon: float
    epsilon_high: float
    temperature: float

    def denominator(self, batch: Batch) -> float:
        """The number of sampled tokens, those of groups that carry no signal left out."""
        return float(batch.num_targets)

    def __call__(self, model: GPT, batch: Batch, dtype: torch.dtype) -> LossSum:
        """The loss of one micro-batch of rollouts.

        On-policy the probability ratio is 1 by definition, so the log-probabilities of this very
        forward pass stand for the old ones; those noted while sampling differ by rounding only,
        and that gap is logged as `rl/sampling_logp_difference`.
        """
        rollout = batch.rollout
        assert rollout is not None
        mask = (batch.targets != IGNORE).flatten()
        hidden = model(batch.inputs, segments=batch.segments, compute_dtype=dtype)
        logprobs, entropy = target_logprobs(
            model,
            hidden,
            batch.targets,
            temperature=self.temperature,
            num_targets=batch.num_targets,
        )
        logprobs, entropy = logprobs.flatten()[mask], entropy.flatten()[mask]
        advantages = rollout.advantages.flatten()[mask]
        sampled_logprobs = rollout.old_logprobs.flatten()[mask]
        losses = clipped_surrogate(
            logprobs, logprobs.detach(), advantages, self.epsilon, self.epsilon_high
        )
        with torch.no_grad():
            gap = (logprobs - sampled_logprobs).abs().sum()
        return LossSum(
            losses.sum(),
            {"rl/entropy_mean": entropy.detach().sum(), "rl/sampling_logp_difference": gap},
        )
