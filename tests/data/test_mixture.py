from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.mixture import MAX_CYCLE, Mixture, cycle_shares, interleave
from aquachat.errors import ConfigError

weights_st = st.lists(
    st.one_of(st.integers(1, 60), st.sampled_from([0.1, 0.25, 0.5, 1.5])), min_size=1, max_size=7
)


@settings(deadline=None, max_examples=60)
@given(weights=weights_st)
def test_each_part_is_always_within_one_example_of_its_share(weights: list[float]) -> None:
    total = sum(Fraction(str(weight)) for weight in weights)
    cycle = interleave(cycle_shares(weights))
    used = Counter[int]()
    for position, part in enumerate(cycle.tolist(), start=1):
        used[part] += 1
        for index, weight in enumerate(weights):
            assert abs(used[index] - position * Fraction(str(weight)) / total) < 1
    for index, weight in enumerate(weights):
        assert used[index] == len(cycle) * Fraction(str(weight)) / total


def test_weights_are_the_decimal_numbers_they_are_written_as() -> None:
    assert cycle_shares([0.1, 0.2, 0.7]) == (1, 2, 7)
    assert cycle_shares([2.0, 4, 6]) == (1, 2, 3)
    assert cycle_shares([1e-3, 1.0]) == (1, 1000)


def test_weights_of_a_very_long_cycle_are_rounded_and_none_vanishes() -> None:
    shares = cycle_shares([460_001, 100_003, 1e-9])
    assert abs(sum(shares) - MAX_CYCLE) <= 3
    assert shares[0] / shares[1] == pytest.approx(460_001 / 100_003, rel=1e-4)
    assert shares[2] == 1


def mixture(seed: int = 0) -> Mixture:
    return Mixture(["a", "b", "c"], [7, 3, 20], [0.5, 0.3, 0.2], seed)


def test_the_counts_are_those_of_the_draws_at_any_length() -> None:
    mixed = mixture()
    counts = Counter[str]()
    for position in range(137):
        assert {name: use.examples for name, use in mixed.use(position).items()} == {
            name: counts[name] for name in mixed.names
        }
        counts[mixed.names[mixed.draw(position).part]] += 1
    use = mixed.use(100)
    assert [use[name].examples for name in "abc"] == [50, 30, 20]
    assert use["b"].epochs == 10.0
    assert use["a"].share == 0.5
    assert mixed.use(0)["a"].share == 0.0


def test_each_epoch_of_a_part_holds_every_example_once_in_another_order() -> None:
    mixed = mixture()
    drawn: dict[tuple[int, int], list[int]] = {}
    for position in range(400):
        draw = mixed.draw(position)
        drawn.setdefault((draw.part, draw.epoch), []).append(draw.index)
    for epoch in range(400 // 20):
        assert sorted(drawn[0, epoch]) == list(range(7))
    assert drawn[0, 0] != drawn[0, 1]


def test_a_draw_depends_on_the_seed_and_the_position_alone() -> None:
    walked = [mixture().draw(position) for position in range(200)]
    fresh = mixture()
    assert [fresh.draw(position) for position in reversed(range(200))] == walked[::-1]
    assert [mixture(seed=1).draw(position) for position in range(200)] != walked


def test_another_part_leaves_the_order_of_the_first_alone() -> None:
    alone = Mixture(["a"], [50], [1.0], 3)
    joined = Mixture(["new", "a"], [9, 50], [3.0, 1.0], 3)
    draws = [joined.draw(position) for position in range(200)]
    assert [d.index for d in draws if d.part == 1] == [alone.draw(i).index for i in range(50)]


def test_an_epoch_ends_when_every_part_is_used_up() -> None:
    mixed = mixture()
    assert mixed.epoch_examples() == 100
    assert min(use.epochs for use in mixed.use(100).values()) == 1.0


@pytest.mark.parametrize(
    ("names", "sizes", "weights", "message"),
    [
        ([], [], [], "has no part"),
        (["a", "a"], [1, 1], [1, 1], "twice"),
        (["a"], [0], [1], "has no example"),
        (["a"], [1], [0], "weight 0"),
        (["a"], [1], [float("nan")], "weight nan"),
        (["a"], [1], [float("inf")], "weight inf"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(
    names: list[str], sizes: list[int], weights: list[float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Mixture(names, sizes, weights, 0)
