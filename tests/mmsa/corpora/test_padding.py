from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsa.corpora.padding import detect_side, find_spans


def array(*rows: str) -> Any:
    """`"xx.."` → True where there is data."""
    return np.array([[step == "x" for step in row] for row in rows])


def spans(*args: Any, **kwargs: Any) -> list[tuple[int, int]]:
    found = find_spans(*args, **kwargs)
    return list(zip(found.start.tolist(), found.stop.tolist(), strict=True))


def test_zeros_on_the_padded_side_alone_are_cut() -> None:
    used = array(".x.x...", ".xx....", "xxxxxxx", ".......")
    assert find_spans(used).side == "right"
    assert spans(used) == [(0, 4), (0, 3), (0, 7), (0, 0)]
    mirrored = used[:, ::-1]
    assert find_spans(mirrored).side == "left"
    assert spans(mirrored) == [(3, 7), (4, 7), (0, 7), (0, 0)]


def test_the_side_may_be_given() -> None:
    assert spans(array("..xx.."), side="left") == [(2, 6)]
    assert spans(array("..xx.."), side="right") == [(0, 4)]


def test_lengths_keep_zeros_at_the_end_of_a_clip() -> None:
    used = array("xx....", "x.x...", "......")
    assert spans(used, np.array([4, 3, 2])) == [(0, 4), (0, 3), (0, 0)]
    assert spans(used[:, ::-1], np.array([4, 3, 2])) == [(2, 6), (3, 6), (0, 0)]


def test_lengths_that_the_data_exceed_give_way() -> None:
    used = array("xxxx..", "xx....", "x.....")
    found = find_spans(used, np.array([2, 2, 9]))
    assert (found.side, found.corrected) == ("right", 1)
    assert list(zip(found.start, found.stop, strict=True)) == [(0, 4), (0, 2), (0, 6)]
    found = find_spans(used[:, ::-1], np.array([2, 2, 1]))
    assert (found.side, found.corrected) == ("left", 1)
    assert list(zip(found.start, found.stop, strict=True)) == [(2, 6), (4, 6), (5, 6)]


@pytest.mark.parametrize("used", [array("xxx", "..."), array("x..", "..x")])
def test_where_no_clip_tells_there_is_no_side(used: Any) -> None:
    assert detect_side(used) is None
    assert detect_side(used, np.array([3, 3])) is None
    assert find_spans(used).side is None


def test_lengths_tell_where_zeros_do_not() -> None:
    """The first clip starts with zeros of its own for longer than its padding; with its length it tells nothing."""
    used = array("..x.", "xx..")
    assert detect_side(used[:1]) == "left"
    assert detect_side(used) is None
    assert detect_side(used[:1], np.array([3])) is None
    assert detect_side(used, np.array([3, 2])) == "right"


sequences = st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=8)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(clips=sequences, extra=st.integers(1, 4), side=st.sampled_from(["left", "right"]))
def test_padding_and_lengths_give_back_the_clips(clips: list[list[bool]], extra: int, side: Any) -> None:
    """With the side known, clips come back whole, but for those without any data."""
    steps = max(map(len, clips)) + extra
    used = np.zeros((len(clips), steps), bool)
    for row, clip in zip(used, clips, strict=True):
        where = slice(0, len(clip)) if side == "right" else slice(steps - len(clip), steps)
        row[where] = clip
    found = find_spans(used, np.array([len(clip) for clip in clips]), side)
    assert found.corrected == 0
    for row, clip, start, stop in zip(used, clips, found.start, found.stop, strict=True):
        assert row[start:stop].tolist() == (clip if any(clip) else [])


@settings(deadline=None, derandomize=True, max_examples=200)
@given(clips=sequences, extra=st.integers(1, 4), lengths=st.booleans())
def test_both_sides_give_the_same_sequences(clips: list[list[bool]], extra: int, lengths: bool) -> None:
    """Clips that begin and end with data: the side is found, and it does not matter."""
    clips = [[True, *clip, True] for clip in clips]
    steps = max(map(len, clips)) + extra
    right = np.array([clip + [False] * (steps - len(clip)) for clip in clips])
    left = np.array([[False] * (steps - len(clip)) + clip for clip in clips])
    given = np.array([len(clip) for clip in clips]) if lengths else None
    for used, side in ((right, "right"), (left, "left")):
        found = find_spans(used, given)
        assert found.side == side
        cut = [row[a:b].tolist() for row, a, b in zip(used, found.start, found.stop, strict=True)]
        assert cut == clips
