from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aquachat.model import losses
from aquachat.model.batch import IGNORE
from aquachat.model.gpt import GPT
from aquachat.model.losses import cross_entropy_sum, target_logprobs
from tests.model.models import make_model, make_tokens


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 5 positions, so that every test crosses several and a partial one."""
    monkeypatch.setattr(losses, "CPU_BLOCK_ELEMENTS", 5 * 61)
    monkeypatch.setattr(losses, "MIN_BLOCK_POSITIONS", 1)


def make_case(*, all_targets: bool = False) -> tuple[GPT, Tensor, Tensor]:
    model = make_model()
    torch.manual_seed(1)
    hidden = torch.randn(3, 7, 32, requires_grad=True)
    targets = make_tokens(3, 7, seed=2)
    if not all_targets:
        targets[0, :4] = targets[2, 5] = IGNORE
    return model, hidden, targets


def plain_logprobs(
    model: GPT, hidden: Tensor, targets: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    log_p = torch.log_softmax(model.logits(hidden) / temperature, -1)
    present = targets != IGNORE
    chosen = log_p.gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return chosen * present, entropy * present


def assert_same_gradients(model: GPT, hidden: Tensor, ours: Tensor, plain: Tensor) -> None:
    inputs = (hidden, model.lm_head.weight)
    mine, theirs = (torch.autograd.grad(value, inputs) for value in (ours, plain))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("all_targets", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_fused_cross_entropy_equals_the_plain_formula(all_targets: bool, weighted: bool):
    model, hidden, targets = make_case(all_targets=all_targets)
    weights = torch.rand(targets.shape) if weighted else None
    ours = cross_entropy_sum(model, hidden, targets, weights)
    logprobs, _ = plain_logprobs(model, hidden, targets)
    plain = -(logprobs * (1.0 if weights is None else weights)).sum()
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-5)
    assert_same_gradients(model, hidden, ours * 0.37, plain * 0.37)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("part", ["logprobs", "entropy", "both"])
def test_fused_logprobs_and_entropy_equal_the_plain_formula(temperature: float, part: str):
    model, hidden, targets = make_case()
    ours = target_logprobs(model, hidden, targets, temperature=temperature)
    plain = plain_logprobs(model, hidden, targets, temperature)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    factor = torch.randn(targets.shape)
    sums = []
    for logprobs, entropy in (ours, plain):
        terms = {"logprobs": logprobs, "entropy": entropy, "both": logprobs + 0.3 * entropy**2}
        sums.append((terms[part] * factor).sum())
    assert_same_gradients(model, hidden, *sums)


def test_gradients_pass_gradcheck_in_float64():
    model = make_model().double()
    torch.manual_seed(0)
    hidden = torch.randn(6, 32, dtype=torch.float64, requires_grad=True)
    targets = make_tokens(6)

    def scaled(states: Tensor) -> Tensor:
        logprobs, entropy = target_logprobs(model, states, targets, temperature=1.3)
        return (logprobs.square() + entropy).sum()

    # The logits are float32 by design: the numeric slope is taken over a wide step.
    torch.autograd.gradcheck(scaled, (hidden,), eps=1e-2, atol=2e-2, rtol=1e-2)


def test_positions_without_a_target_give_zero_and_get_no_gradient():
    model, hidden, targets = make_case()
    logprobs, entropy = target_logprobs(model, hidden, targets)
    ignored = targets == IGNORE
    assert not logprobs[ignored].any()
    assert not entropy[ignored].any()
    assert (logprobs[~ignored] < 0).all()
    (cross_entropy_sum(model, hidden, targets) + logprobs.sum()).backward()
    assert hidden.grad is not None
    assert not hidden.grad[ignored].any()


def test_a_batch_without_targets_has_loss_zero_and_zero_gradients():
    model, hidden, targets = make_case()
    loss = cross_entropy_sum(model, hidden, torch.full_like(targets, IGNORE))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_number_of_targets_from_the_host_changes_nothing():
    model, hidden, targets = make_case()
    known = int((targets != IGNORE).sum())
    with_count = cross_entropy_sum(model, hidden, targets, num_targets=known)
    assert torch.equal(with_count, cross_entropy_sum(model, hidden, targets))


def test_loss_without_gradients_is_the_same_number():
    model, hidden, targets = make_case()
    loss = cross_entropy_sum(model, hidden, targets)
    with torch.no_grad():
        assert torch.equal(cross_entropy_sum(model, hidden, targets), loss)
    assert loss.requires_grad


def test_a_second_backward_is_refused_rather_than_silent():
    model, hidden, targets = make_case()
    loss = cross_entropy_sum(model, hidden, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only one backward"):
        loss.backward()


def test_cross_entropy_is_minus_the_sum_of_logprobs():
    model, hidden, targets = make_case()
    logprobs, _ = target_logprobs(model, hidden, targets)
    torch.testing.assert_close(cross_entropy_sum(model, hidden, targets), -logprobs.sum())


def test_bfloat16_loss_and_gradients_are_close_to_float32():
    model, hidden, targets = make_case()
    exact = cross_entropy_sum(model, hidden, targets)
    half = hidden.detach().bfloat16().requires_grad_()
    rounded = cross_entropy_sum(model, half, targets)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=5e-3)
    inputs = (model.lm_head.weight,)
    (reference,), (ours,) = (torch.autograd.grad(x, inputs) for x in (exact, rounded))
    assert ours.dtype == torch.float32
    assert (ours - reference).norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
@pytest.mark.parametrize("split", [[1, 5], [2, 2, 2], [1] * 6])
def test_gradient_does_not_depend_on_the_split_into_micro_batches(arch: str, split: list[int]):
    model = make_model(arch)
    inputs, targets = make_tokens(6, 11), make_tokens(6, 11, seed=1)
    for row, ignored in enumerate((0, 3, 10, 11, 5, 1)):
        targets[row, :ignored] = IGNORE
    denominator = int((targets != IGNORE).sum())

    def gradients(sizes: list[int]) -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        for part, answer in zip(inputs.split(sizes), targets.split(sizes), strict=True):
            (cross_entropy_sum(model, model(part), answer) / denominator).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for whole, parts in zip(gradients([6]), gradients(split), strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
