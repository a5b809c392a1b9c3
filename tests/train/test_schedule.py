from __future__ import annotations

from dataclasses import replace

import pytest

from aquachat.config.recipes import TrainRecipe
from aquachat.errors import ConfigError
from aquachat.train.schedule import make_schedule, steps_for_epochs

RECIPE = TrainRecipe(warmup_steps=4, warmdown_ratio=0.4, final_lr_fraction=0.1)


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = make_schedule(RECIPE, num_steps=20)
    factors = [schedule.lr_factor(step) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:13] == [1.0] * 9
    assert factors == sorted(factors[:4]) + factors[4:12] + sorted(factors[12:], reverse=True)
    assert factors[-1] == pytest.approx(0.1 + 0.9 / 8)


def test_no_warmdown_is_constant() -> None:
    schedule = make_schedule(replace(RECIPE, warmdown_ratio=0.0, warmup_steps=0), num_steps=5)
    assert [schedule.lr_factor(step) for step in range(5)] == [1.0] * 5


def test_muon_momentum_warms_up_over_300_steps() -> None:
    schedule = make_schedule(RECIPE, num_steps=1000)
    assert schedule.muon_momentum(0) == 0.85
    assert schedule.muon_momentum(150) == pytest.approx(0.90)
    assert schedule.muon_momentum(300) == schedule.muon_momentum(900) == pytest.approx(0.95)


def test_horizons_round_up() -> None:
    assert steps_for_epochs(1.5, 100, 32) == 5


def test_an_empty_horizon_is_refused() -> None:
    with pytest.raises(ConfigError, match="no optimizer step"):
        make_schedule(RECIPE, num_steps=0)
