"""Muon for the matrices of the blocks, AdamW for the embedding, the head and the scalars.

Muon: Keller Jordan, https://kellerjordan.github.io/posts/muon (2024): momentum, then the nearest
semi-orthogonal matrix by a Newton-Schulz iteration, then a step. The iteration runs over all
matrices of one shape at once.

With several processes, the caller has summed the gradients over them before `step`; every process
then computes the same update from the same state, bit for bit.

Shapes: K matrices of one shape, R rows (out), S columns (in).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from aquachat.errors import ConfigError
from aquachat.model.gpt import GPT
from aquachat.world import DTYPES, choose_dtype

NEWTON_SCHULZ_STEPS: Final = 5
NEWTON_SCHULZ_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""Quintic that lifts small singular values fastest; they end between about 0.7 and 1.2."""
NORM_FLOOR: Final = 1e-7
"""Added to the norm: an all-zero gradient gives a zero update, not NaN."""
REFERENCE_WIDTH: Final = 768
"""Embedding and head learning rates are stated for this hidden size."""

ParamGroup = dict[str, Any]


def param_groups(
    model: GPT,
    *,
    embedding_lr: float = 0.2,
    unembedding_lr: float = 0.004,
    matrix_lr: float = 0.02,
    scalar_lr: float = 0.01,
    weight_decay: float = 0.0,
    adam_betas: tuple[float, float] = (0.8, 0.95),
    momentum: float = 0.95,
    newton_schulz_dtype: torch.dtype | None = None,
) -> list[ParamGroup]:
    """The groups of `MuonAdamW`: embedding, unembedding, matrix and, where there are any, scalar.

    Args:
        model: the model whose parameters are grouped; each lands in exactly one group.
        embedding_lr: at width 768; used times (width / 768)**-0.5, as is `unembedding_lr`.
        unembedding_lr: of the head.
        matrix_lr: of Muon.
        scalar_lr: of smear and lambdas, not scaled.
        weight_decay: decoupled, on embedding and head, as nanochat has it.
        adam_betas: decay of AdamW's two means.
        momentum: of Muon; a schedule may set it anew before each step (`set_momentum`).
        newton_schulz_dtype: None is bfloat16 where the device multiplies it natively, else float32.
            Kept in the state dict, so a resumed run goes on with it.
    """
    scale = (model.config.hidden_size / REFERENCE_WIDTH) ** -0.5
    # `fused` is read by torch when a state dict is loaded: the step count follows the parameter.
    adam = {"kind": "adamw", "betas": adam_betas, "eps": 1e-10, "fused": True}
    if newton_schulz_dtype is None:
        newton_schulz_dtype = choose_dtype("auto", model.lm_head.weight.device)
    scalars = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups: list[ParamGroup] = [
        {
            **adam,
            "name": "embedding",
            "params": [model.embed_tokens.weight],
            "lr": embedding_lr * scale,
            "weight_decay": weight_decay,
        },
        {
            **adam,
            "name": "unembedding",
            "params": [model.lm_head.weight],
            "lr": unembedding_lr * scale,
            "weight_decay": weight_decay,
        },
        {
            "kind": "muon",
            "name": "matrix",
            "params": [weight for weight in model.layers.parameters() if weight.dim() == 2],
            "lr": matrix_lr,
            "weight_decay": 0.0,
            "momentum": momentum,
            "newton_schulz_dtype": str(newton_schulz_dtype).removeprefix("torch."),
        },
    ]
    if scalars:
        groups.append(
            {**adam, "name": "scalar", "params": scalars, "lr": scalar_lr, "weight_decay": 0.0}
        )
    for group in groups:
        group["initial_lr"] = group["lr"]
    return groups


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer over `param_groups`, with one state dict that resumes bit for bit.

    A parameter whose gradient is None is left alone. A gradient of zeros is not the same: momentum
    goes on moving the weights. Where a whole step carries no signal (in RL, all groups of rollouts
    without variance), the caller must not call `step`: Muon gives any noise a full-size update.
    """

    def __init__(self, groups: Iterable[ParamGroup]) -> None:
        groups = list(groups)
        for group in groups:
            if group["kind"] not in ("muon", "adamw"):
                raise ConfigError(
                    f"there is no optimizer kind `{group['kind']}`", hint="use muon or adamw"
                )
        super().__init__(groups, defaults={})

    def set_lr_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its initial one."""
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def set_momentum(self, momentum: float) -> None:
        """Set Muon's momentum for the next step."""
        for group in self.param_groups:
            if group["kind"] == "muon":
                group["momentum"] = momentum

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not params:
                continue
            if group["kind"] == "muon":
                self._muon_step(group, params)
            else:
                self._adamw_step(group, params)
        return loss

    def _muon_step(self, group: ParamGroup, params: list[Tensor]) -> None:
        dtype = DTYPES[group["newton_schulz_dtype"]]
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in params:
            by_shape[parameter.shape].append(parameter)
        for shape, same in by_shape.items():
            buffers = [self._buffer(parameter, "momentum_buffer") for parameter in same]
            gradients = [_gradient(parameter) for parameter in same]
            torch._foreach_lerp_(buffers, gradients, 1.0 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, buffers, group["momentum"])
            update = orthogonalize(torch.stack(nesterov), dtype)  # (K, R, S)
            if group["weight_decay"]:
                torch._foreach_mul_(same, 1.0 - group["lr"] * group["weight_decay"])
            step_size = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
            updates = list(update.to(same[0].dtype).unbind())
            torch._foreach_add_(same, updates, alpha=-step_size)

    def _adamw_step(self, group: ParamGroup, params: list[Tensor]) -> None:
        for parameter in params:
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros(
                    (), dtype=torch.float32, device=parameter.device
                )
        beta1, beta2 = group["betas"]
        adamw(
            params,
            [_gradient(parameter) for parameter in params],
            [self._buffer(parameter, "exp_avg") for parameter in params],
            [self._buffer(parameter, "exp_avg_sq") for parameter in params],
            [],
            [self.state[parameter]["step"] for parameter in params],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _buffer(
        self, parameter: Tensor, name: Literal["momentum_buffer", "exp_avg", "exp_avg_sq"]
    ) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Bring the singular values of each (R, S) matrix of (K, R, S) near 1, keeping its directions.

    Five Newton-Schulz steps in `dtype`, on the side with the smaller Gram matrix. Zeros stay zeros.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.float()
    x = (x / (torch.linalg.matrix_norm(x, keepdim=True) + NORM_FLOOR)).to(dtype)
    if is_tall:
        x = x.mT.contiguous()
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if is_tall else x
