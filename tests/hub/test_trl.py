"""An exported model in TRL's `GRPOTrainer`, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.hub.export import export_hf
from aquachat.hub.importing import read_model
from aquachat.tasks.multiple_choice import choice_example, grade_choice
from aquachat.tasks.synthetic import generate_items
from aquachat.text import Tokenizer
from aquachat.text.conversation import conversation_to_json
from tests.hub.exports import make_loaded

pytest.importorskip("transformers", minversion="5.0")
pytest.importorskip("trl", reason="the extra `interop` is not installed")

NUM_STEPS = 2


def test_two_steps_of_grpo_train_the_exported_model(tmp_path: Path, tokenizer: Tokenizer):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    loaded = make_loaded(tmp_path, tokenizer, max_seq_len=1024)
    made = export_hf(loaded, tmp_path / "model")
    items = [choice_example(item) for item in generate_items("new_numbers", 2, 4)]
    examples = {example.id: example for example in items}
    data = Dataset.from_list(
        [{"prompt": conversation_to_json(e.conversation)[:1], "id": e.id} for e in items]
    )
    asked: list[str] = []

    def reward(completions: list[Any], id: list[str], **rest: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        asked.extend(texts)
        grades = [grade_choice(examples[key], t) for key, t in zip(id, texts, strict=True)]
        # A model that was never trained is never right: lengths make rewards that differ.
        return [grade.reward + len(text) / 1000 for grade, text in zip(grades, texts, strict=True)]

    trainer = GRPOTrainer(
        model=str(made.path),
        reward_funcs=reward,
        train_dataset=data,
        args=GRPOConfig(
            output_dir=str(tmp_path / "trl"),
            max_steps=NUM_STEPS,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=12,
            learning_rate=1e-3,
            use_cpu=True,
            bf16=False,
            report_to=[],
            logging_steps=1,
            save_strategy="no",
            seed=1,
        ),
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == NUM_STEPS
    assert all(torch.isfinite(torch.tensor(entry["loss"])) for entry in logs)
    assert max(entry["reward_std"] for entry in logs) > 0
    assert len(asked) == NUM_STEPS * 4
    trainer.save_model(str(tmp_path / "trained"))
    back = read_model(tmp_path / "trained")
    before = loaded.model.state_dict()
    assert back.tokenizer == tokenizer
    changed = [name for name in before if not torch.equal(before[name], back.state_dict[name])]
    assert len(changed) == len(before)
