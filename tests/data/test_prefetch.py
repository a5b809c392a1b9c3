from __future__ import annotations

import threading

import pytest

from aquachat.data.prefetch import Prefetcher


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_every_step_is_what_make_gives_in_any_order(depth: int) -> None:
    ahead = Prefetcher(lambda step: step * step, depth, "test")
    assert [ahead.get(step) for step in (0, 1, 2, 7, 8, 3, 3, 0)] == [0, 1, 4, 49, 64, 9, 9, 0]
    ahead.close()


def test_the_next_steps_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []
    third = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 2:
            third.set()
        return step

    ahead = Prefetcher(make, 2, "test")
    ahead.get(0)
    assert third.wait(10)
    ahead.close()
    assert made == [0, 1, 2]


def test_an_exception_arrives_at_its_step_and_not_before() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("step two")
        return step

    ahead = Prefetcher(make, 2, "test")
    assert (ahead.get(0), ahead.get(1)) == (0, 1)
    with pytest.raises(ValueError, match="step two"):
        ahead.get(2)
    assert ahead.get(3) == 3
    ahead.close()


def test_closing_ends_the_thread() -> None:
    ahead = Prefetcher(lambda step: step, 2, "prefetch-test")
    ahead.get(0)
    ahead.close()
    assert not any(t.name.startswith("prefetch-test") for t in threading.enumerate())
    assert ahead.get(5) == 5
    ahead.close()


def test_without_depth_there_is_no_thread() -> None:
    ahead = Prefetcher(lambda step: threading.current_thread().name, 0, "prefetch-test")
    assert ahead.get(0) == threading.current_thread().name
    assert ahead.waited_s >= 0.0
