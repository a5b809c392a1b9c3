from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.hub.importing import read_model
from aquachat.model.gpt import GPT
from aquachat.text import Tokenizer
from tests.hub import october_nanochat as october


def load(path: Path, **options: Any) -> GPT:
    imported = read_model(path, **options)
    model = GPT(imported.config)
    model.load_state_dict(dict(imported.state_dict))
    return model


def test_an_imported_checkpoint_computes_what_nanochat_computes(
    tmp_path: Path, tokenizer: Tokenizer
):
    tensors = october.make_tensors(tokenizer.n_vocab)
    model = load(october.save(tmp_path, tensors, tokenizer))
    tokens = torch.randint(tokenizer.n_vocab, (2, 50))
    with torch.no_grad():
        theirs = october.forward(tensors, tokens)
        assert theirs.std() > 0.5
        assert (model.logits(model(tokens)) - theirs).abs().max() < 1e-4


def test_the_tokenizer_and_the_stage_are_found_where_nanochat_puts_them(
    tmp_path: Path, tokenizer: Tokenizer
):
    folder = october.save(tmp_path, october.make_tensors(tokenizer.n_vocab), tokenizer)
    imported = read_model(folder)
    assert imported.tokenizer == tokenizer
    assert (imported.stage, imported.step) == ("sft", 650)
    (tmp_path / "tokenizer" / "tokenizer.pkl").unlink()
    with pytest.raises(MissingFileError, match="no tokenizer beside"):
        read_model(folder)
    tokenizer.save(tmp_path / "ours")
    assert read_model(folder, tokenizer=tmp_path / "ours").tokenizer == tokenizer


def test_the_last_of_several_steps_is_read_unless_another_is_named(
    tmp_path: Path, tokenizer: Tokenizer
):
    first = october.make_tensors(tokenizer.n_vocab, seed=1)
    last = october.make_tensors(tokenizer.n_vocab, seed=2)
    october.save(tmp_path, last, tokenizer, step=100_000)
    folder = october.save(tmp_path, first, tokenizer, step=9)
    name, theirs = "lm_head.weight", "lm_head.weight"
    assert torch.equal(load(folder).state_dict()[name], last[theirs])
    assert torch.equal(load(folder, step=9).state_dict()[name], first[theirs])
    assert torch.equal(load(folder / "model_000009.pt").state_dict()[name], first[theirs])
    with pytest.raises(MissingFileError, match="step 10 ") as caught:
        read_model(folder, step=10)
    assert "9, 100000" in str(caught.value.hint)


def test_compiled_names_bfloat16_and_a_padded_vocabulary_are_understood(
    tmp_path: Path, tokenizer: Tokenizer
):
    rows = -(-tokenizer.n_vocab // 64) * 64
    assert rows > tokenizer.n_vocab
    tensors = october.make_tensors(tokenizer.n_vocab, rows=rows)
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"].bfloat16()
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    model = load(october.save(tmp_path, compiled, tokenizer))
    assert model.lm_head.weight.shape == (tokenizer.n_vocab, 32)
    wanted = tensors["transformer.wte.weight"][: tokenizer.n_vocab].float()
    assert torch.equal(model.embed_tokens.weight, wanted)


@pytest.mark.parametrize(
    "name",
    ["value_embeds.0.weight", "resid_lambdas", "x0_lambdas", "smear_gate.weight", "smear_lambda"],
)
def test_a_later_architecture_is_refused_by_the_name_of_what_it_has(
    tmp_path: Path, tokenizer: Tokenizer, name: str
):
    tensors = october.make_tensors(tokenizer.n_vocab) | {name: torch.zeros(2)}
    with pytest.raises(ConfigError, match=rf"later nanochat: it has the tensors `{name}`"):
        read_model(october.save(tmp_path, tensors, tokenizer))


def test_attention_windows_are_refused_and_full_attention_is_not(
    tmp_path: Path, tokenizer: Tokenizer
):
    tensors = october.make_tensors(tokenizer.n_vocab)
    read_model(october.save(tmp_path, tensors, tokenizer, window_pattern="L"))
    with pytest.raises(ConfigError, match="attention windows `SSSL`"):
        read_model(october.save(tmp_path, tensors, tokenizer, window_pattern="SSSL"))


class Hostile:
    """A pickle of it runs a command in whoever loads it."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.proof}",))


def test_weights_that_are_a_program_are_not_run(tmp_path: Path, tokenizer: Tokenizer):
    proof = tmp_path / "ran"
    tensors: dict[str, Any] = {**october.make_tensors(tokenizer.n_vocab), "x": Hostile(proof)}
    folder = october.save(tmp_path, tensors, tokenizer)
    with pytest.raises(DataError, match="something else than tensors"):
        read_model(folder)
    assert not proof.exists()


@pytest.mark.parametrize("length", [0, 100, -50])
def test_a_file_cut_off_is_a_damaged_file(tmp_path: Path, tokenizer: Tokenizer, length: int):
    folder = october.save(tmp_path, october.make_tensors(tokenizer.n_vocab), tokenizer)
    file = folder / "model_000650.pt"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DataError, match="model_000650"):
        read_model(folder)


def test_a_missing_tensor_and_another_shape_are_named(tmp_path: Path, tokenizer: Tokenizer):
    tensors = october.make_tensors(tokenizer.n_vocab)
    short = dict(list(tensors.items())[:-1])
    with pytest.raises(DataError, match=r"lacks the tensor `lm_head.weight`"):
        read_model(october.save(tmp_path / "a", short, tokenizer))
    with pytest.raises(DataError, match=r"`layers.0.self_attn.k_proj.weight` has the shape"):
        read_model(october.save(tmp_path / "b", tensors, tokenizer, n_kv_head=4))


@pytest.mark.parametrize("content", ["{", "[]", '{"model_config": {"n_layer": 2}}'])
def test_a_damaged_meta_file_is_one_sentence(tmp_path: Path, tokenizer: Tokenizer, content: str):
    folder = october.save(tmp_path, october.make_tensors(tokenizer.n_vocab), tokenizer)
    (folder / "meta_000650.json").write_text(content)
    with pytest.raises(DataError, match=r"meta_000650|model_config"):
        read_model(folder)
    (folder / "meta_000650.json").unlink()
    with pytest.raises(MissingFileError, match=r"no `meta_000650.json`"):
        read_model(folder)


def test_the_optimizer_file_is_no_model(tmp_path: Path, tokenizer: Tokenizer):
    folder = october.save(tmp_path, {"state": {}, "param_groups": []}, tokenizer)
    with pytest.raises(DataError, match="no state dict of tensors"):
        read_model(folder)


REAL = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from nanochat.gpt import GPT, GPTConfig
from nanochat.checkpoint_manager import save_checkpoint
shape = dict(sequence_len=64, n_layer=2, n_head=4, n_kv_head=4, n_embd=64, vocab_size=600)
model = GPT(GPTConfig(**shape))
model.init_weights()
config = model.config.__dict__
save_checkpoint(sys.argv[2], 7, model.state_dict(), None, {"model_config": config}, rank=0)
"""


def test_what_nanochat_itself_saves_today_is_refused(tmp_path: Path, tokenizer: Tokenizer):
    checkout = os.environ.get("AQUACHAT_TEST_NANOCHAT", "")
    if not checkout:
        pytest.skip("AQUACHAT_TEST_NANOCHAT names no checkout of nanochat")
    folder = tmp_path / "base_checkpoints" / "d2"
    subprocess.run([sys.executable, "-c", REAL, checkout, str(folder)], check=True)
    assert json.loads((folder / "meta_000007.json").read_text())["model_config"]["n_layer"] == 2
    with pytest.raises(ConfigError, match="later nanochat: it has the tensors"):
        read_model(folder)
