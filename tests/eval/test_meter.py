"""The meter on the real AQuA dev rows: known engines score what they must."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aquachat.eval.chat import evaluate_task
from aquachat.eval.results import EvalResult
from aquachat.tasks.aqua import load_aqua
from aquachat.tasks.choice_task import ChoiceTask
from tests.eval.engines import LETTERS, RENDERER, AnsweringEngine

PROTOCOLS = pytest.mark.parametrize("protocol", ["generative", "categorical"])


@pytest.fixture(scope="module")
def dev(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ChoiceTask:
    folder = tmp_path_factory.mktemp("aqua")
    (folder / "dev.json").symlink_to((real_data / "aqua" / "dev.json").resolve())
    return load_aqua(folder, "validation")


def ask(task: ChoiceTask, engine: AnsweringEngine, protocol: str) -> EvalResult:
    return evaluate_task(engine, RENDERER, task, protocol=protocol)


@PROTOCOLS
def test_an_oracle_is_right_on_every_dev_question(dev: ChoiceTask, protocol: str) -> None:
    result = ask(dev, AnsweringEngine(dev, lambda gold: gold), protocol)
    assert (result.accuracy, result.num_examples, result.num_scored) == (1.0, 254, 254)
    assert (result.num_replies, result.num_fixed_order) == (1270, 0)


@PROTOCOLS
@pytest.mark.parametrize("letter", ["A", "D"])
def test_one_letter_is_right_on_exactly_a_fifth_of_the_dev_rows(
    dev: ChoiceTask, protocol: str, letter: str
) -> None:
    result = ask(dev, AnsweringEngine(dev, lambda gold: letter), protocol)
    assert sum(row.correct for row in result.predictions) * 5 == len(result.predictions) == 1270
    assert result.accuracy == pytest.approx(0.2, abs=1e-12)
    assert result.majority_letter == pytest.approx(0.2, abs=1e-12)


@PROTOCOLS
def test_guesses_hold_20_percent_in_their_interval_on_dev(dev: ChoiceTask, protocol: str) -> None:
    dice = random.Random(0)
    result = ask(dev, AnsweringEngine(dev, lambda gold: dice.choice(LETTERS)), protocol)
    assert result.ci95[0] < 0.2 < result.ci95[1]
