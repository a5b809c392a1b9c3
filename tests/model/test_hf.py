from __future__ import annotations

from typing import Any

import pytest
import torch

from aquachat.errors import ConfigError
from aquachat.model.gpt import GPT
from aquachat.model.hf import hf_config, hf_state_dict
from tests.model.models import make_model, make_tokens

transformers = pytest.importorskip("transformers", minversion="5.0")

BOS, EOS = 0, 1


def load_in_transformers(model: GPT) -> Any:
    settings = hf_config(model.config, bos_token_id=BOS, eos_token_id=EOS)
    config = transformers.NanoChatConfig(**settings, attn_implementation="eager")
    theirs = transformers.NanoChatForCausalLM(config).eval()
    theirs.load_state_dict(hf_state_dict(model), strict=True)
    return theirs


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("length", [40, 300], ids=["short", "long"])
def test_same_weights_give_the_same_logits_in_transformers(num_kv_heads: int, length: int):
    model = make_model(num_kv_heads=num_kv_heads, max_seq_len=512, num_layers=3)
    tokens = make_tokens(2, length)
    with torch.no_grad():
        ours = model.logits(model(tokens))
        theirs = load_in_transformers(model)(tokens).logits
    assert ours.std() > 0.5
    assert (ours - theirs).abs().max() < 2e-5


@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_same_weights_write_the_same_greedy_text_in_transformers(num_kv_heads: int):
    model = make_model(num_kv_heads=num_kv_heads)
    prompt = make_tokens(1, 5)
    prompt[:, 0] = BOS
    prompt[:, 2] = EOS  # as in a second turn: it must not be taken for padding
    tokens = prompt
    with torch.no_grad():
        while tokens.shape[1] < 40 and (tokens.shape[1] == 5 or tokens[0, -1] != EOS):
            following = model.logits(model(tokens)[:, -1]).argmax(-1, keepdim=True)
            tokens = torch.cat((tokens, following), 1)
        theirs = load_in_transformers(model).generate(prompt, max_length=40, do_sample=False)
    assert tokens.tolist() == theirs.tolist()
    assert len(set(tokens[0, 5:].tolist())) > 4


def test_config_says_the_rotary_base_and_the_softcap():
    model = make_model(rope_base=500.0, logit_softcap=3.0)
    tokens = make_tokens(1, 30)
    with torch.no_grad():
        ours = model.logits(model(tokens))
        theirs = load_in_transformers(model)(tokens).logits
    assert (ours - theirs).abs().max() < 2e-5


def test_export_has_six_tensors_per_layer_and_two():
    model = make_model(num_layers=3)
    assert len(hf_state_dict(model)) == 6 * 3 + 2


def test_special_tokens_are_written_and_padding_defaults_to_eos():
    config = make_model().config
    settings = hf_config(config, bos_token_id=7, eos_token_id=9)
    assert [settings[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [7, 9, 9]
    assert hf_config(config, bos_token_id=7, eos_token_id=9, pad_token_id=3)["pad_token_id"] == 3


def test_smear_is_not_passed_off_as_nanochat():
    model = make_model("smear")
    with pytest.raises(ConfigError, match="does not fit transformers"):
        hf_state_dict(model)
    with pytest.raises(ConfigError, match="does not fit transformers"):
        hf_config(model.config, bos_token_id=BOS, eos_token_id=EOS)
