"""Who is who: by place, by size, by build; whatever the order in which a frame's faces come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.facial.canonical import RIGID, canonical_face
from extractors.facial.face_tracks import GAP_SECONDS, FaceTracks, SeenFace, see

PERIOD = 0.1
ONE, OTHER = np.zeros(36), np.full(36, 0.03)


def face(x: float, y: float = 100.0, size: float = 100.0, shape: np.ndarray = ONE) -> SeenFace:
    return SeenFace(np.array([x, y]), size, shape, 0.0)


def test_what_is_seen_of_a_face(view: Callable[..., np.ndarray], neutral: np.ndarray) -> None:
    """The canonical face from the front at 100 pixels between the eye corners, its lips pulled apart by a fifth."""
    neutral[14] = neutral[13] - (0.0, 0.2, 0.0)
    seen = see(view(neutral, scale=100.0, centre=(320.0, 240.0), roll=20))
    assert seen.middle == pytest.approx([320, 240], abs=1e-6)
    assert seen.opening == pytest.approx(0.2)
    assert seen.shape.reshape(18, 2) == pytest.approx(canonical_face()[list(RIGID), :2])
    straight = view(neutral, scale=100.0)
    width, height = np.ptp(straight[:, :2], axis=0)
    assert see(straight).size == pytest.approx(np.sqrt(width * height))
    assert see(view(neutral, scale=50.0)).size == pytest.approx(see(straight).size / 2)
    with pytest.raises(ValueError, match="the rigid landmarks coincide"):
        see(np.ones((478, 3)))


def test_two_who_sit_still_keep_their_numbers_in_any_order() -> None:
    tracks = FaceTracks()
    for k in range(20):
        pair = [face(100 + k % 3), face(500 - k % 2)]
        assert tracks.assign(pair if k % 2 else pair[::-1], k * PERIOD) == ([0, 1] if k % 2 else [1, 0])


def test_a_newcomer_gets_the_next_number() -> None:
    tracks = FaceTracks()
    assert tracks.assign([face(400)], 0.0) == [0]
    assert tracks.assign([face(100), face(400)], PERIOD) == [1, 0]
    assert tracks.assign([face(100), face(400), face(800), face(1200)], 2 * PERIOD) == [1, 0, 2, 3]
    assert tracks.assign([], 3 * PERIOD) == []


def test_a_short_gap_is_survived_and_a_long_one_is_not() -> None:
    for gap, number in ((GAP_SECONDS, 0), (GAP_SECONDS + PERIOD, 1)):
        tracks = FaceTracks()
        tracks.assign([face(100)], 0.0)
        assert tracks.assign([face(110)], gap) == [number]


def test_another_place_size_or_build_is_another_face() -> None:
    for other in (face(191), face(100, size=210), face(100, size=48), face(100, shape=np.full(36, 0.07))):
        tracks = FaceTracks()
        tracks.assign([face(100)], 0.0)
        assert tracks.assign([other], PERIOD) == [1]  # farther than (0.75 + 1.5 * 0.1) sizes; above twice; above 0.06
    for same in (face(189), face(100, size=190), face(100, size=52), face(100, shape=np.full(36, 0.05))):
        tracks = FaceTracks()
        tracks.assign([face(100)], 0.0)
        assert tracks.assign([same], PERIOD) == [0]


def walk(tracks: FaceTracks, places: Callable[[float], list[SeenFace]], seconds: float) -> list[list[int]]:
    return [tracks.assign(places(k * PERIOD), k * PERIOD) for k in range(round(seconds / PERIOD) + 1)]


def test_two_built_alike_who_walk_past_each_other_keep_theirs_by_their_pace() -> None:
    """Each hides the other for the second in which they are less than a face apart."""

    def places(t: float) -> list[SeenFace]:
        left, right = face(100 + 100 * t), face(700 - 100 * t)
        return [left, right] if abs(t - 3) > 0.5 else [left]

    numbers = walk(FaceTracks(), places, 6.0)
    assert numbers[0] == numbers[-1] == [0, 1]
    assert {tuple(own) for own in numbers} == {(0, 1), (0,)}


@pytest.mark.parametrize("back", [True, False])
def test_built_differently_they_are_told_apart_whether_they_pass_or_turn_back(back: bool) -> None:
    """They stand one behind the other for 0.8 s, so that nobody's pace tells."""

    def places(t: float) -> list[SeenFace]:
        away = 150 * (2 - t) if t < 2 else -150 * (1 if not back else -1) * max(0.0, t - 2.8)
        one, other = face(450 - away), face(450 + away, shape=OTHER)
        return [one, other] if abs(away) > 50 else [other]

    numbers = walk(FaceTracks(), places, 4.8)
    assert numbers[0] == numbers[-1] == [0, 1]


def test_few_are_remembered() -> None:
    tracks = FaceTracks()
    for k in range(200):
        tracks.assign([face(1000.0 * k + 200.0 * i) for i in range(4)], k * 0.01)
    assert len(tracks._tracks) == 16
    assert tracks.assign([face(0.0)], 2.0) == [800]


faces = st.builds(
    lambda x, y, size, kind: face(x, y, size, ONE + 0.02 * kind),
    st.floats(0, 900), st.floats(0, 500), st.floats(40, 160), st.integers(0, 2),
)  # fmt: skip
frames = st.lists(faces, max_size=4, unique_by=lambda one: one.middle[0])
clips = st.lists(frames, min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(clips, st.randoms(use_true_random=False))
def test_the_order_within_a_frame_does_not_matter(clip: list[list[SeenFace]], random: object) -> None:
    one, other = FaceTracks(), FaceTracks()
    for k, frame in enumerate(clip):
        order = list(range(len(frame)))
        random.shuffle(order)  # type: ignore[attr-defined]
        numbers = one.assign(frame, k * PERIOD)
        shuffled = other.assign([frame[i] for i in order], k * PERIOD)
        assert [numbers[i] for i in order] == shuffled


@settings(max_examples=60, deadline=None)
@given(clips)
def test_every_face_gets_one_number_that_nobody_else_in_the_frame_has(clip: list[list[SeenFace]]) -> None:
    tracks, known = FaceTracks(), 0
    for k, frame in enumerate(clip):
        numbers = tracks.assign(frame, k * PERIOD)
        assert len(set(numbers)) == len(frame)
        fresh = sorted(number for number in numbers if number >= known)
        assert fresh == list(range(known, known + len(fresh)))
        known += len(fresh)
