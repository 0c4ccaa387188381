"""`FrameWindowStream` against a naive walk over all windows: times, gaps, segments, rolling windows, memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from extractors.base import VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.vision.frame_windows import FrameWindows, FrameWindowStream, WindowSteps
from extractors.vision.frame_windows import Shown as Subject

RATE = 4.0


class Values(VisionExtractor):
    """What a window holds: the value of the picture that stands for each of its frames."""

    def __init__(self, frames: int, hop: int, batch_size: int = 1) -> None:
        self.windows, self.batch_size = FrameWindows(frames, hop), batch_size
        self.frames_per_second, self.max_side_pixels = RATE, 64
        self.before_seconds = self.after_seconds = self.windows.context_seconds(RATE)
        self.names = tuple(f"frame_{i}" for i in range(frames))
        self.spec = ExtractorSpec("tests:Values", "numpy", "1", {})
        self.calls: list[int] = []

    def stream(self) -> FrameWindowStream:
        return FrameWindowStream(
            self, self.windows, lambda image: float(image[0, 0, 0]), self.describe, self.batch_size
        )

    def describe(self, windows: Sequence[Sequence[float]]) -> np.ndarray:
        self.calls.append(len(windows))
        return np.array(windows, np.float32)


def frame(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


Shown = dict[int, int | None]
"""The value of each sampled frame; None where it is passed over."""


def feed(stream: VisionStream, shown: Shown) -> None:
    """Neighbouring frames of one value are one picture that is shown for several instants."""
    assert isinstance(stream, FrameWindowStream)
    for value, run in groupby(sorted(shown), key=lambda index: shown[index]):
        indices = list(run)
        if value is None:
            stream.skip(indices)
        else:
            stream.push(frame(value), indices)


def naive(shown: Shown, frames: int, hop: int) -> tuple[list[list[float]], list[list[float]]]:
    """What every window holds, and from when to when it lasts."""
    values, times = [], []
    end = max(shown) + 1
    for first in range(0, end, hop):
        inside = [index for index in range(first, first + frames) if index in shown]
        there = [index for index in inside if shown[index] is not None]
        most = len(inside) if first == 0 and end < frames / 2 else frames
        if there and len(there) >= most / 2:
            stands = [max((i for i in there if i <= index), default=there[0]) for index in range(first, first + frames)]
            values.append([shown[index] for index in stands])
            times.append([inside[0] / RATE, (inside[-1] + 1) / RATE])
    return values, times  # type: ignore[return-value]


shapes = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, 5)))
# Every frame from the first on is sampled; some show nothing that counts, and some are shown for longer.
videos = st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=50).map(lambda own: dict(enumerate(own)))


@settings(max_examples=200)
@given(shapes, st.dictionaries(st.integers(0, 60), st.none() | st.integers(0, 3), min_size=1))
@example((8, 4, 1), {0: None, 1: 5, 2: 6})  # over before half of a window has passed, with a face in most of it
@example((8, 4, 1), {0: None, 1: 5, 2: None})  # and with one in less
@example((8, 4, 1), {0: None, 1: 5, 2: 6, 3: None})  # over just then
def test_equals_a_naive_walk(shape: tuple[int, int, int], shown: Shown) -> None:
    """Also where instants were not sampled at all."""
    frames, hop, batch_size = shape
    own = Values(frames, hop, batch_size)
    stream = own.stream()
    feed(stream, shown)
    found = stream.finish()
    values, times = naive(shown, frames, hop)
    assert found.values.tolist() == values
    assert found.times.tolist() == times
    assert all(size <= batch_size for size in own.calls)
    assert sum(own.calls) == len(values)


def test_by_hand() -> None:
    """Windows of four frames every two; of ten frames the fourth and the seventh show nobody."""
    stream = Values(4, 2).stream()
    feed(stream, {0: 10, 1: 11, 2: 12, 3: None, 4: 14, 5: 15, 6: None, 7: 17, 8: 18, 9: 19, 10: 20})
    found = stream.finish()
    assert found.values.tolist() == [
        [10, 11, 12, 12],
        [12, 12, 14, 15],
        [14, 15, 15, 17],
        [17, 17, 18, 19],  # nobody at its beginning: the first that comes
        [18, 19, 20, 20],  # the video ends within it
    ]
    assert found.times.tolist() == [[0.0, 1.0], [0.5, 1.5], [1.0, 2.0], [1.5, 2.5], [2.0, 2.75]]


@settings(max_examples=300)
@given(shapes, videos, st.integers(0, 479).map(lambda n: n / 40), st.integers(1, 200).map(lambda n: n / 40))
def test_a_segment_has_the_steps_of_the_whole(
    shape: tuple[int, int, int], shown: Shown, start: float, lasts: float
) -> None:
    frames, hop, batch_size = shape
    own, end = Values(frames, hop, batch_size), start + lasts
    whole = own.stream()
    feed(whole, shown)
    expected = whole.finish().between(start, end)
    first = math.ceil(max(0.0, start - own.before_seconds) * RATE - 0.5)
    after = math.ceil((end + own.after_seconds) * RATE - 0.5)
    part = own.stream()
    feed(part, {index: value for index, value in shown.items() if first <= index < after})
    found = part.finish().between(start, end)
    assert found.values.tolist() == expected.values.tolist()
    assert found.times.tolist() == expected.times.tolist()


@given(shapes, videos, st.lists(st.tuples(st.floats(0, 12), st.floats(0.01, 6)), min_size=1, max_size=5))
def test_rolling_windows_have_the_steps_of_the_whole(
    shape: tuple[int, int, int], shown: Shown, spans: list[tuple[float, float]]
) -> None:
    """Each asked for as soon as all that bears on it has been pushed, or never will be."""
    frames, hop, batch_size = shape
    own = Values(frames, hop, batch_size)
    whole = own.stream()
    feed(whole, shown)
    expected = whole.finish()
    rolling, pushed = own.stream(), 0
    for start, lasts in sorted(spans):
        rolling.forget(start - own.before_seconds)
        after = math.ceil((start + lasts + own.after_seconds) * RATE - 0.5)
        if after > pushed:
            new = {index: value for index, value in shown.items() if pushed <= index < after}
            feed(rolling, new)
            pushed = after
        found, reason = rolling.window(start, start + lasts)
        wanted = expected.between(start, start + lasts)
        assert found.values.tolist() == wanted.values.tolist()
        assert found.times.tolist() == wanted.times.tolist()
        assert bool(reason) == (not len(found))


def test_what_is_missing_is_said() -> None:
    stream = Values(4, 2).stream()
    assert len(stream.finish()) == 0
    assert stream.missing_reason() == "no frame could be sampled"
    stream = FrameWindowStream(Values(4, 2), FrameWindows(4, 2), float, np.array, absent="face")
    stream.skip([0, 1])
    assert stream.window(0.0, 0.25)[1] == "no face found in 1 sampled frame"
    assert stream.missing_reason() == "no face found in 2 sampled frames"
    stream = Values(4, 4).stream()
    feed(stream, dict.fromkeys(range(8), 1))
    found, reason = stream.window(0.6, 1.4)
    assert len(found) == 0
    assert reason.startswith("of 4 sampled frames 4 have a picture, but no window of 4 frames with a picture in half")
    assert reason.endswith("has its middle here; one begins every 4 frames (1 s)")


class _Picture:
    """Something that can be counted while it is in memory."""


@pytest.mark.parametrize(("hop", "batch_size"), [(1, 1), (3, 2), (6, 3)])
def test_memory_does_not_grow(hop: int, batch_size: int) -> None:
    """In memory are the frames of one window and of a batch; and of steps and instants only those not yet forgotten."""
    alive: weakref.WeakSet[_Picture] = weakref.WeakSet()
    most = 0

    def prepare(_: np.ndarray) -> _Picture:
        nonlocal most
        picture = _Picture()
        alive.add(picture)
        most = max(most, len(alive))
        return picture

    own = Values(6, hop)
    stream = FrameWindowStream(own, own.windows, prepare, lambda some: np.zeros((len(some), 6), np.float32), batch_size)
    kept = 0
    for index in range(1000):
        stream.push(frame(0), [index])
        if index % 40 == 39:
            found, _ = stream.window((index - 39) / RATE, (index - 10) / RATE)
            assert len(found) > 0
            stream.forget((index - 10) / RATE - own.before_seconds)
            kept = max(kept, len(stream._steps._rows), len(stream._steps._seen), len(stream._steps._there))
    assert most <= 6 + hop * batch_size
    assert kept < 40


def test_a_late_beginning_costs_nothing() -> None:
    """A segment an hour into the media: the windows before it are not walked through one by one."""
    own = Values(4, 1)
    stream = own.stream()
    feed(stream, {index: index % 7 for index in range(10**9, 10**9 + 5)})
    found = stream.finish()
    assert [span[0] * RATE - 10**9 for span in found.times.tolist()] == [0, 0, 0, 1, 2, 3]
    assert isinstance(found, FeatureSequence)


crowds = st.dictionaries(st.integers(0, 40), st.dictionaries(st.integers(0, 4), st.integers(0, 99)), min_size=1)
"""Of each sampled frame, what it shows of whom."""


def walk_in(steps: WindowSteps, crowd: dict[int, dict[int, int]]) -> None:
    for index in sorted(crowd):
        steps.add([index], [Subject(who, 7.0 * who + index, value) for who, value in crowd[index].items()])


class TestSeveral:
    """`WindowSteps`: each subject has the windows that it would have if it were the only one."""

    @settings(max_examples=200)
    @given(shapes, crowds)
    def test_each_has_the_steps_it_has_alone(
        self, shape: tuple[int, int, int], crowd: dict[int, dict[int, int]]
    ) -> None:
        frames, hop, batch_size = shape
        own = Values(frames, hop)
        steps = WindowSteps(own.windows, own.describe, batch_size, RATE, "face")
        walk_in(steps, crowd)
        rows, found = steps.all()
        alone = {who: {index: shown.get(who) for index, shown in crowd.items()} for who in range(5)}
        expected = [
            (span, who, row) for who in alone for row, span in zip(*naive(alone[who], frames, hop), strict=True)
        ]
        spans = [[at / RATE for at in step.span] for step in found]
        mine = [(span, step.who, row.tolist()) for span, step, row in zip(spans, found, rows, strict=True)]
        assert sorted(mine) == sorted(expected)
        assert [step.number for step in found] == sorted(step.number for step in found)
        for step in found:
            first = next(index for index in sorted(crowd) if index >= step.number * hop and step.who in crowd[index])
            assert step.left == 7.0 * step.who + first
        assert all(size == batch_size for size in own.calls[:-1])  # whoever is in it, a batch is filled
        assert all(size <= batch_size for size in own.calls)

    @given(shapes, crowds, st.integers(0, 400).map(lambda n: n / 40), st.integers(1, 200).map(lambda n: n / 40))
    def test_what_is_not_asked_for_is_not_described(
        self, shape: tuple[int, int, int], crowd: dict[int, dict[int, int]], start: float, lasts: float
    ) -> None:
        frames, hop, batch_size = shape
        own, found = Values(frames, hop), []
        for only in (False, True):
            steps = WindowSteps(own.windows, own.describe, batch_size, RATE, "face")
            if only:
                steps.only(start, start + lasts)
            own.calls.clear()
            walk_in(steps, crowd)
            found.append([(step, row.tolist()) for row, step in zip(*steps.all(), strict=True)])
        whole, part = found
        assert part == [one for one in whole if start <= (one[0].span[0] + one[0].span[1]) / 2 / RATE < start + lasts]
        assert sum(own.calls) == len(part)

    def test_of_those_who_come_and_go_nothing_stays(self) -> None:
        """Four new ones in every frame, in windows of 6: nobody has a step, and nobody is remembered for longer."""
        alive: weakref.WeakSet[_Picture] = weakref.WeakSet()
        steps = WindowSteps(FrameWindows(6, 3), Values(6, 3).describe, 2, RATE, "face", "the same face")
        most = 0
        for index in range(500):
            pictures = [_Picture() for _ in range(4)]
            alive.update(pictures)
            steps.add([index], [Subject(4 * index + k, 0.0, picture) for k, picture in enumerate(pictures)])
            most = max(most, len(steps._subjects), len(alive))
        assert most <= 4 * (6 + 1)
        assert steps.all() == ([], [])
        assert steps.reason() == (
            "of 500 sampled frames 500 have a face, but no window of 6 frames with the same face in half of them has "
            "its middle here; one begins every 3 frames (0.75 s)"
        )
