from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.data.hygiene.statistics import (
    binomial_p_value,
    chi_square_p_value,
    goodness_of_fit,
    lengths_of,
)


@pytest.mark.parametrize(
    ("statistic", "degrees", "p_value"),
    [
        # upper 5% and 1% points of the printed tables
        (3.841459, 1, 0.05),
        (5.991465, 2, 0.05),
        (7.814728, 3, 0.05),
        (9.487729, 4, 0.05),
        (6.634897, 1, 0.01),
        (13.276704, 4, 0.01),
        (23.209251, 10, 0.01),
    ],
)
def test_p_values_are_those_of_the_tables(statistic: float, degrees: int, p_value: float) -> None:
    assert chi_square_p_value(statistic, degrees) == pytest.approx(p_value, rel=1e-5)


@given(st.floats(0, 1e4), st.integers(1, 25))
def test_a_p_value_is_a_probability_and_falls(statistic: float, degrees: int) -> None:
    p_value = chi_square_p_value(statistic, degrees)
    assert 0 <= p_value <= 1
    assert chi_square_p_value(statistic + 1, degrees) <= p_value
    assert chi_square_p_value(statistic, degrees + 1) >= p_value - 1e-12


def test_even_letters_fit_and_uneven_do_not() -> None:
    expected = dict.fromkeys("ABCDE", 20.0)
    assert goodness_of_fit(dict.fromkeys("ABCDE", 20), expected).p_value == 1.0  # type: ignore[union-attr]
    uneven = goodness_of_fit({"A": 60, "B": 10, "C": 10, "D": 10, "E": 10}, expected)
    assert uneven is not None
    assert (uneven.statistic, uneven.degrees_of_freedom) == (pytest.approx(100), 4)
    assert uneven.p_value < 1e-19


def test_cells_that_are_hardly_expected_are_left_out() -> None:
    fit = goodness_of_fit({"A": 30, "B": 20, "C": 1}, {"A": 25.0, "B": 25.0, "C": 1.0})
    assert fit is not None
    assert (fit.statistic, fit.degrees_of_freedom) == (pytest.approx(2), 1)
    assert goodness_of_fit({"A": 1}, {"A": 1.0, "B": 1.0}) is None


def test_the_binomial_p_value_is_near_the_exact_one() -> None:
    trials, chance = 400, 0.2
    exact = sum(math.comb(trials, k) * 0.2**k * 0.8 ** (trials - k) for k in range(100, trials + 1))
    found = binomial_p_value(100, trials * chance, trials * chance * (1 - chance))
    assert found == pytest.approx(2 * exact, rel=0.2)
    assert binomial_p_value(80, 80, 64) == 1.0
    assert binomial_p_value(3, 3, 0) == 1.0


def test_lengths_have_their_quantiles() -> None:
    lengths = lengths_of(list(range(101)))
    assert lengths is not None
    assert (lengths.minimum, lengths.p5, lengths.median, lengths.p95, lengths.maximum) == (
        *(0, 5.0, 50.0, 95.0, 100),
    )
    assert lengths_of([]) is None
