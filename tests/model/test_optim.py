from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from aquachat.errors import ConfigError
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.model.losses import cross_entropy_sum
from aquachat.model.optim import MuonAdamW, orthogonalize, param_groups
from tests.model.models import SHAPE, make_model, make_tokens


def train(model: GPT, optimizer: MuonAdamW, steps: range) -> list[float]:
    losses = []
    for step in steps:
        tokens = make_tokens(4, 17, seed=step)
        loss = cross_entropy_sum(model, model(tokens[:, :-1]), tokens[:, 1:]) / 64
        loss.backward()
        optimizer.set_lr_factor(1.0 / (step + 1))
        optimizer.set_momentum(0.85 + 0.01 * step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def copy_task(num_rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows that repeat their first half; targets only where they can be known."""
    half = make_tokens(num_rows, length, seed=seed)
    row = torch.cat((half, half), 1)
    targets = row[:, 1:].clone()
    targets[:, : length - 1] = -100
    return row[:, :-1], targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (2, 16, 64)])
def test_orthogonalized_matrices_have_singular_values_near_one(
    shape: tuple[int, ...], dtype: torch.dtype
):
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-3, 1.0, 1e3])[: shape[0], None, None]
    update = orthogonalize(matrices, dtype).float()
    singular = torch.linalg.svdvals(update)
    assert update.shape == matrices.shape
    assert singular.max() < 1.3
    assert singular.median() > 0.65
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    alignment = (update * (left @ right)).sum((-2, -1)) / left.shape[-1]
    assert (alignment > 0.5).all()


def test_one_by_one_equals_all_of_a_shape_at_once():
    torch.manual_seed(0)
    matrices = torch.randn(4, 24, 16)
    single = torch.cat([orthogonalize(matrix[None], torch.float32) for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices, torch.float32), single)


def test_muon_step_has_the_stated_size_and_direction():
    model = make_model()
    optimizer = MuonAdamW(param_groups(model, newton_schulz_dtype=torch.float32))
    weight = model.layers[0].mlp.fc1.weight  # (128, 32)
    before, gradient = weight.detach().clone(), torch.randn_like(weight)
    weight.grad = gradient.clone()
    optimizer.step()
    # The first momentum is 0.05 g, and Nesterov's mix a multiple of g: only its direction counts.
    expected = before - 0.02 * 2.0 * orthogonalize(gradient[None], torch.float32)[0]
    torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-4)


def test_muon_takes_nesterovs_mix_of_gradient_and_momentum():
    model = make_model()
    optimizer = MuonAdamW(param_groups(model, newton_schulz_dtype=torch.float32))
    optimizer.set_momentum(0.9)
    weight = model.layers[1].self_attn.v_proj.weight  # (32, 32)
    torch.manual_seed(0)
    first, second = torch.randn(2, 32, 32)
    weight.grad = first.clone()
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = second.clone()
    optimizer.step()
    momentum = 0.9 * 0.1 * first + 0.1 * second
    mix = 0.1 * second + 0.9 * momentum
    expected = before - 0.02 * orthogonalize(mix[None], torch.float32)[0]
    torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-4)


def test_adamw_step_equals_torchs():
    model = make_model("smear")
    twin = copy.deepcopy(model)
    groups = {group["name"]: group for group in param_groups(twin, weight_decay=0.1)}
    optimizer = MuonAdamW(param_groups(model, weight_decay=0.1))
    reference = torch.optim.AdamW(
        [
            {"params": group["params"], "lr": group["lr"], "weight_decay": group["weight_decay"]}
            for name, group in groups.items()
            if name != "matrix"
        ],
        betas=(0.8, 0.95),
        eps=1e-10,
    )
    for step in range(3):
        tokens = make_tokens(2, 9, seed=step)
        for net, optimiser in ((model, optimizer), (twin, reference)):
            loss = cross_entropy_sum(net, net(tokens[:, :-1]), tokens[:, 1:])
            gradients = torch.autograd.grad(loss, [*net.parameters()])
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                if not (parameter.dim() == 2 and parameter.shape[0] != 61):
                    parameter.grad = gradient
            optimiser.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, msg=name)


def test_groups_have_the_specified_rates_and_hold_each_parameter_once():
    model = make_model("smear", hidden_size=192)
    groups = {group["name"]: group for group in param_groups(model)}
    scale = (192 / 768) ** -0.5
    rates = {name: group["initial_lr"] for name, group in groups.items()}
    assert rates == {
        "embedding": pytest.approx(0.2 * scale),
        "unembedding": pytest.approx(0.004 * scale),
        "matrix": 0.02,
        "scalar": 0.01,
    }
    grouped = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert "scalar" not in {group["name"] for group in param_groups(make_model())}


def test_lr_factor_is_of_the_initial_rate():
    optimizer = MuonAdamW(param_groups(make_model()))
    for factor in (0.5, 0.25):
        optimizer.set_lr_factor(factor)
    assert all(group["lr"] == 0.25 * group["initial_lr"] for group in optimizer.param_groups)


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
def test_resumed_training_is_bit_for_bit_the_same(arch: str):
    model = make_model(arch)
    optimizer = MuonAdamW(param_groups(model))
    train(model, optimizer, range(3))
    weights, saved = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    groups: list[dict[str, Any]] = json.loads(json.dumps(saved["param_groups"]))
    saved["param_groups"] = groups  # as a checkpoint keeps it
    straight = train(model, optimizer, range(3, 6))

    resumed = make_model(arch, seed=9)
    resumed.load_state_dict(weights)
    fresh = MuonAdamW(param_groups(resumed))
    fresh.load_state_dict(saved)
    assert train(resumed, fresh, range(3, 6)) == straight
    for ours, theirs in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_newton_schulz_dtype_is_resumed():
    first = MuonAdamW(param_groups(make_model(), newton_schulz_dtype=torch.bfloat16))
    second = MuonAdamW(param_groups(make_model(), newton_schulz_dtype=torch.float32))
    second.load_state_dict(first.state_dict())
    assert second.param_groups[2]["newton_schulz_dtype"] == "bfloat16"


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12])
def test_zero_and_vanishing_gradients_leave_finite_weights(size: float):
    model = make_model("smear")
    before = copy.deepcopy(model.state_dict())
    optimizer = MuonAdamW(param_groups(model))
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, size)
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        if size == 0.0:
            assert torch.equal(parameter, before[name]), name


def test_parameter_without_gradient_is_left_alone_even_with_momentum():
    model = make_model()
    optimizer = MuonAdamW(param_groups(model))
    train(model, optimizer, range(2))
    frozen = model.layers[0].self_attn.q_proj.weight
    before, moved = frozen.detach().clone(), model.layers[1].self_attn.q_proj.weight
    was = moved.detach().clone()
    moved.grad = torch.randn_like(moved)
    optimizer.step()
    assert torch.equal(frozen, before)
    assert not torch.equal(moved, was)


def test_unknown_kind_is_refused():
    groups = [{"params": [torch.zeros(2, requires_grad=True)], "kind": "sgd"}]
    with pytest.raises(ConfigError, match="no optimizer kind `sgd`"):
        MuonAdamW(groups)


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copying_is_learned(arch: str, dtype: torch.dtype):
    shape = {**SHAPE, "hidden_size": 64, "num_heads": 2, "num_kv_heads": 2}
    model = GPT(GPTConfig.for_arch(arch, **shape))
    model.init_weights(seed=0)
    optimizer = MuonAdamW(param_groups(model))
    losses = []
    for step in range(120):
        inputs, targets = copy_task(32, 8, seed=step)
        hidden = model(inputs, compute_dtype=dtype)
        loss = cross_entropy_sum(model, hidden, targets) / (targets != -100).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(61.0).log().item(), rel=1e-3)
    assert losses[-1] < 0.5 * losses[0]
