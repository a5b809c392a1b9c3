"""EleutherAI's harness on an exported model against our own scoring of the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.hub.export import export_hf
from aquachat.infer.scoring import Continuation, ContinuationScorer, ScoringRequest
from aquachat.text import Tokenizer
from aquachat.train.lineage import LoadedModel
from tests.hub.exports import make_loaded

pytest.importorskip("transformers", minversion="5.0")
pytest.importorskip("lm_eval", reason="the extra `interop` is not installed")

NUM_ITEMS = 40
TASK = """
task: arc_easy_here
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "<|bos|>Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(scope="module")
def rows(real_data: Path) -> list[dict[str, Any]]:
    lines = (real_data / "arc" / "ARC-Easy-test.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:NUM_ITEMS]]


def harness(folder: Path, model: Path, rows: list[dict[str, Any]]) -> tuple[list[Any], Any]:
    """What the harness logs of each question, and its results."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    file = folder / "arc.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "arc_easy_here.yaml").write_text(TASK.format(file=file))
    found = simple_evaluate(
        model=HFLM(str(model), device="cpu", dtype="float32", batch_size=8),
        tasks=["arc_easy_here"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"]["arc_easy_here"], key=lambda sample: sample["doc_id"])
    return samples, found["results"]["arc_easy_here"]


def ours(loaded: LoadedModel, rows: list[dict[str, Any]]) -> list[list[float]]:
    """The log-likelihood in nats of each option of each question."""
    tokenizer = loaded.tokenizer
    bos = tokenizer.special_id("<|bos|>")
    requests = []
    for row in rows:
        context = f"Question: {row['question']}\nAnswer:"
        prefix = tokenizer.encode_ordinary(context)
        options = [tokenizer.encode_ordinary(f"{context} {t}") for t in row["choices"]["text"]]
        assert all(option[: len(prefix)] == prefix for option in options)
        continuations = tuple(Continuation(tuple(option[len(prefix) :])) for option in options)
        requests.append(ScoringRequest((bos, *prefix), continuations))
    scorer = ContinuationScorer(loaded.model, device=torch.device("cpu"), dtype=torch.float32)
    return [[-score.nats for score in scores] for scores in scorer.score(requests)]


def test_log_likelihoods_and_accuracies_are_those_of_the_harness(
    tmp_path: Path,
    tokenizer: Tokenizer,
    rows: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = make_loaded(tmp_path, tokenizer, max_seq_len=1024)
    samples, results = harness(tmp_path, export_hf(loaded, tmp_path / "model").path, rows)
    mine = ours(loaded, rows)
    assert len(samples) == len(rows) == NUM_ITEMS
    num_right = num_right_normed = 0
    for row, sample, scores in zip(rows, samples, mine, strict=True):
        theirs = [float(response[0]) for response in sample["filtered_resps"]]
        assert max(abs(a - b) for a, b in zip(scores, theirs, strict=True)) < 1e-3
        gold = row["choices"]["label"].index(row["answerKey"])
        normed = [s / len(t) for s, t in zip(scores, row["choices"]["text"], strict=True)]
        is_right, is_right_normed = (v.index(max(v)) == gold for v in (scores, normed))
        assert (sample["acc"], sample["acc_norm"]) == (is_right, is_right_normed)
        num_right += is_right
        num_right_normed += is_right_normed
    assert results["acc,none"] == pytest.approx(num_right / NUM_ITEMS)
    assert results["acc_norm,none"] == pytest.approx(num_right_normed / NUM_ITEMS)
    assert 0 < num_right < NUM_ITEMS
