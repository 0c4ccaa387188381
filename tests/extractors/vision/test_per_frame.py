"""`PerFrameStream`: batching, times, windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.vision.colour import Colour
from extractors.vision.per_frame import PerFrameStream

OWN = Colour(frames_per_second=4.0)
D = len(OWN.names)


def rows(images: Sequence[np.ndarray]) -> np.ndarray:
    """A row that repeats the frame's first value."""
    return np.stack([np.full(D, image[0, 0, 0], np.float32) for image in images])


def frame(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_steps_and_times(batch_size: int) -> None:
    calls: list[int] = []

    def describe(images: Sequence[np.ndarray]) -> np.ndarray:
        calls.append(len(images))
        return rows(images)

    stream = PerFrameStream(OWN, describe, batch_size)
    for value, indices in ((5, [0]), (6, [1, 2, 3]), (7, [6])):
        stream.push(frame(value), indices)
    found = stream.finish()
    assert found.values[:, 0].tolist() == [5, 6, 6, 6, 7]
    assert found.times[:, 0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.5]
    assert (found.times[:, 1] - found.times[:, 0] == 0.25).all()
    assert sum(calls) == 3  # a frame that is shown longer is described once
    assert max(calls) <= batch_size


def test_no_frame() -> None:
    stream = PerFrameStream(OWN, rows, 4)
    assert stream.finish().values.shape == (0, D)
    assert stream.missing_reason() == "no frame could be sampled"


@given(
    shown=st.lists(st.integers(0, 40), unique=True, max_size=20).map(sorted),
    edges=st.tuples(st.floats(0, 11), st.floats(0, 11)).map(sorted),
    batch_size=st.integers(1, 5),
)
def test_windows_are_what_between_cuts_out(shown: list[int], edges: list[float], batch_size: int) -> None:
    whole, rolling = PerFrameStream(OWN, rows, batch_size), PerFrameStream(OWN, rows, batch_size)
    for k in shown:
        whole.push(frame(k), [k])
        rolling.push(frame(k), [k])
    start, end = edges
    expected = whole.finish().between(start, end)
    rolling.forget(start)
    found, reason = rolling.window(start, end)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.times, expected.times)
    assert bool(reason) == (len(found) == 0)
