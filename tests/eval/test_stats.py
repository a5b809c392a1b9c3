from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aquachat.eval.stats import (
    accuracy_interval,
    bootstrap_interval,
    holm,
    letter_histogram,
    majority_at_k,
    majority_letter_accuracy,
    paired_difference,
    pass_at_k,
    sample_counts,
    sign_flip_p_value,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # From the closed form with z = 1.959964, computed by hand.
    [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_intervals_are_the_published_ones(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_solve_the_score_equation(counts: tuple[int, int]) -> None:
    successes, trials = counts
    share = successes / trials
    for end in wilson_interval(successes, trials):
        if 0 < end < 1:
            z = (share - end) / math.sqrt(end * (1 - end) / trials)
            assert abs(z) == pytest.approx(1.959964, abs=1e-4)


def test_bootstrap_equals_all_resamples_of_a_small_set() -> None:
    means = [0.0, 0.2, 0.4, 1.0]
    every = [np.mean(drawn) for drawn in itertools.product(means, repeat=4)]
    expected = np.quantile(every, [0.025, 0.975])
    assert bootstrap_interval(means, num_resamples=60_000) == pytest.approx(expected, abs=0.051)
    spread = np.std(every) * 1.96
    low, high = bootstrap_interval(means, num_resamples=60_000)
    assert high - low == pytest.approx(2 * spread, rel=0.1)


def test_bootstrap_interval_of_a_large_set_is_the_normal_one() -> None:
    means = np.random.default_rng(3).random(2000)
    low, high = bootstrap_interval(means)
    half = 1.96 * means.std() / math.sqrt(means.size)
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half), abs=half / 20)
    assert bootstrap_interval(means) == (low, high)
    assert bootstrap_interval(means, seed=1) != (low, high)


def test_equal_questions_are_not_called_certain() -> None:
    assert accuracy_interval([1.0] * 20, rows_per_question=5) == wilson_interval(20, 20)
    assert accuracy_interval([0.0] * 20, rows_per_question=5) == wilson_interval(0, 20)
    assert accuracy_interval([1.0, 0.0, 1.0], rows_per_question=1) == wilson_interval(2, 3)
    assert accuracy_interval([0.2] * 20, rows_per_question=5) == pytest.approx((0.2, 0.2))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.data())
@settings(max_examples=60)
def test_pass_at_k_is_the_mean_over_all_subsets(
    counts: tuple[int, int], data: st.DataObject
) -> None:
    num_samples, num_correct = counts
    k = data.draw(st.integers(1, num_samples))
    samples = [index < num_correct for index in range(num_samples)]
    subsets = [any(chosen) for chosen in itertools.combinations(samples, k)]
    assert pass_at_k(num_samples, num_correct, k) == pytest.approx(np.mean(subsets))


def test_pass_at_k_above_the_samples_is_not_defined() -> None:
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(4, 2, 5)


@pytest.mark.parametrize(
    ("answers", "k", "expected"),
    [
        ("AABB", 4, 0.5),
        ("AAB?", 4, 1.0),
        ("ABBB", 2, 0.25),
        ("????", 4, 0.0),
        ("A???", 4, 1.0),
        ("BCD?", 4, 0.0),
        ("ABC", 3, 1 / 3),
        ("ABAB?", 2, 0.5),
    ],
)
def test_majority_votes_and_shares_ties(answers: str, k: int, expected: float) -> None:
    votes = [None if letter == "?" else letter for letter in answers]
    assert majority_at_k(votes, "A", k) == pytest.approx(expected)


def test_sample_counts_are_powers_of_two_and_all() -> None:
    assert [sample_counts(n) for n in (1, 4, 6)] == [[1], [1, 2, 4], [1, 2, 4, 6]]


@given(st.lists(st.sampled_from([-1.0, -0.4, -0.2, 0.0, 0.2, 0.6, 1.0]), min_size=1, max_size=8))
@example([-0.4, -0.4, -0.2, 0.2, 1.0, -0.2])
@settings(max_examples=60, deadline=None)
def test_sign_flip_p_value_counts_every_pattern(differences: list[float]) -> None:
    values = np.array(differences)
    observed = abs(values.sum())
    hits = [
        abs(sum(s * v for s, v in zip(signs, differences, strict=True))) >= observed - 1e-9
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert sign_flip_p_value(values) == pytest.approx(np.mean(hits))


def test_sampled_sign_flips_agree_with_the_exact_test() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 14)
    exact = sign_flip_p_value(values)
    padded = np.concatenate([values, [1e-12]])
    assert sign_flip_p_value(padded, num_flips=40_000) == pytest.approx(exact, abs=0.01)


def test_paired_difference_sees_a_gain_that_unpaired_intervals_hide() -> None:
    generator = np.random.default_rng(1)
    hard = generator.random(300)
    before = (generator.random((300, 5)) < hard[:, None]).mean(axis=1)
    after = np.minimum(before + 0.2 * (generator.random(300) < 0.3), 1.0)
    found = paired_difference(before, after)
    assert found.difference == pytest.approx(float((after - before).mean()))
    assert 0 < found.ci95[0] < found.difference < found.ci95[1]
    assert found.p_value < 0.001
    assert found.to_json()["ci95"] == list(found.ci95)
    back = paired_difference(after, before)
    assert back.difference == -found.difference
    same = paired_difference(before, before)
    assert (same.difference, same.p_value, same.ci95) == (0.0, 1.0, (0.0, 0.0))


def test_unequal_question_sets_are_not_paired() -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        paired_difference([0.5], [0.5, 0.5])


def test_majority_letter_weighs_rows() -> None:
    assert majority_letter_accuracy(list("ABBC"), [1, 1, 1, 1]) == 0.5
    assert majority_letter_accuracy(list("ABBC"), [2, 0.5, 0.5, 1]) == 0.5
    assert letter_histogram(["A", None, "B", "A", "72"], "ABC") == {"A": 2, "B": 1, "C": 0}


def test_holm_adjusts_as_published() -> None:
    # Holm (1979), section 2: reject while p <= alpha / (number not yet rejected).
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(
    p_values: list[float], alpha: float
) -> None:
    rejected: set[int] = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - rank) > alpha:
            break
        rejected.add(index)
    adjusted = holm(p_values)
    assert {index for index, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
