from __future__ import annotations

import av
import numpy as np
import pytest

from mmsa.scoring.overlay.track import FaceTrack, between


class _Source:
    """A "face" that is where the picture is bright: all landmarks at `(level, level / 2)` pixels; none below 20."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.closed = False

    def find(self, image: np.ndarray) -> np.ndarray | None:
        level = round(float(image.mean()))
        self.seen.append(level)
        if level < 20:
            return None
        return np.tile([level, level / 2, 0.0], (478, 1)).astype(np.float64)

    def close(self) -> None:
        self.closed = True


class _Extractor:
    frames_per_second, max_side_pixels = 5.0, 1280

    def __init__(self) -> None:
        self.source = _Source()

    def open_source(self) -> _Source:
        return self.source


def _frame(level: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((100, 200, 3), level, np.uint8), format="rgb24")


def _follow(levels: list[int], rate: float = 25.0) -> tuple[FaceTrack, _Extractor, list[float | None]]:
    """x of the face, in pixels, at every frame, asked for as soon as it is known."""
    extractor = _Extractor()
    track = FaceTrack(extractor)  # type: ignore[arg-type]
    waiting: list[float] = []
    found: list[float | None] = []

    def take() -> None:
        while waiting and waiting[0] <= track.known_seconds:
            points = track.at(waiting.pop(0))
            found.append(None if points is None else float(points[0, 0] * 200))

    for number, level in enumerate(levels):
        track.feed(_frame(level), number / rate)
        waiting.append(number / rate)
        take()
        assert len(waiting) <= rate + 1
    track.finish()
    take()
    assert not waiting
    return track, extractor, found


def test_the_frames_that_scoring_samples_are_looked_at_and_the_rest_lies_between() -> None:
    """A face that moves evenly is where it is in every frame, though only every fifth is looked at."""
    levels = [30 + k for k in range(50)]
    _, extractor, found = _follow(levels)
    assert extractor.source.seen == levels[::5]
    assert extractor.source.closed
    assert found[:46] == pytest.approx(levels[:46], abs=1.0)


def test_a_cut_is_no_movement() -> None:
    _, _, found = _follow([40] * 10 + [160] * 10)
    assert set(np.round(np.array(found, float))) <= {40.0, 160.0}
    assert found[0] == pytest.approx(40, abs=1)
    assert found[-1] == pytest.approx(160, abs=1)


def test_no_face_is_drawn_where_there_is_none() -> None:
    _, _, found = _follow([40] * 10 + [0] * 20 + [40] * 10)
    assert found[13:28] == [None] * 15
    assert found[0] is not None
    assert found[-1] is not None


def test_frames_wait_a_second_at_most() -> None:
    extractor = _Extractor()
    extractor.frames_per_second = 0.1  # type: ignore[misc]
    track = FaceTrack(extractor)  # type: ignore[arg-type]
    for number in range(100):
        track.feed(_frame(50), number / 25)
        assert track.known_seconds >= number / 25 - 1.0
    assert track.at(0.5) is not None
    assert track.at(2.5) is None  # nothing was looked at for so long


def test_between() -> None:
    one, other = np.zeros((478, 2)), np.full((478, 2), 0.08)
    mixed = between(one, other, 0.25)
    assert mixed is not None
    assert np.allclose(mixed, 0.02)
    assert between(one, None, 0.4) is one
    assert between(one, None, 0.6) is None
    far = one + 0.5
    assert between(one, far, 0.6) is far
