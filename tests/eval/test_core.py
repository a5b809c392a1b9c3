"""CORE as a meter: models whose answers are known, and what is absent."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.errors import ConfigError, MissingFileError
from aquachat.eval.core import evaluate_core, evaluate_core_task, likeliest_option
from aquachat.eval.core_prompts import PromptMaker
from aquachat.eval.core_tasks import read_items, read_tasks
from aquachat.eval.predictions import Prediction, read_predictions, write_predictions
from aquachat.eval.results import recompute
from aquachat.eval.stats import wilson_interval
from aquachat.infer.scoring import ContinuationScore, ContinuationScorer
from aquachat.model.gpt import GPT
from aquachat.world import World
from tests.eval.core_bundle import TOKENIZER, KnowingScorer, write_bundle
from tests.model.models import make_model

CPU = torch.device("cpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "core")


def small_model(context: int = 512) -> GPT:
    return make_model(vocab_size=TOKENIZER.n_vocab, max_seq_len=context)


def make_scorer(model: GPT) -> ContinuationScorer:
    return ContinuationScorer(model, device=CPU, dtype=torch.float32)


def test_an_oracle_scores_1_on_every_task(bundle: Path) -> None:
    result = evaluate_core(KnowingScorer(bundle, lambda gold, count: gold), TOKENIZER, bundle)
    assert {each.task.label: each.result.accuracy for each in result.tasks} == {
        "capitals": 1.0, "pronouns": 1.0, "counting": 1.0,
    }  # fmt: skip
    assert result.score.value == 1.0
    capitals = result.tasks[0].result
    assert capitals.ci95 == wilson_interval(12, 12)
    assert capitals.letters == {"A": 3, "B": 3, "C": 3, "D": 3}


def test_the_first_option_scores_what_it_is_gold_and_is_centred(bundle: Path) -> None:
    scorer = KnowingScorer(bundle, lambda gold, count: 0 if count > 1 else -1)
    result = evaluate_core(scorer, TOKENIZER, bundle)
    by_label = {each.task.label: each for each in result.tasks}
    assert by_label["capitals"].result.accuracy == 0.25
    assert by_label["pronouns"].result.accuracy == pytest.approx(5 / 9)
    assert by_label["counting"].result.accuracy == 0.0
    assert by_label["capitals"].centred_task.centred == 0.0
    assert result.score.value == pytest.approx((0.0 + 1 / 9 + 0.0) / 3)


def test_absent_tasks_are_named_and_the_score_is_not_called_core(bundle: Path) -> None:
    scorer = KnowingScorer(bundle, lambda gold, count: gold)
    score = evaluate_core(scorer, TOKENIZER, bundle).score
    assert score.absent == ("absent_task",)
    assert score.metric == "core/metric_partial"
    rows = (bundle / "eval_data" / "language" / "counting.jsonl").read_text() * 2
    (bundle / "eval_data" / "knowledge" / "absent.jsonl").write_text(rows)
    whole = evaluate_core(KnowingScorer(bundle, lambda gold, count: gold), TOKENIZER, bundle).score
    assert (whole.metric, whole.absent, whole.value) == ("core/metric", (), 1.0)


def test_no_task_present_is_an_error(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path, rows={})
    with pytest.raises(MissingFileError, match="has no rows of any task of CORE") as found:
        evaluate_core(make_scorer(small_model()), TOKENIZER, directory)
    assert found.value.hint == "run `aquachat prepare core`"


def test_random_weights_score_near_0(real_data: Path) -> None:
    model = small_model(context=600)
    result = evaluate_core(make_scorer(model), TOKENIZER, real_data / "core", max_examples=12)
    low, high = result.score.ci95
    assert low < 0.0 < high
    assert abs(result.score.value) < 0.15
    language = [each for each in result.tasks if each.task.baseline == 0.0]
    assert [each.result.accuracy for each in language] == [0.0] * len(language)


@torch.no_grad()
def plain_predictions(model: GPT, directory: Path) -> dict[str, bool]:
    """Question -> whether it is answered right, one row and one softmax at a time."""
    found = {}
    for task in read_tasks(directory):
        if not task.is_present:
            continue
        items = read_items(task)
        maker = PromptMaker(TOKENIZER, task, items, len(items), model.config.max_seq_len)
        for index, item in enumerate(items):
            costs, is_greedy = [], []
            for span in maker.spans(index):
                excess = max(0, len(span.tokens) - model.config.max_seq_len)
                tokens, start = torch.tensor(span.tokens[excess:]), span.start - excess
                logprobs = model.logits(model(tokens[None]))[0].double().log_softmax(-1)[:-1]
                own = logprobs[torch.arange(len(tokens) - 1), tokens[1:]][start - 1 :]
                costs.append(-float(own.mean()))
                best = logprobs.argmax(-1)[start - 1 :]
                is_greedy.append(bool((best == tokens[start:]).all()))
            right = is_greedy[0] if len(costs) == 1 else costs.index(min(costs)) == item.gold
            found[f"core/{task.label}/{item.line_number}"] = right
    return found


@pytest.mark.parametrize("context", [512, 48])
def test_predictions_are_those_of_one_plain_row_at_a_time(bundle: Path, context: int) -> None:
    model = small_model(context)
    result = evaluate_core(make_scorer(model), TOKENIZER, bundle)
    found = {row.id: row.correct for each in result.tasks for row in each.result.predictions}
    assert found == plain_predictions(model, bundle)
    assert any(found.values())
    cut = [row.attributes["cut_tokens"] for each in result.tasks for row in each.result.predictions]
    assert (max(cut) > 0) == (context == 48)


def test_max_examples_asks_the_first_of_the_published_order(bundle: Path) -> None:
    scorer = KnowingScorer(bundle, lambda gold, count: gold)
    whole = evaluate_core(scorer, TOKENIZER, bundle)
    some = evaluate_core(scorer, TOKENIZER, bundle, max_examples=5)
    for few, all_rows in zip(some.tasks, whole.tasks, strict=True):
        ids = [row.id for row in all_rows.result.predictions]
        assert [row.id for row in few.result.predictions] == ids[:5]
        assert few.result.accuracy == 1.0


class _Share(World):
    """One of several processes, whose gathering is done by the test."""

    def gather_objects(self, value: object) -> list[object]:
        return [value]


def test_processes_share_the_questions(bundle: Path) -> None:
    task = next(task for task in read_tasks(bundle) if task.label == "capitals")
    items, scorer = read_items(task), make_scorer(small_model())
    alone = evaluate_core_task(scorer, TOKENIZER, task, items).result.predictions
    shares: list[list[Prediction]] = []
    for rank in range(3):
        world = _Share(rank=rank, size=3, device=CPU, dtype=torch.float32)
        part = evaluate_core_task(scorer, TOKENIZER, task, items, world=world)
        shares.append(list(part.result.predictions))
    together = sorted((row for share in shares for row in share), key=lambda row: row.id)
    assert [_exactly(row) for row in together] == [
        _exactly(row) for row in sorted(alone, key=lambda row: row.id)
    ]


def _exactly(row: Prediction) -> dict[str, Any]:
    """Without figures that rounding may change with the batch."""
    return replace(row, probabilities=None, attributes={}).to_json()


def test_predictions_on_disk_give_the_figures_again(bundle: Path, tmp_path: Path) -> None:
    result = evaluate_core(make_scorer(small_model()), TOKENIZER, bundle).tasks[0].result
    path = tmp_path / "core.predictions.jsonl"
    write_predictions(path, result.predictions)
    again = recompute(
        read_predictions(path), task="CORE", split="capitals", protocol="core",
        seconds=result.seconds,
    )  # fmt: skip
    assert again.to_json() == result.to_json()


def test_a_part_of_the_score_says_what_guessing_gives(bundle: Path) -> None:
    scorer = KnowingScorer(bundle, lambda gold, count: gold)
    result = evaluate_core(scorer, TOKENIZER, bundle)
    entry = result.tasks[0].result.to_json()
    assert (entry["task"], entry["split"], entry["protocol"]) == ("CORE", "capitals", "core")
    assert result.score.to_json()["tasks"]["pronouns"] == {
        "accuracy": 1.0, "ci95": list(wilson_interval(9, 9)), "baseline": 0.5, "centred": 1.0,
        "num_examples": 9, "protocol": "core", "split": "",
    }  # fmt: skip


def test_one_task_can_be_asked_alone(bundle: Path) -> None:
    scorer = KnowingScorer(bundle, lambda gold, count: gold)
    result = evaluate_core(scorer, TOKENIZER, bundle, label="pronouns")
    assert [each.task.label for each in result.tasks] == ["pronouns"]
    assert result.score.absent == ("capitals", "absent_task", "counting")
    with pytest.raises(ConfigError, match="CORE has no task `nouns`") as found:
        evaluate_core(scorer, TOKENIZER, bundle, label="nouns")
    assert found.value.hint == "did you mean `--task CORE/pronouns`?"


def test_a_written_answer_is_shown_as_the_model_would_write_it(bundle: Path) -> None:
    scorer = KnowingScorer(bundle, lambda gold, count: -1)
    counting = evaluate_core(scorer, TOKENIZER, bundle).tasks[-1].result
    row = counting.predictions[0]
    assert not row.correct
    wrong = bytes(byte ^ 1 for byte in f" {row.gold}".encode()).decode().strip()
    assert row.answer == row.reply == wrong
    assert counting.chance is None


def test_the_likeliest_option_is_by_the_mean_and_the_first_of_equals() -> None:
    def option(nats: float, count: int) -> ContinuationScore:
        return ContinuationScore(nats, (0,) * count, False)

    assert likeliest_option([option(3.0, 1), option(4.0, 2)]) == 1
    assert likeliest_option([option(2.0, 1), option(4.0, 2)]) == 0
    empty = option(0.0, 0)
    assert likeliest_option([empty, option(0.1, 1)]) == 0
    assert likeliest_option([option(9.0, 1), empty]) == 0
    assert likeliest_option([option(9.0, 1), empty, option(2.0, 1)]) == 2


def test_shares_of_the_options_add_up_to_1(bundle: Path) -> None:
    rng = random.Random(0)
    scorer = KnowingScorer(bundle, lambda gold, count: rng.randrange(count))
    rows = evaluate_core(scorer, TOKENIZER, bundle).tasks[0].result.predictions
    for row in rows:
        assert row.probabilities is not None
        assert math.isclose(sum(row.probabilities.values()), 1.0)
        best = max(row.probabilities, key=lambda letter: row.probabilities[letter])
        assert best == row.answer


def test_progress_reaches_all_questions(bundle: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    scorer = make_scorer(small_model())
    evaluate_core(scorer, TOKENIZER, bundle, progress=lambda *done: seen.append(done))
    assert {(label, total) for label, done, total in seen if done == total} == {
        ("capitals", 12), ("pronouns", 9), ("counting", 8),
    }  # fmt: skip
