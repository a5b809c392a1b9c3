from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquachat.errors import ConfigError, DataError, MissingFileError
from aquachat.hub.export import WEIGHTS_FILE, export_hf
from aquachat.hub.importing import read_model, read_tokenizer, write_run
from aquachat.paths import Home
from aquachat.text import Tokenizer
from aquachat.train.lineage import LoadedModel, find_origin, load_model
from tests.hub.exports import make_loaded


@pytest.mark.parametrize(
    "shape",
    [
        {"arch": "nanochat", "num_kv_heads": 1, "rope_base": 5000.0, "logit_softcap": 9.0},
        {"arch": "nanochat", "mlp_ratio": 3},
        {"arch": "smear", "qk_scale": 1.25},
        {"arch": "smear", "x0_lambdas": False},
    ],
)
def test_an_export_comes_back_bit_for_bit(
    tmp_path: Path, tokenizer: Tokenizer, shape: dict[str, Any]
):
    loaded = make_loaded(tmp_path, tokenizer, **shape)
    made = export_hf(loaded, tmp_path / "model")
    home = Home(tmp_path / "other")
    imported = read_model(made.path)
    assert imported.config == loaded.model.config
    assert (imported.stage, imported.step) == ("sft", 8)
    write_run(imported, home, "back", "sft")
    back = load_model(find_origin("sft", home, "back"), torch.device("cpu"))
    assert back.tokenizer == tokenizer
    assert back.model.state_dict().keys() == loaded.model.state_dict().keys()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], tensor)
    again = export_hf(back, tmp_path / "again")
    assert again.files == made.files


def test_a_folder_that_only_has_what_transformers_writes_is_read(
    tmp_path: Path, loaded: LoadedModel
):
    transformers = pytest.importorskip("transformers", minversion="5.0")
    made = export_hf(loaded, tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(made.path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.path)
    saved = tmp_path / "saved"
    model.save_pretrained(saved, max_shard_size="50KB")
    tokenizer.save_pretrained(saved)
    assert len(list(saved.glob("*.safetensors"))) > 1
    imported = read_model(saved)
    assert imported.tokenizer.tokens == loaded.tokenizer.tokens
    assert imported.config == loaded.model.config
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(imported.state_dict[name], tensor)


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_type": "llama"}, "of a `llama` model"),
        ({"hidden_act": "silu"}, "`hidden_act` 'silu'"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"intermediate_size": 100}, "intermediate_size"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type"),
        ({"num_hidden_layers": 3}, r"lacks the tensor `model.layers.2"),
        ({"num_hidden_layers": None}, "not complete"),
    ],
)
def test_a_model_that_ours_cannot_be_is_refused(
    tmp_path: Path, loaded: LoadedModel, changes: dict[str, Any], why: str
):
    made = export_hf(loaded, tmp_path / "model")
    change_config(made.path, **changes)
    with pytest.raises(ConfigError, match=why):
        read_model(made.path)


def test_a_superfluous_tensor_is_refused(tmp_path: Path, loaded: LoadedModel):
    made = export_hf(loaded, tmp_path / "model")
    tensors = load_file(made.path / WEIGHTS_FILE) | {"model.value_embeds": torch.zeros(3)}
    save_file(tensors, made.path / WEIGHTS_FILE)
    with pytest.raises(ConfigError, match=r"has the tensor `model.value_embeds`"):
        read_model(made.path)


def test_damaged_weights_and_missing_files_are_one_sentence(tmp_path: Path, loaded: LoadedModel):
    made = export_hf(loaded, tmp_path / "model")
    weights = made.path / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="is damaged"):
        read_model(made.path)
    weights.unlink()
    with pytest.raises(MissingFileError, match=r"no `model.safetensors`"):
        read_model(made.path)
    with pytest.raises(MissingFileError, match="there is no"):
        read_model(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds neither"):
        read_model(tmp_path)


def test_another_tokenizer_than_the_models_is_refused(tmp_path: Path, loaded: LoadedModel):
    made = export_hf(loaded, tmp_path / "model")
    small = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
    small.save(tmp_path / "small")
    with pytest.raises(DataError, match=r"has 600 tokens and its tokenizer 265"):
        read_model(made.path, tokenizer=tmp_path / "small")
    with pytest.raises(MissingFileError, match="no tokenizer in"):
        read_tokenizer(tmp_path)


def test_a_run_that_exists_is_left_alone(tmp_path: Path, loaded: LoadedModel):
    made = export_hf(loaded, tmp_path / "model")
    home = Home(tmp_path / "home")
    with pytest.raises(ConfigError, match="run `mine` already exists"):
        write_run(read_model(made.path), home, "mine", "sft")
    with pytest.raises(ConfigError, match="no stage `rlhf`"):
        write_run(read_model(made.path), home, "other", "rlhf")
    assert not home.run("other").exists()
