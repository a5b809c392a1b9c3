from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aquachat.errors import DataError
from aquachat.eval.chat import evaluate_task
from aquachat.eval.options_only import OptionsOnly, fit_options_only, option_features
from aquachat.pipeline.baselines import OptionsOnlyBaselines
from aquachat.pipeline.mixtures import DataFolders
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.choice_task import ChoiceTask, load_choice_task
from aquachat.tasks.multiple_choice import rotate
from aquachat.tasks.synthetic_task import synthetic_task
from tests.eval.engines import RENDERER, AnsweringEngine, make_task


def items_where(
    gold: str, count: int, seed: int = 0, places: Sequence[int] = range(5)
) -> list[ChoiceItem]:
    """Questions whose right option is the `largest`, the `longest`, or told by its place."""
    rng = random.Random(seed)
    found = []
    for index in range(count):
        values = rng.sample(range(10, 99), 5)
        options = [str(value) for value in values]
        answer = rng.choice(list(places))
        if gold == "largest":
            answer = values.index(max(values))
        elif gold == "longest":
            options[answer] += " litres"
        found.append(ChoiceItem(f"{gold}/{seed}/{index}", "What?", tuple(options), answer))
    return found


def accuracy(classifier: OptionsOnly, items: Sequence[ChoiceItem]) -> float:
    rows = [rotate(item, by) for item in items for by in range(5)]
    return float(np.mean([classifier.choose(row) == row.answer_letter for row in rows]))


@pytest.mark.parametrize("gold", ["largest", "longest"])
def test_it_finds_what_options_give_away(gold: str) -> None:
    classifier = fit_options_only(items_where(gold, 150), with_places=False)
    assert accuracy(classifier, items_where(gold, 100, seed=1)) > 0.95


def test_it_is_at_chance_where_options_give_nothing_away() -> None:
    classifier = fit_options_only(items_where("random", 200), with_places=False)
    assert accuracy(classifier, items_where("random", 600, seed=1)) == pytest.approx(0.2, abs=0.06)


def test_places_count_in_one_order_only() -> None:
    items = items_where("place", 200, places=[2, 2, 2, 2, 0])
    fresh = items_where("place", 200, seed=1, places=[2, 2, 2, 2, 0])
    with_places = fit_options_only(items, with_places=True)
    own_order = np.mean([with_places.choose(item) == item.answer_letter for item in fresh])
    assert own_order == pytest.approx(0.8, abs=0.08)
    without = fit_options_only(items, with_places=False)
    assert accuracy(without, fresh) == pytest.approx(0.2, abs=0.06)


def test_the_question_is_never_looked_at() -> None:
    items = items_where("largest", 60)
    reworded = [replace(item, question=item.answer_letter * 9, rationale="A") for item in items]
    one, other = (fit_options_only(each, with_places=True) for each in (items, reworded))
    assert np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize(
    "options",
    [("", " "), ("a",) * 5, ("1,000", "1e400", "-0", "½"), ("None of these", "$5", "5%", "5/6")],
)
def test_features_of_odd_options_are_finite(options: tuple[str, ...]) -> None:
    assert np.isfinite(option_features(options)).all()


def test_too_few_questions_are_said() -> None:
    with pytest.raises(DataError, match="9 training questions are too few"):
        fit_options_only(items_where("random", 9), with_places=False)


def test_the_baseline_is_scored_on_the_rows_of_the_model() -> None:
    task = ChoiceTask("MADE", "test", items_where("largest", 50, seed=2))
    classifier = fit_options_only(items_where("largest", 300), with_places=False)
    engine = AnsweringEngine(task, lambda gold: "A")
    result = evaluate_task(engine, RENDERER, task, options_only=classifier)
    assert result.options_only == pytest.approx(accuracy(classifier, task.items))
    assert result.to_json()["baselines"]["options_only"] == result.options_only
    assert "options_only_note" not in result.to_json()
    assert all(row.options_only is not None for row in result.predictions)


def test_without_a_classifier_the_reason_is_given() -> None:
    task = make_task(4)
    engine = AnsweringEngine(task, lambda gold: gold)
    result = evaluate_task(engine, RENDERER, task, options_only="no split is prepared")
    document = result.to_json()
    assert document["baselines"]["options_only"] is None
    assert document["options_only_note"] == "no split is prepared"


def baselines(tmp_path: Path, num_rows: int = 60) -> OptionsOnlyBaselines:
    folders = DataFolders(tmp_path, tmp_path / "aqua")
    return OptionsOnlyBaselines(folders, num_rows, with_places=False)


def test_synthetic_problems_train_their_own_baseline(tmp_path: Path) -> None:
    found = baselines(tmp_path)
    task = synthetic_task("new_numbers", count=5)
    classifier = found.of(task)
    assert isinstance(classifier, OptionsOnly)
    assert classifier.num_questions <= 60
    assert found.of(task) is classifier


def test_reasons_for_no_baseline(tmp_path: Path) -> None:
    found = baselines(tmp_path)
    items = make_task(3).items
    assert "train split of AQUA is not in" in str(found.of(ChoiceTask("AQUA", "test", items)))
    assert "MMLU is not prepared" in str(found.of(ChoiceTask("MMLU", "test", items)))
    assert "no training split" in str(found.of(ChoiceTask("rows", "rows", items)))
    assert "training split itself" in str(found.of(ChoiceTask("AQUA", "train", items)))
    assert "options_only_rows" in str(baselines(tmp_path, 0).of(synthetic_task("train", count=2)))


def test_evaluated_questions_are_left_out_of_its_training(tmp_path: Path) -> None:
    rows = [
        f'{{"question": "How many, {n}?", "options": ["A){n}", "B){n + 1}"], "correct": "A"}}'
        for n in range(30)
    ]
    (tmp_path / "aqua").mkdir()
    (tmp_path / "aqua" / "train.jsonl").write_text("\n".join(rows))
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(row.replace("How many", "HOW  many") for row in rows[:5]))
    asked = load_choice_task(path, name="AQUA", split="test", dataset="aqua")
    classifier = baselines(tmp_path).of(asked)
    assert isinstance(classifier, OptionsOnly)
    assert classifier.num_questions == 25
