from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aquachat.errors import ConfigError
from aquachat.model.attention import (
    apply_rope,
    causal_attention,
    document_mask,
    rope_tables,
)
from aquachat.model.batch import Segments
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT, RMS_NORM_EPS, rms_norm
from tests.model.models import SHAPE, make_model, make_tokens

ARCHS = ("nanochat", "smear")


class RecordingCache:
    """The simplest cache: all keys and values so far, attended one query at a time."""

    def __init__(self, batch: int, num_layers: int) -> None:
        self.seen = 0
        self.new = 0
        self.batch = batch
        self.keys: list[Tensor | None] = [None] * num_layers
        self.values: list[Tensor | None] = [None] * num_layers
        self.last: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        return torch.arange(self.seen, self.seen + self.new).expand(self.batch, -1)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        old_key, old_value = self.keys[layer], self.values[layer]
        if old_key is not None and old_value is not None:
            key, value = torch.cat((old_key, key), 1), torch.cat((old_value, value), 1)
        self.keys[layer], self.values[layer] = key, value
        repeats = query.shape[2] // key.shape[2]
        key, value = key.repeat_interleave(repeats, 2), value.repeat_interleave(repeats, 2)
        scores = torch.einsum("bthd,bshd->bhts", query, key) * query.shape[-1] ** -0.5
        allowed = torch.arange(key.shape[1]) <= self.positions[0][:, None]
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        return torch.einsum("bhts,bshd->bthd", weights, value)

    def previous_embedding(self, embedding: Tensor) -> Tensor:
        first = torch.zeros_like(embedding[:, :1]) if self.last is None else self.last
        self.last = embedding[:, -1:]
        return torch.cat((first, embedding[:, :-1]), 1)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    repeats = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(repeats, 2), value.repeat_interleave(repeats, 2)
    scores = torch.einsum("bthd,bshd->bhts", query, key) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshd->bthd", weights, value)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_forward_with_a_cache_equals_forward_without(arch: str, num_kv_heads: int):
    model = make_model(arch, num_kv_heads=num_kv_heads)
    tokens = make_tokens(3, 20)
    whole = model(tokens)
    cache = RecordingCache(3, model.config.num_layers)
    parts = []
    for part in tokens.split([7, 1, 1, 11], dim=1):
        cache.new = part.shape[1]
        parts.append(model(part, cache=cache))
        cache.seen += part.shape[1]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_later_tokens_do_not_change_earlier_states(arch: str):
    model = make_model(arch)
    tokens = make_tokens(2, 16)
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 61
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9], after[:, 9])


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("scale", [1, 20], ids=["short", "long"])
def test_documents_that_share_a_row_are_as_if_alone(arch: str, num_kv_heads: int, scale: int):
    lengths = [5 * scale, 1 * scale, 8 * scale]
    model = make_model(arch, num_kv_heads=num_kv_heads, max_seq_len=14 * scale)
    tokens = make_tokens(1, sum(lengths))
    ids = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths)).unsqueeze(0)
    together = model(tokens, segments=Segments(ids))
    alone = [model(document) for document in tokens.split(lengths, dim=1)]
    torch.testing.assert_close(together, torch.cat(alone, 1), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [12, 300], ids=["short", "long"])
def test_attention_and_its_gradients_equal_the_plain_formula(
    num_kv_heads: int, masked: bool, length: int
):
    torch.manual_seed(0)
    sizes = (4, num_kv_heads, num_kv_heads)
    inputs = [torch.randn(2, length, heads, 8, requires_grad=True) for heads in sizes]
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    mask = None
    if masked:
        document = torch.arange(length) >= length // 3
        allowed = allowed & (document[:, None] == document)
        mask = torch.zeros(2, 1, length, length).masked_fill(~allowed, float("-inf"))
    ours, plain = causal_attention(*inputs, mask), plain_attention(*inputs, allowed)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(ours)
    gradients = (torch.autograd.grad(out, inputs, upstream) for out in (ours, plain))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


def test_norm_and_its_gradient_equal_torchs():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 16, requires_grad=True)
    ours = rms_norm(x)
    theirs = torch.nn.functional.rms_norm(x, (16,), eps=RMS_NORM_EPS)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(x)
    mine, reference = (torch.autograd.grad(y, x, upstream)[0] for y in (ours, theirs))
    torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-5)
    assert torch.equal(rms_norm(torch.zeros(2, 16)), torch.zeros(2, 16))


def test_rotated_products_depend_on_the_distance_only():
    torch.manual_seed(0)
    cos, sin = (table[:, None] for table in rope_tables(64, 16, 10_000.0))
    query, key = torch.randn(16), torch.randn(16)
    queries, keys = (apply_rope(x.expand(1, 64, 1, 16), cos, sin)[0, :, 0] for x in (query, key))
    products = queries @ keys.T
    for distance in (0, 3, 17):
        along = products.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(queries.norm(dim=1), query.norm().expand(64))


def test_rotation_has_nanochats_sign():
    cos, sin = (table[:, None] for table in rope_tables(2, 2, 10_000.0))
    rotated = apply_rope(torch.tensor([1.0, 0.0]).expand(1, 2, 1, 2), cos, sin)[0, 1, 0]
    torch.testing.assert_close(rotated, torch.tensor([0.5403023, -0.8414710]))


def test_initial_weights_are_those_of_nanochat():
    model = GPT(GPTConfig(**{**SHAPE, "hidden_size": 256, "vocab_size": 512}))
    model.init_weights(seed=0)
    block = model.layers[0]
    for zero in (block.self_attn.o_proj, block.mlp.fc2, model.lm_head):
        assert not zero.weight.any()
    stds = {
        model.embed_tokens.weight: 1.0,
        block.self_attn.q_proj.weight: 256**-0.5,
        block.mlp.fc1.weight: 256**-0.5,
    }
    for weight, std in stds.items():
        assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert not model.logits(model(make_tokens(1, 4))).any()


def test_smear_starts_as_nanochat():
    plain, smear = (GPT(GPTConfig.for_arch(arch, **SHAPE)) for arch in ARCHS)
    for model in (plain, smear):
        model.init_weights(seed=3)
    smear.load_state_dict(plain.state_dict(), strict=False)
    tokens = make_tokens(2, 10)
    torch.testing.assert_close(plain(tokens), smear(tokens))


def test_same_seed_gives_the_same_bits_and_another_does_not():
    first, again, other = make_model(), make_model(), make_model(seed=1)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) and not torch.equal(a, c) for a, b, c in pairs)


def test_model_built_on_meta_becomes_the_same_model():
    config = GPTConfig.for_arch("smear", **SHAPE)
    with torch.device("meta"):
        model = GPT(config)
    assert all(parameter.is_meta for parameter in model.parameters())
    model.to_empty(device="cpu")
    model.init_weights(seed=5)
    direct = GPT(config)
    direct.init_weights(seed=5)
    tokens = make_tokens(1, 8)
    assert torch.equal(model(tokens), direct(tokens))


@pytest.mark.parametrize("arch", ARCHS)
def test_bfloat16_is_close_to_float32_and_gradients_are_float32(arch: str):
    model = make_model(arch, max_seq_len=512)
    tokens = make_tokens(2, 300)  # longer than the rows with an attention of their own
    exact = model(tokens)
    for rows in (tokens, tokens[:, :50]):
        rounded = model(rows, compute_dtype=torch.bfloat16)
        assert rounded.dtype == torch.bfloat16
        error = (rounded.float() - exact[:, : rows.shape[1]]).abs().mean()
        assert error < 0.02 * exact.abs().mean()
    rounded.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compute_copy_gives_the_same_numbers(arch: str, dtype: torch.dtype):
    model = make_model(arch)
    twin = model.compute_copy(dtype)
    tokens = make_tokens(2, 9)
    hidden = model(tokens, compute_dtype=dtype)
    assert torch.equal(twin(tokens), hidden)
    assert torch.equal(twin.logits(hidden), model.logits(hidden))
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert model.embed_tokens.weight.dtype == torch.float32


@pytest.mark.parametrize("masked", [False, True])
def test_a_block_can_be_compiled_as_one_graph(masked: bool):
    model = make_model(num_kv_heads=2)
    block = model.layers[0]
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    x = torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0] * 4 + [1] * 6] * 2)
    mask = document_mask(Segments(ids), x.dtype) if masked else None
    rope = (model.rope_cos[None, :10, None], model.rope_sin[None, :10, None])
    torch.testing.assert_close(compiled(x, rope, mask), block(x, rope, mask))


def test_every_parameter_gets_a_gradient():
    model = make_model("smear", num_kv_heads=2)
    model.logits(model(make_tokens(2, 12))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_positions_beyond_the_tables_are_an_error():
    model = make_model()
    with pytest.raises(ConfigError, match="65 tokens does not fit the model's 64"):
        model(make_tokens(1, 65))
    cache = RecordingCache(1, model.config.num_layers)
    cache.seen, cache.new = 64, 1
    with pytest.raises(ConfigError, match="65 tokens"):
        model(make_tokens(1, 1), cache=cache)


def test_logits_stay_within_the_softcap():
    model = make_model()
    logits = model.logits(100 * model(make_tokens(1, 5)))
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 15.0
    assert logits.abs().max() > 14.0


def test_flops_follow_the_palm_count():
    model = make_model()
    matrices = 2 * 12 * 32 * 32 + 61 * 32
    assert model.flops_per_token(64) == 6 * matrices + 12 * 2 * 32 * 64
