from __future__ import annotations

import pytest
import torch

from aquachat.model.gpt import GPT
from aquachat.model.losses import cross_entropy_sum
from aquachat.model.memory import estimate_memory
from aquachat.model.scaling import config_for_depth
from tests.model.models import make_tokens


@pytest.mark.parametrize(
    ("device_type", "dtype"),
    [("cpu", torch.float32), ("cpu", torch.bfloat16), ("cuda", torch.float32)],
)
def test_activation_estimate_is_near_what_autograd_keeps(
    device_type: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    if device_type == "cuda":  # the operations that run there, executed here
        monkeypatch.setattr("aquachat.model.gpt.wants_cpu_ops", lambda x: False)
    config = config_for_depth(4, vocab_size=512, max_seq_len=512)
    model = GPT(config)
    model.init_weights(seed=0)
    tokens = make_tokens(1, 512, vocab_size=512)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = model(tokens, compute_dtype=dtype)
    loss = cross_entropy_sum(model, hidden, tokens)
    weights = sum(p.numel() * dtype.itemsize for p in model.layers.parameters())
    activations = sum(size for pointer, size in kept.items() if pointer not in own)
    if dtype != torch.float32:
        activations -= weights  # the cast matrices, counted with the weights
    estimate = estimate_memory(
        config, device_batch_tokens=512, dtype_bytes=dtype.itemsize, device_type=device_type
    )
    assert estimate.activations_bytes == pytest.approx(activations, rel=0.1)
    assert estimate.total_bytes > estimate.weights_bytes + estimate.activations_bytes
    assert loss.isfinite()
