"""Confidence that the meter works: models whose accuracy is known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from aquachat.errors import ConfigError
from aquachat.eval.chat import EvalResult, compare, evaluate_task
from aquachat.eval.predictions import read_predictions, write_predictions
from aquachat.eval.results import compare_harder, question_means, recompute
from aquachat.eval.stats import wilson_interval
from aquachat.infer.types import SamplingParams
from aquachat.tasks.choice_task import ChoiceTask
from aquachat.tasks.gsm8k import load_gsm8k
from aquachat.text.render import StopReason
from aquachat.world import World
from tests.eval.engines import LETTERS, RENDERER, AnsweringEngine, make_task

PROTOCOLS = pytest.mark.parametrize("protocol", ["generative", "categorical"])


@PROTOCOLS
def test_an_oracle_scores_100_percent(protocol: str) -> None:
    task = make_task()
    engine = AnsweringEngine(task, lambda gold: gold)
    result = evaluate_task(engine, RENDERER, task, protocol=protocol)
    assert result.accuracy == 1.0
    assert result.ci95 == wilson_interval(40, 40)
    assert (result.num_examples, result.num_scored, result.num_replies) == (40, 40, 200)
    assert (result.invalid, result.truncated, result.num_fixed_order) == (0.0, 0.0, 0)
    assert result.letters == dict.fromkeys(LETTERS, 40)


@PROTOCOLS
def test_always_a_scores_exactly_20_percent_over_all_orders(protocol: str) -> None:
    task = make_task()
    engine = AnsweringEngine(task, lambda gold: "A")
    result = evaluate_task(engine, RENDERER, task, protocol=protocol)
    assert result.accuracy == pytest.approx(0.2, abs=1e-12)
    assert result.chance == pytest.approx(0.2)
    assert result.majority_letter == pytest.approx(0.2)
    assert result.letters == {"A": 200, "B": 0, "C": 0, "D": 0, "E": 0}


@PROTOCOLS
def test_in_one_order_always_a_scores_what_the_majority_baseline_says(protocol: str) -> None:
    task = make_task()
    engine = AnsweringEngine(task, lambda gold: "A")
    result = evaluate_task(engine, RENDERER, task, protocol=protocol, option_orders=1)
    golds = [task[index].answer for index in range(len(task))]
    assert result.accuracy == result.majority_letter == golds.count("A") / 40
    assert result.ci95 == wilson_interval(golds.count("A"), 40)


@PROTOCOLS
def test_a_random_model_scores_20_percent_within_its_interval(protocol: str) -> None:
    task = make_task(300)
    rng = random.Random(5)
    engine = AnsweringEngine(task, lambda gold: rng.choice(LETTERS))
    result = evaluate_task(engine, RENDERER, task, protocol=protocol)
    assert result.ci95[0] < 0.2 < result.ci95[1]
    assert 0.03 < result.ci95[1] - result.ci95[0] < 0.06


def test_no_valid_answer_is_wrong_and_counted() -> None:
    task = make_task(10)
    engine = AnsweringEngine(task, lambda gold: "F")
    result = evaluate_task(engine, RENDERER, task)
    assert (result.accuracy, result.invalid) == (0.0, 1.0)
    assert all(row.answer is None and row.reward == 0.0 for row in result.predictions)


def test_several_samples_give_pass_and_majority() -> None:
    task = make_task(20)
    turns = iter(range(10_000))
    # Of each four replies one is right and three name three different wrong letters.
    engine = AnsweringEngine(
        task, lambda gold: LETTERS[(LETTERS.index(gold) + next(turns) % 4) % 5]
    )
    result = evaluate_task(engine, RENDERER, task, num_samples=4, temperature=1.0)
    assert result.accuracy == pytest.approx(0.25)
    assert result.pass_at_k == pytest.approx({1: 0.25, 2: 0.5, 4: 1.0})
    assert result.maj_at_k == pytest.approx({1: 0.25, 2: 0.25, 4: 0.25})
    assert result.num_replies == 20 * 5 * 4


def test_results_are_also_given_by_attribute() -> None:
    task = make_task(40)
    odd = {task[i].id for i in range(1, 40, 2)}
    task = ChoiceTask(
        "MADE",
        "test",
        [
            replace(item, answer_index=0) if item.id in odd else replace(item, answer_index=1)
            for item in task.items
        ],
    )
    engine = AnsweringEngine(task, lambda gold: "A")
    result = evaluate_task(engine, RENDERER, task, option_orders=1)
    document = result.to_json()
    assert {k: v["accuracy"] for k, v in document["by_tier"].items()} == {"easy": 1.0, "hard": 0.0}
    assert list(document["by_num_steps"]) == ["1", "2", "3", "4"]
    assert [v["num_examples"] for v in document["by_family"].values()] == [14, 13, 13]
    assert document["by_tier"]["easy"]["ci95"] == list(wilson_interval(20, 20))
    assert set(document) >= {
        *("task", "split", "protocol", "num_examples", "num_scored", "accuracy", "ci95"),
        *("baselines", "letter_histogram", "maj_at_k", "pass_at_k", "seconds"),
    }


def test_results_are_also_given_by_words_of_the_rationale() -> None:
    task = make_task(6)
    words = [0, 1, 20, 21, 80, 81]
    items = [
        replace(item, rationale="so " * count)
        for item, count in zip(task.items, words, strict=True)
    ]
    task = ChoiceTask("MADE", "test", items)
    result = evaluate_task(AnsweringEngine(task, lambda gold: gold), RENDERER, task)
    document = result.to_json()["by_rationale_words"]
    assert {name: entry["num_examples"] for name, entry in document.items()} == {
        "1-20": 2,
        "21-40": 1,
        "41-80": 1,
        "81+": 1,
    }
    assert list(document) == ["1-20", "21-40", "41-80", "81+"]


def test_several_samples_give_the_probability_of_the_right_answer() -> None:
    task = make_task(10)
    turns = iter(range(10_000))
    engine = AnsweringEngine(task, lambda gold: gold if next(turns) % 4 == 0 else "F")
    result = evaluate_task(engine, RENDERER, task, num_samples=4, temperature=1.0)
    assert result.gold_probability == pytest.approx(0.25)
    greedy = evaluate_task(engine, RENDERER, task)
    assert greedy.gold_probability is None


def test_how_replies_look_is_measured_by_the_generative_protocol_only() -> None:
    task = make_task(5)
    engine = AnsweringEngine(task, lambda gold: gold)
    written = evaluate_task(engine, RENDERER, task)
    assert (written.format_adherence, written.tool_use, written.tool_success) == (1.0, 0.0, None)
    assert written.calibration is None
    compared = evaluate_task(engine, RENDERER, task, protocol="categorical")
    assert (compared.format_adherence, compared.tool_use) == (None, None)
    assert compared.calibration is not None
    assert compared.calibration.ece == pytest.approx(1 - (compared.gold_probability or 0))


def test_items_with_fewer_options_are_not_called_fixed() -> None:
    task = make_task(4)
    short = replace(task.items[0], options=("1", "2", "3"), answer_index=1)
    task = ChoiceTask("MADE", "test", [short, *task.items[1:]])
    result = evaluate_task(AnsweringEngine(task, lambda gold: gold), RENDERER, task)
    assert (result.num_replies, result.num_fixed_order) == (3 + 3 * 5, 0)
    assert "by_option_order" not in result.to_json()


def test_items_whose_options_must_stay_are_asked_once_and_counted() -> None:
    task = make_task(10)
    fixed = replace(task.items[0], options=("1", "2", "3", "4", "the first option"))
    task = ChoiceTask("MADE", "test", [fixed, *task.items[1:]])
    result = evaluate_task(AnsweringEngine(task, lambda gold: gold), RENDERER, task)
    assert result.num_fixed_order == 1
    assert result.num_replies == 9 * 5 + 1
    assert result.accuracy == 1.0
    apart = result.to_json()["by_option_order"]
    assert {name: part["num_examples"] for name, part in apart.items()} == {
        "rotated": 9,
        "fixed": 1,
    }


def test_always_a_is_exactly_20_percent_of_the_rotated_rows_whatever_stays() -> None:
    task = make_task(10)
    fixed = replace(task.items[0], options=("1", "2", "3", "4", "the first option"))
    task = ChoiceTask("MADE", "test", [replace(fixed, answer_index=0), *task.items[1:]])
    result = evaluate_task(AnsweringEngine(task, lambda gold: "A"), RENDERER, task)
    assert result.groups["option_order"]["rotated"].accuracy == pytest.approx(0.2, abs=1e-12)
    assert result.groups["option_order"]["fixed"].accuracy == 1.0
    assert result.accuracy == pytest.approx((9 * 0.2 + 1) / 10)


def figures(result: EvalResult) -> dict[str, Any]:
    document = result.to_json()
    del document["seconds"]
    return document


@PROTOCOLS
def test_any_figure_can_be_recomputed_from_the_file(protocol: str, tmp_path: Path) -> None:
    task = make_task(30)
    rng = random.Random(1)
    engine = AnsweringEngine(task, lambda gold: rng.choice([gold, "A"]))
    result = evaluate_task(engine, RENDERER, task, protocol=protocol)
    path = tmp_path / "eval" / "x.predictions.jsonl"
    write_predictions(path, result.predictions)
    rows = read_predictions(path)
    assert rows == list(result.predictions)
    again = recompute(rows, task="MADE", split="test", protocol=result.protocol)
    assert figures(again) == figures(result)


def test_processes_share_the_questions_and_agree_on_the_result() -> None:
    task = make_task(11)
    rng = random.Random(2)
    letters = {f"made/{i}": rng.choice(LETTERS) for i in range(11)}
    engine = AnsweringEngine(task, lambda gold: "C")
    alone = evaluate_task(engine, RENDERER, task)
    shares: list[object] = []

    class FakeWorld:
        def __init__(self, rank: int) -> None:
            self.rank, self.size = rank, 3

        def gather_objects(self, value: object) -> list[object]:
            if len(shares) < 3:
                shares.append(value)
            return (shares * 3)[:3]

    for rank in (0, 1, 2, 0):
        shared = evaluate_task(engine, RENDERER, task, world=cast(World, FakeWorld(rank)))
    assert list(shared.predictions) == list(alone.predictions)
    assert figures(shared) == figures(alone)
    assert len(letters) == 11


def test_comparison_pairs_questions_and_tiers() -> None:
    task = make_task(60)
    rng = random.Random(3)
    weak = AnsweringEngine(task, lambda gold: rng.choice([gold, "A", "B"]))
    strong = AnsweringEngine(task, lambda gold: rng.choice([gold, gold, gold, "A"]))
    a, b = (evaluate_task(engine, RENDERER, task) for engine in (weak, strong))
    found = compare(a, b)
    assert set(found) == {"all", "easy", "hard"}
    assert found["all"].difference == pytest.approx(b.accuracy - a.accuracy)
    assert found["all"].num_questions == 60
    assert found["all"].ci95[0] > 0
    assert found["all"].p_value < 0.01


def test_a_single_tier_is_not_compared_twice() -> None:
    task = make_task(20)
    task.items = tuple(
        replace(item, attributes={**item.attributes, "tier": "easy"}) for item in task.items
    )
    result = evaluate_task(AnsweringEngine(task, lambda gold: gold), RENDERER, task)
    assert set(compare(result, result)) == {"all"}


def test_harder_problems_of_all_splits_are_compared_together() -> None:
    first, second = make_task(60, seed=1), make_task(40, seed=2)
    second.items = tuple(replace(item, id=f"other/{item.id}") for item in second.items)
    rng = random.Random(3)
    pairs = []
    for task in (first, second):
        weak = AnsweringEngine(task, lambda gold: rng.choice([gold, "A", "B"]))
        strong = AnsweringEngine(task, lambda gold: rng.choice([gold, gold, gold, "A"]))
        pairs.append(tuple(evaluate_task(engine, RENDERER, task) for engine in (weak, strong)))
    found = compare_harder(pairs)
    assert found is not None
    assert found.num_questions == 45 + 30
    gains = [
        mean - question_means(a.predictions)[key]
        for a, b in pairs
        for key, mean in question_means(
            [row for row in b.predictions if row.attributes["num_steps"] != 1]
        ).items()
    ]
    assert found.difference == pytest.approx(sum(gains) / len(gains))
    assert compare_harder([]) is None


def test_a_prompt_that_fills_the_context_counts_as_wrong() -> None:
    task = make_task(6)
    engine = AnsweringEngine(task, lambda gold: gold)
    long = replace(task.items[0], question="so " * 5000)
    task = ChoiceTask("MADE", "test", [long, *task.items[1:]])
    for protocol in ("generative", "categorical"):
        result = evaluate_task(engine, RENDERER, task, protocol=protocol)
        assert result.accuracy == pytest.approx(5 / 6)
        assert result.truncated == pytest.approx(1 / 6)


def test_free_form_answers_are_scored_in_one_order(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.jsonl"
    row = '{"question": "How many are %d and 1?", "answer": "%d+1 = <<%d+1=%d>>%d\\n#### %d"}'
    path.write_text("\n".join(row % (n, n, n, n + 1, n + 1, n + 1) for n in range(8)))
    task = load_gsm8k(path, "test")
    right = iter([True, False] * 4)
    engine = AnsweringEngine(task, lambda gold: gold if next(right) else "-1")
    result = evaluate_task(engine, RENDERER, task)
    assert (result.accuracy, result.num_replies) == (0.5, 8)
    assert (result.chance, result.majority_letter, result.letters) == (None, None, {})
    assert result.to_json()["baselines"] == {}
    with pytest.raises(ConfigError, match="`categorical` protocol"):
        evaluate_task(engine, RENDERER, task, protocol="categorical")


def test_greedy_samples_of_one_question_are_refused() -> None:
    task = make_task(2)
    engine = AnsweringEngine(task, lambda gold: gold)
    with pytest.raises(ConfigError, match="4 greedy replies"):
        evaluate_task(engine, RENDERER, task, num_samples=4)


def test_progress_and_parameters_reach_the_engine() -> None:
    task = make_task(4)
    seen: list[SamplingParams] = []

    class Watched(AnsweringEngine):
        def generate(
            self, prompts: Sequence[Sequence[int]], params: SamplingParams, on_finished: Any = None
        ) -> Any:
            seen.append(params)
            return super().generate(prompts, params, on_finished)

    steps: list[tuple[int, int]] = []
    evaluate_task(
        Watched(task, lambda gold: gold),
        RENDERER,
        task,
        temperature=0.5,
        num_samples=2,
        max_new_tokens=17,
        seed=9,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(40, 40)]
    (params,) = seen
    assert (params.temperature, params.num_samples) == (0.5, 2)
    assert (params.max_new_tokens, params.seed) == (17, 9)


def test_gold_probability_is_given_by_the_categorical_protocol() -> None:
    task = make_task(5)
    engine = AnsweringEngine(task, lambda gold: gold)
    result = evaluate_task(engine, RENDERER, task, protocol="categorical")
    expected = float(torch.tensor([3.0, 0, 0, 0, 0]).softmax(0)[0])
    assert result.gold_probability == pytest.approx(expected)
    assert all(row.finish == StopReason.STOP for row in result.predictions)
