from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.serve.stops import StopFilter

texts = st.text(alphabet="abc", max_size=30)
stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3)


@settings(max_examples=1000, deadline=None)
@given(texts, stops, st.lists(st.integers(0, 30), max_size=8))
def test_however_a_text_is_cut_it_ends_before_the_stop_string_that_is_complete_first(
    text: str, stop_strings: list[str], cuts: list[int]
) -> None:
    expected, stops_at = text, None
    for end in range(1, len(text) + 1):  # the stop string that is complete first
        lengths = [len(stop) for stop in stop_strings if text[:end].endswith(stop)]
        if lengths:
            expected, stops_at = text[: end - max(lengths)], end
            break
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    filter_ = StopFilter(stop_strings)
    found = ""
    for start, end in itertools.pairwise(edges):
        found += filter_.push(text[start:end])
        assert expected.startswith(found)
    assert filter_.has_stopped == (stops_at is not None)
    assert found + ("" if filter_.has_stopped else filter_.finish()) == expected


def test_nothing_is_held_back_that_cannot_begin_a_stop_string() -> None:
    filter_ = StopFilter(["END"])
    assert filter_.push("a b") == "a b"
    assert filter_.push(" E") == " "
    assert filter_.push("x") == "Ex"
