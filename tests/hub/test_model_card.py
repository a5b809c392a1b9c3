from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from aquachat.errors import DataError
from aquachat.files import sha256_of
from aquachat.hub.model_card import (
    CardFacts,
    eval_results,
    licence_of,
    model_card,
    read_evaluations,
    split_front_matter,
    trained_datasets,
)
from tests.model.models import make_model

RESULTS = (
    ("AQUA", "test", "generative", 0.2875, (0.24, 0.34)),
    ("AQUA", "test", "categorical", 0.3, (0.25, 0.36)),
    ("SYNTHETIC", "new_numbers", "generative", 0.75, (0.7, 0.8)),
    ("GSM8K", "test", "generative", 0.05, (0.03, 0.07)),
)


@pytest.fixture
def evals(tmp_path: Path) -> Path:
    folder = tmp_path / "eval"
    folder.mkdir()
    for task, split, protocol, accuracy, ci95 in RESULTS:
        document = {
            **{"run": "mine", "stage": "sft", "checkpoint": "sft@8", "task": task, "split": split},
            **{"protocol": protocol, "num_scored": 254, "accuracy": accuracy, "ci95": list(ci95)},
            "baselines": {} if task == "GSM8K" else {"chance": 0.2, "majority_letter": 0.27},
        }
        name = f"sft@8-{task}-{split}-{protocol}"
        (folder / f"{name}.json").write_text(json.dumps(document))
        (folder / f"{name}.predictions.jsonl").write_text("{}\n")
        other = {**document, "checkpoint": "base@8", "accuracy": 0.999}
        (folder / f"base@8-{task}-{split}-{protocol}.json").write_text(json.dumps(other))
    (folder / "comparisons.json").write_text('{"comparisons": []}')
    return folder


def make_facts(evals: Path, *, arch: str = "nanochat", **changes: Any) -> CardFacts:
    record = {
        **{"aquachat": "0.1.0", "run": "mine", "checkpoint": "sft@8", "dtype": "float32"},
        **{"num_parameters": 1234567, "model": make_model(arch).config.to_json()},
    }
    facts: dict[str, Any] = {
        "record": record,
        "evaluations": [entry for entry, _ in read_evaluations(evals, "sft@8")],
        "datasets": ["deepmind/aqua_rat"],
        "licence": "mit",
        "repo_id": "someone/aqua",
        "endpoint": "https://huggingface.co",
    }
    return CardFacts(**{**facts, **changes})


def test_the_card_is_what_the_hub_reads(evals: Path):
    card = ModelCard(model_card(make_facts(evals), ""))
    data = card.data
    assert isinstance(data, ModelCardData)
    assert (data.license, data.library_name) == ("mit", "transformers")
    assert data.pipeline_tag == "text-generation"
    assert data.datasets == ["deepmind/aqua_rat"]
    assert data.model_name == "aqua"
    assert len(data.eval_results) == len(RESULTS)


def test_every_figure_can_be_traced_to_the_file_it_stands_in(evals: Path):
    facts = make_facts(evals)
    text = model_card(facts, "")
    front, body = split_front_matter(text)
    name, results = model_index_to_eval_results(front["model-index"])
    assert name == "aqua"
    for result in results:
        assert result.source_url.endswith(f"/blob/main/{result.source_name}".replace("@", "%40"))
        file = evals.parent / result.source_name
        document = json.loads(file.read_text())
        assert result.metric_value == document["accuracy"]
        assert f"]({result.source_name.replace('@', '%40')})" in body
    for content in eval_results(facts).values():
        [row] = yaml.safe_load(content)
        path = row["source"]["name"]
        file = evals.parent / path
        assert row["value"] == json.loads(file.read_text())["accuracy"]
        assert path in row["notes"]
        assert sha256_of(file) in row["notes"]
    assert "0.999" not in text
    assert "28.7%" in body or "28.8%" in body


def test_eval_results_are_those_of_sets_on_the_hub_in_the_hubs_own_form(evals: Path):
    files = eval_results(make_facts(evals))
    rows = [yaml.safe_load(text)[0] for text in files.values()]
    assert sorted({row["dataset"]["id"] for row in rows}) == ["deepmind/aqua_rat", "openai/gsm8k"]
    assert len(rows) == 3
    eval_module = pytest.importorskip("huggingface_hub")
    parse = getattr(eval_module, "parse_eval_result_entries", None)
    if parse is not None:
        parsed = [parse([row])[0] for row in rows]
        assert [entry.value for entry in parsed] == [row["value"] for row in rows]


def test_a_model_without_results_says_so(evals: Path):
    text = model_card(make_facts(evals, evaluations=[]), "")
    assert "was not evaluated" in text
    assert "model-index" not in text


def test_another_architecture_tells_how_it_is_loaded(evals: Path):
    text = model_card(make_facts(evals, arch="smear"), "")
    assert text.count("trust_remote_code=True") == 2
    assert "custom_code" in text
    assert "trust_remote_code" not in model_card(make_facts(evals), "")


def test_the_projects_readme_follows_and_its_metadata_wins(evals: Path):
    readme = (
        "---\nlicense: apache-2.0\nmodel-index: []\nlanguage: de\n---\n# My project\n[a](a.md)\n"
    )
    front, body = split_front_matter(model_card(make_facts(evals), readme))
    assert (front["license"], front["language"]) == ("apache-2.0", "de")
    assert len(front["model-index"][0]["results"]) == len(RESULTS)
    assert body.rstrip().endswith("# My project\n[a](a.md)")
    assert body.count("---\n\n# My project") == 1


def test_metadata_that_is_no_yaml_is_one_sentence(evals: Path):
    with pytest.raises(DataError, match="is no YAML"):
        model_card(make_facts(evals), "---\na: [\n---\n# x\n")
    assert split_front_matter("# no metadata\n---\nx\n---\n")[0] == {}


def test_the_same_facts_give_the_same_card(evals: Path):
    assert model_card(make_facts(evals), "x") == model_card(make_facts(evals), "x")


def test_a_damaged_result_is_not_left_out_silently(evals: Path):
    (evals / "sft@8-ARC.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_evaluations(evals, "sft@8")


def test_data_sets_are_those_the_stages_took_rows_from(tmp_path: Path):
    for stage, sources in (("mid", ["gsm8k", "drills"]), ("sft", ["aqua", "gsm8k"])):
        (tmp_path / stage).mkdir()
        rows = {"sources": [{"source": name} for name in sources]}
        (tmp_path / stage / "mixture.json").write_text(json.dumps(rows))
    stages = ("base", "mid", "sft")
    assert trained_datasets(tmp_path, stages) == ["openai/gsm8k", "deepmind/aqua_rat"]


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("MIT License\n\nCopyright", "mit"),
        ("   Apache License\n Version 2.0", "apache-2.0"),
        ("Mine", "other"),
    ],
)
def test_licences_are_named_as_the_hub_names_them(text: str, licence: str):
    assert licence_of(text) == licence
