from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mmsa.scoring.results import WindowScore
from mmsa.scoring.stretches import Finder, own_stretches

SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)), min_size=2, max_size=12)


@given(SPANS)
def test_no_instant_belongs_to_two_and_order_is_kept(spans: list[tuple[int, int]]) -> None:
    windows = [WindowScore(k, float(a), float(a + length)) for k, (a, length) in enumerate(sorted(spans))]
    found = own_stretches(windows)
    for (_, end), (start, _) in pairwise(found):
        assert end <= start
    for start, end in found:
        assert start <= end


def test_the_middle_of_what_is_shared_is_the_border() -> None:
    """Windows of 10 s every 4 s share 6 s: borders lie 3 s behind each later start."""
    windows = [WindowScore(k, 4.0 * k, 4.0 * k + 10) for k in range(3)]
    assert own_stretches(windows) == [(0.0, 7.0), (7.0, 11.0), (11.0, 18.0)]
    finder = Finder(windows)
    assert [finder.at(at) for at in (-1.0, 0.0, 6.9, 7.0, 10.9, 11.0, 18.0, 18.2, 19.0)] == [
        None,
        0,
        0,
        1,
        1,
        2,
        2,
        2,
        None,
    ]


def test_gaps_belong_to_none_and_a_single_window_to_all() -> None:
    finder = Finder([WindowScore(0, 0.0, 1.0), WindowScore(1, 5.0, 6.0)])
    assert [finder.at(at) for at in (0.5, 3.0, 5.5)] == [0, None, 1]
    assert Finder([WindowScore(0, 2.0, 3.0)]).at(99.0) == 0
    assert Finder([]).at(0.0) is None
