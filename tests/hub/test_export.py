from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aquachat.errors import ConfigError, DataError
from aquachat.files import sha256_of
from aquachat.hub import export as exporting
from aquachat.hub.export import EXPORT_FILE, WEIGHTS_FILE, export_hf
from aquachat.hub.verify import verify_export
from aquachat.infer.engine import Engine
from aquachat.infer.types import SamplingParams
from aquachat.text import Tokenizer
from aquachat.text.conversation import Conversation, Role, text_message
from aquachat.text.render import ChatRenderer
from aquachat.train.lineage import LoadedModel
from tests.hub.exports import make_loaded

transformers = pytest.importorskip("transformers", minversion="5.0")

ARCHS: dict[str, dict[str, Any]] = {
    "nanochat": {"arch": "nanochat", "num_kv_heads": 2, "rope_base": 5000.0, "logit_softcap": 9.0},
    "smear": {"arch": "smear", "num_kv_heads": 2, "qk_scale": 1.3},
    "smear only": {"arch": "smear", "x0_lambdas": False},
    "lambdas only": {"arch": "smear", "smear": False},
    "scale only": {"arch": "smear", "smear": False, "x0_lambdas": False, "qk_scale": 1.2},
}
QUESTIONS = ("How far is 60 km/h for 3 hours?", "Hi", "½ of 中文, 😀 and  two   spaces\n?")


@pytest.fixture(scope="module", params=list(ARCHS))
def exported(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer: Tokenizer,
) -> tuple[LoadedModel, Any, Any]:
    """A checkpoint, and model and tokenizer that transformers loads from its export."""
    folder = tmp_path_factory.mktemp("exported")
    loaded = make_loaded(folder, tokenizer, **ARCHS[request.param])
    made = export_hf(loaded, folder / "model")
    trust = {"trust_remote_code": made.needs_remote_code}
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        made.path, output_loading_info=True, dtype="auto", **trust
    )
    assert not any(info.values()), info
    return loaded, theirs.eval(), transformers.AutoTokenizer.from_pretrained(made.path, **trust)


def prompt_of(loaded: LoadedModel, question: str) -> list[int]:
    conversation = Conversation((text_message(Role.USER, question),))
    return ChatRenderer(loaded.tokenizer).prompt(conversation)


def greedy(loaded: LoadedModel, question: str, count: int = 40) -> list[int]:
    """What our engine writes."""
    engine = Engine(loaded.model, loaded.tokenizer, device=torch.device("cpu"), dtype=torch.float32)
    params = SamplingParams(max_new_tokens=count, temperature=0.0, tools=False)
    [[completion]] = engine.generate([prompt_of(loaded, question)], params)
    return list(completion.tokens)


@torch.no_grad()
def test_transformers_computes_the_same_logits(exported: Any):
    loaded, theirs, _ = exported
    tokens = torch.tensor([prompt_of(loaded, QUESTIONS[0]) * 3])
    ours = loaded.model.logits(loaded.model(tokens))
    assert ours.std() > 0.5
    assert (ours - theirs(tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize("question", QUESTIONS)
def test_transformers_writes_the_same_greedy_text(exported: Any, question: str):
    loaded, theirs, tokenizer = exported
    ours = greedy(loaded, question)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    ids = theirs.generate(**inputs, max_new_tokens=40)[0, inputs["input_ids"].shape[1] :].tolist()
    end = tokenizer.eos_token_id
    # Our engine also ends a reply at a special token that has no place in it.
    assert ids[: len(ours)] == ours
    assert len(ids) == len(ours) or ours[-1] != end
    assert len(set(ours)) > 4


def test_padded_questions_in_a_batch_get_the_replies_they_get_alone(exported: Any):
    loaded, theirs, tokenizer = exported
    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
    )
    rows = theirs.generate(**inputs, max_new_tokens=20)[:, inputs["input_ids"].shape[1] :]
    for question, row in zip(QUESTIONS, rows.tolist(), strict=True):
        ours = greedy(loaded, question, 20)
        assert row[: len(ours)] == ours


def test_beams_and_samples_take_their_own_past_along(exported: Any):
    loaded, theirs, _ = exported
    tokens = torch.tensor([prompt_of(loaded, QUESTIONS[0])])
    with torch.no_grad():
        both = [
            theirs.generate(tokens, max_new_tokens=12, num_beams=3, use_cache=use_cache).tolist()
            for use_cache in (True, False)
        ]
    assert both[0] == both[1]


def test_weights_are_written_as_they_are(loaded: LoadedModel, tmp_path: Path):
    made = export_hf(loaded, tmp_path / "model")
    tensors = load_file(made.path / WEIGHTS_FILE)
    state = loaded.model.state_dict()
    assert len(tensors) == len(state) == 6 * loaded.model.config.num_layers + 2
    for name, tensor in state.items():
        assert torch.equal(tensors[exporting.hf_name(name)], tensor)


def test_settings_that_the_class_defaults_otherwise_are_written(
    loaded: LoadedModel, tmp_path: Path
):
    made = export_hf(loaded, tmp_path / "model")
    config = json.loads((made.path / "config.json").read_text())
    tokenizer = loaded.tokenizer
    end = tokenizer.special_id("<|assistant_end|>")
    wrong = {"bos_token_id": tokenizer.special_id("<|bos|>"), "eos_token_id": end}
    wrong |= {"pad_token_id": end, "vocab_size": tokenizer.n_vocab, "intermediate_size": 128}
    assert {name: config[name] for name in wrong} == wrong
    defaults = transformers.NanoChatConfig()
    assert all(getattr(defaults, name) != value for name, value in wrong.items())
    generation = json.loads((made.path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == end
    assert generation["do_sample"] is False


def test_the_record_has_the_hash_of_every_file(loaded: LoadedModel, tmp_path: Path):
    made = export_hf(loaded, tmp_path / "model")
    record = json.loads((made.path / EXPORT_FILE).read_text())
    names = {path.name for path in made.path.iterdir()} - {EXPORT_FILE}
    assert record["files"] == {name: sha256_of(made.path / name) for name in names}
    assert (record["run"], record["checkpoint"]) == ("mine", "sft@8")


def test_the_same_checkpoint_is_exported_to_the_same_bytes(loaded: LoadedModel, tmp_path: Path):
    first, second = (export_hf(loaded, tmp_path / name) for name in "ab")
    assert first.files == second.files


def test_an_older_export_is_replaced_whole(tmp_path: Path, tokenizer: Tokenizer):
    folder = tmp_path / "model"
    export_hf(make_loaded(tmp_path / "a", tokenizer, "smear"), folder)
    assert (folder / "modeling_aquachat.py").is_file()
    export_hf(make_loaded(tmp_path / "b", tokenizer), folder)
    assert not (folder / "modeling_aquachat.py").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("there", ["notes.txt", "sub/notes.txt"])
def test_a_folder_with_something_else_in_it_is_refused(
    loaded: LoadedModel, tmp_path: Path, there: str
):
    folder = tmp_path / "model"
    export_hf(loaded, folder)
    file = folder / there
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(ConfigError, match="which no export wrote"):
        export_hf(loaded, folder)
    assert file.read_text() == "mine"


def test_a_folder_of_other_files_is_refused_and_an_empty_one_is_taken(
    loaded: LoadedModel, tmp_path: Path
):
    folder = tmp_path / "model"
    folder.mkdir()
    export_hf(loaded, folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"config.json`, which no export wrote"):
        export_hf(loaded, other)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is no folder"):
        export_hf(loaded, tmp_path / "file")


def test_a_failed_comparison_leaves_the_old_export(loaded: LoadedModel, tmp_path: Path):
    def refuse(folder: Path) -> dict[str, Any]:
        assert (folder / WEIGHTS_FILE).is_file()
        raise DataError("they differ")

    folder = tmp_path / "model"
    before = export_hf(loaded, folder)
    with pytest.raises(DataError, match="they differ"):
        export_hf(loaded, folder, dtype="bfloat16", verify=refuse)
    assert sha256_of(folder / WEIGHTS_FILE) == before.files[WEIGHTS_FILE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "model"]


def test_the_comparison_passes_and_notices_a_changed_weight(loaded: LoadedModel, tmp_path: Path):
    made = export_hf(loaded, tmp_path / "model")
    found = verify_export(made.path, loaded.model, loaded.tokenizer, "float32")
    assert found["max_logit_difference"] < 1e-4
    tensors = load_file(made.path / WEIGHTS_FILE)
    tensors["model.layers.1.mlp.fc1.weight"][0] += 0.5
    save_file(tensors, made.path / WEIGHTS_FILE, {"format": "pt"})
    with pytest.raises(DataError, match="computes other logits"):
        verify_export(made.path, loaded.model, loaded.tokenizer, "float32")


def test_another_architecture_is_compared_too(tmp_path: Path, tokenizer: Tokenizer):
    loaded = make_loaded(tmp_path, tokenizer, "smear", qk_scale=1.2)
    made = export_hf(loaded, tmp_path / "model")
    found = verify_export(made.path, loaded.model, loaded.tokenizer, "float32")
    assert found["max_logit_difference"] < 1e-4
    tensors = load_file(made.path / WEIGHTS_FILE)
    tensors["model.smear"] += 0.5
    save_file(tensors, made.path / WEIGHTS_FILE, {"format": "pt"})
    with pytest.raises(DataError, match="computes other logits"):
        verify_export(made.path, loaded.model, loaded.tokenizer, "float32")


def test_all_files_can_be_read_by_whom_the_system_lets(loaded: LoadedModel, tmp_path: Path):
    made = export_hf(loaded, tmp_path / "model")
    assert len({path.stat().st_mode for path in made.path.iterdir()}) == 1


def test_bfloat16_is_compared_as_rounded(loaded: LoadedModel, tmp_path: Path):
    made = export_hf(loaded, tmp_path / "model", dtype="bfloat16")
    tensors = load_file(made.path / WEIGHTS_FILE)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    verify_export(made.path, loaded.model, loaded.tokenizer, "bfloat16")


def test_a_tensor_that_the_class_has_not_is_refused(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = exporting.expected_names(loaded.model.config) | {"model.value_embeds"}
    monkeypatch.setattr(exporting, "expected_names", lambda config: expected)
    with pytest.raises(DataError, match=r"differ in the tensor `model.value_embeds`"):
        export_hf(loaded, tmp_path / "model")
    assert not (tmp_path / "model").exists()
