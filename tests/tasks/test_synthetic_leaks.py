"""Nothing but the mathematics gives the right letter away: classifiers stay near chance.

20,000 rows train each classifier and 5,000 test it; chance is 20% with a standard error of 0.6
points, and none may pass 25%.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.synthetic import generate_items

NUM_TRAIN, NUM_TEST = 20_000, 5_000
LIMIT = 0.25


@pytest.fixture(scope="module")
def items() -> list[ChoiceItem]:
    return list(generate_items("train", 77, NUM_TRAIN + NUM_TEST))


def _gold(items: Sequence[ChoiceItem]) -> np.ndarray:
    return np.array([item.answer_index for item in items])


def _option_features(item: ChoiceItem) -> list[list[float]]:
    """Of each option: rank, size, length, digits, roundness, distances to the others."""
    values = [float(Fraction(option)) for option in item.options]
    order = sorted(values)
    rows = []
    for option, value in zip(item.options, values, strict=True):
        others = [other for other in values if other != value]
        gaps = [abs(value - other) for other in others]
        rows.append(
            [
                order.index(value),
                np.log1p(abs(value)),
                len(option),
                float(option[-1]),
                float(option[0]),
                value % 10 == 0,
                value % 5 == 0,
                value % 2 == 0,
                "." in option,
                "/" in option,
                np.log1p(min(gaps)),
                np.log1p(max(gaps)),
                (value - order[0]) / (order[-1] - order[0]),
                sum(len(other) == len(option) for other in item.options),
                sum(other[-1] == option[-1] for other in item.options),
                any(other in (value * 10, value / 10) for other in others),
                any(other in (value * 2, value / 2) for other in others),
                value / (1e-9 + sum(values)),
            ]
        )
    return rows


def _boosted(num_rounds: int = 40) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=num_rounds, max_leaf_nodes=15, learning_rate=0.15, random_state=0
    )


@pytest.mark.parametrize("make", [_boosted, lambda: LogisticRegression(max_iter=200)])
def test_the_options_alone_do_not_tell_the_letter(
    items: list[ChoiceItem], make: Callable[[], object]
) -> None:
    features = np.array([_option_features(item) for item in items], dtype=np.float32)
    flat = features.reshape(len(items), -1)
    flat = (flat - flat.mean(0)) / (flat.std(0) + 1e-6)
    gold = _gold(items)
    model = make()
    model.fit(flat[:NUM_TRAIN], gold[:NUM_TRAIN])  # type: ignore[attr-defined]
    accuracy = model.score(flat[NUM_TRAIN:], gold[NUM_TRAIN:])  # type: ignore[attr-defined]
    assert accuracy <= LIMIT, accuracy


def test_the_classifier_finds_a_planted_leak(items: list[ChoiceItem]) -> None:
    """The same features and model, with the smallest option always right: a control."""
    features = np.array([_option_features(item) for item in items[:6000]], dtype=np.float32)
    smallest = features[:, :, 0].argmin(1)
    flat = features.reshape(len(features), -1)
    model = _boosted()
    model.fit(flat[:5000], smallest[:5000])
    assert model.score(flat[5000:], smallest[5000:]) > 0.9


def test_no_option_looks_like_a_right_one(items: list[ChoiceItem]) -> None:
    """One boosted classifier over single options; of each five the likeliest is chosen."""
    features = np.array([_option_features(item) for item in items], dtype=np.float32)
    gold = _gold(items)
    is_right = np.zeros((len(items), 5), dtype=np.int64)
    is_right[np.arange(len(items)), gold] = 1
    model = _boosted(80)
    model.fit(features[:NUM_TRAIN].reshape(NUM_TRAIN * 5, -1), is_right[:NUM_TRAIN].ravel())
    scores = model.predict_proba(features[NUM_TRAIN:].reshape(NUM_TEST * 5, -1))[:, 1]
    accuracy = (scores.reshape(NUM_TEST, 5).argmax(1) == gold[NUM_TRAIN:]).mean()
    assert accuracy <= LIMIT, accuracy


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_a_bag_of_words_does_not_tell_the_letter(items: list[ChoiceItem], kind: str) -> None:
    """Words of the question, and each option with its letter as a token of its own."""
    texts = [
        item.question.lower()
        + " "
        + " ".join(f"{letter}_{o}" for letter, o in zip(item.letters, item.options, strict=True))
        for item in items
    ]
    gold = _gold(items)
    vectorizer = CountVectorizer(token_pattern=r"\S+", min_df=20, binary=True)
    counts = vectorizer.fit_transform(texts)
    if kind == "logistic":
        model = LogisticRegression(max_iter=300, C=0.1)
        model.fit(counts[:NUM_TRAIN], gold[:NUM_TRAIN])
        accuracy = model.score(counts[NUM_TRAIN:], gold[NUM_TRAIN:])
    else:
        common = np.asarray(counts.sum(0)).ravel().argsort()[-150:]
        dense = sparse.csr_matrix(counts)[:, common].toarray()
        model = _boosted(25)
        model.fit(dense[:NUM_TRAIN], gold[:NUM_TRAIN])
        accuracy = model.score(dense[NUM_TRAIN:], gold[NUM_TRAIN:])
    assert accuracy <= LIMIT, accuracy
