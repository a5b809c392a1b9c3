"""What is ours can be told from its name or its tags, and nothing else is ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.cloud.naming import Stamp, name_of, new_job, stamp_of, tags_of

STAMPS = st.builds(
    Stamp,
    st.text("0123456789abcdef", min_size=8, max_size=8),
    st.integers(0, 2**32 - 1),
    st.integers(1, 540_000),
)


@given(STAMPS)
def test_a_stamp_is_read_back_from_its_name_and_from_its_tags(stamp: Stamp) -> None:
    assert stamp_of(name_of(stamp), {}) == stamp
    assert stamp_of("renamed", tags_of(stamp)) == stamp


@given(STAMPS)
def test_names_and_tags_fit_what_lambda_allows(stamp: Stamp) -> None:
    assert len(name_of(stamp)) <= 64
    for key, value in tags_of(stamp).items():
        assert re.fullmatch(r"[a-z][a-z0-9-:]+", key)
        assert len(key) <= 55
        assert len(value) <= 128


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_no_text_is_an_error(name: str, tags: dict[str, str]) -> None:
    assert stamp_of(name, tags) is None


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("aquachat-dev", {}),
        ("aquachat-1a2b3c4d", {}),
        ("aquachat-1a2b3c4d-6ab13b80-240", {}),
        ("my-aquachat-1a2b3c4d-6ab13b80-240m", {}),
        ("aquachat-1A2B3C4D-6ab13b80-240m", {}),
        ("", {"aquachat:run": "1a2b3c4d"}),
        ("", {"aquachat:run": "x", "aquachat:t0": "1", "aquachat:max-h": "1"}),
        ("", {"aquachat:run": "1a2b3c4d", "aquachat:t0": "soon", "aquachat:max-h": "1"}),
        ("", {"aquachat:run": "1a2b3c4d", "aquachat:t0": "1", "aquachat:max-h": "inf"}),
    ],
)
def test_near_misses_are_not_ours(name: str, tags: dict[str, str]) -> None:
    assert stamp_of(name, tags) is None


def test_jobs_differ() -> None:
    assert len({new_job() for _ in range(100)}) == 100
