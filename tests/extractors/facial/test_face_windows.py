"""`FaceWindowStream` on faces whose places are told: against a naive walk over each person's own frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from extractors.base import VisionExtractor
from extractors.facial.face_choice import FaceChoice
from extractors.facial.face_tracks import GAP_SECONDS
from extractors.facial.face_windows import FaceWindowStream
from extractors.facial.faces_stream import TRACK
from extractors.replayed import rolling
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.vision.frame_windows import FrameWindows

RATE = 10
IMAGE = np.zeros((480, 640, 3), np.uint8)
View = Callable[..., np.ndarray]


class Places:
    """A source that finds faces where it is told, the nth time it is asked; a frame's number is in its first pixel."""

    def __init__(self, view: View, script: Sequence[Sequence[float]]) -> None:
        self._view, self._script, self.asked, self.closed = view, script, 0, 0

    def find_all(self, image: np.ndarray) -> list[np.ndarray]:
        self.asked += 1
        return [self._view(centre=(x, 240.0), scale=50.0) for x in self._script[int(image[0, 0, 0])]]

    def close(self) -> None:
        self.closed += 1


class Where(VisionExtractor):
    """What a window holds: for each of its frames the place of the face, and in which frame that was seen.

    Args:
        view: of a face.
        script: where faces are, frame by frame.
        rolls: whether its streams serve windows.
    """

    def __init__(
        self,
        view: View,
        script: Sequence[Sequence[float]],
        frames: int,
        hop: int,
        batch_size: int = 1,
        *,
        rolls: bool = True,
    ) -> None:
        self.frames_per_second, self.max_side_pixels = float(RATE), 640
        self.windows, self._batch_size, self._view, self._script = FrameWindows(frames, hop), batch_size, view, script
        reach = self.windows.context_seconds(RATE)
        self.before_seconds, self.after_seconds = reach + GAP_SECONDS, reach
        self.names = (*(f"{what}_{k}" for k in range(frames) for what in ("x", "frame")), TRACK)
        self.spec = ExtractorSpec("tests:Where", "none", "1", {})
        self.rolling = rolls  # type: ignore[misc]
        self.batches: list[int] = []
        self.sources: list[Places] = []

    def stream(self) -> FaceWindowStream:
        self.sources.append(Places(self._view, self._script))

        def keep(image: np.ndarray, points: np.ndarray) -> list[float]:
            return [round(float(points[[10, 152], 0].mean())), float(image[0, 0, 0])]

        choice = FaceChoice(RATE, self.sources[-1], keep, speaking=False)  # type: ignore[arg-type]
        return FaceWindowStream(self, choice, self.windows, self._describe, self._batch_size)

    def _describe(self, windows: Sequence[Sequence[list[float]]]) -> np.ndarray:
        self.batches.append(len(windows))
        return np.array(windows, np.float32).reshape(len(windows), -1)


def frame(number: int) -> np.ndarray:
    image = IMAGE.copy()
    image[0, 0, 0] = number
    return image


def feed(stream: FaceWindowStream, first: int, after: int) -> None:
    for index in range(first, after):
        stream.push(frame(index), [index])


def whole(extractor: Where, count: int) -> FeatureSequence:
    stream = extractor.stream()
    feed(stream, 0, count)
    return stream.finish()


Step = tuple[int, float, float, int, list[float]]
"""Window, start and end in seconds, track, and what it holds."""


def naive(script: Sequence[Sequence[float]], frames: int, hop: int, span: tuple[float, float]) -> list[Step]:
    """Everybody stays in one place, so that who is who is plain; after two seconds one is a new track."""
    tracks = []
    for x in {x for shown in script for x in shown}:
        there = [index for index, shown in enumerate(script) if x in shown]
        cuts = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(there)) if b - a > 2 * RATE), len(there)]
        tracks += [(x, there[a:b]) for a, b in pairwise(cuts)]
    found = []
    for number, first in enumerate(range(0, len(script), hop)):
        after = min(first + frames, len(script))
        if not span[0] <= (first + after) / 2 / RATE < span[1]:
            continue
        for x, there in tracks:
            inside = [index for index in there if first <= index < after]
            if inside and 2 * len(inside) >= frames:
                holds = []
                for index in range(first, first + frames):
                    holds += [x, max([i for i in inside if i <= index], default=inside[0])]
                found.append((number, x, there[0], first / RATE, after / RATE, holds))
    ranks: dict[tuple[float, int], int] = {}
    for _, x, began, *_ in sorted(found, key=lambda one: one[:2]):
        ranks.setdefault((x, began), len(ranks))
    steps = [(number, start, end, ranks[x, began], holds) for number, x, began, start, end, holds in found]
    return sorted(steps, key=lambda one: (one[0], one[3]))


def check(found: FeatureSequence, expected: Sequence[Step]) -> None:
    assert found.values[:, -1].tolist() == [step[3] for step in expected]
    assert found.values[:, :-1].tolist() == [step[4] for step in expected]
    assert np.allclose(found.times, np.array([step[1:3] for step in expected]).reshape(-1, 2))


def shows(seed: int, count: int = 70) -> list[list[float]]:
    """Three people who come and go, each in a place of their own; now and then for longer than they are remembered."""
    draw, script = np.random.default_rng(seed), [[] for _ in range(count)]
    for x in (100.0, 600.0, 1100.0):
        index, there = 0, bool(draw.integers(2))
        while index < count:
            lasts = int(draw.choice([1, 2, 4, 9, 20, 21, 22, 30]))
            for one in script[index : index + lasts] if there else ():
                one.append(x)
            index, there = index + lasts, not there
    return [list(draw.permutation(one)) for one in script]


ALL = (0.0, math.inf)


def test_by_hand(view: View) -> None:
    """Windows of four every two. The right one is there first; the left one is hidden once, and then leaves."""
    script = [[600], [600, 100], [600, 100], [100], [600, 100], [600], [600, 100], [600]]
    own = Where(view, script, 4, 2, batch_size=3)
    found = whole(own, len(script))
    assert [[*row[0:-1:2], row[-1]] for row in found.values.tolist()] == [
        [100, 100, 100, 100, 0],  # of two who come with the same window the one further left
        [600, 600, 600, 600, 1],
        [100, 100, 100, 100, 0],
        [600, 600, 600, 600, 1],
        [100, 100, 100, 100, 0],
        [600, 600, 600, 600, 1],
        [600, 600, 600, 600, 1],  # in the last, which the media cuts in half, the left one is in one frame of four
    ]
    assert [row[1:-1:2] for row in found.values.tolist()] == [
        [1, 1, 2, 3],  # not there at the beginning: the first that comes
        [0, 1, 2, 2],  # hidden: the last one before
        [2, 3, 4, 4],
        [2, 2, 4, 5],
        [4, 4, 6, 6],
        [4, 5, 6, 7],
        [6, 7, 7, 7],
    ]
    assert found.times.tolist() == [[0, 0.4], [0, 0.4], [0.2, 0.6], [0.2, 0.6], [0.4, 0.8], [0.4, 0.8], [0.6, 0.8]]
    assert own.batches == [3, 3, 1]
    assert own.sources[0].closed == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("frames", "hop"), [(4, 2), (5, 1), (8, 8), (26, 13)])
def test_everybody_has_the_steps_they_would_have_alone(view: View, seed: int, frames: int, hop: int) -> None:
    script = shows(seed)
    check(whole(Where(view, script, frames, hop, batch_size=4), len(script)), naive(script, frames, hop, ALL))


@pytest.mark.parametrize("rolls", [True, False])
def test_windows_of_one_pass_have_their_own_ranks(view: View, rolls: bool) -> None:
    """Also where each is replayed as a segment."""
    for seed in range(3):
        script = shows(seed)
        own = Where(view, script, 6, 3, rolls=rolls)
        stream, pushed = rolling(own).stream(), 0  # type: ignore[attr-defined]
        for start, end in [(0.0, 1.0), (0.5, 2.5), (2.0, 2.05), (3.3, 6.1)]:
            stream.forget(start - own.before_seconds)
            after = min(len(script), math.ceil((end + own.after_seconds) * RATE))
            feed(stream, pushed, after)
            pushed = max(pushed, after)
            found, reason = stream.window(start, end)
            check(found, naive(script, 6, 3, (start, end)))
            assert bool(reason) == (not len(found))


@pytest.mark.parametrize("span", [(0.0, 1.2), (2.5, 4.0), (3.0, 7.0), (4.65, 5.35)])
def test_of_a_segment_nothing_around_it_is_described_and_nobody_around_it_has_a_rank(
    view: View, span: tuple[float, float]
) -> None:
    """With the frames that the extractor asks for around it."""
    for seed in range(4):
        script = shows(seed)
        own = Where(view, script, 6, 3)
        stream = own.stream()
        stream.expect_segment(*span)
        first = max(0, math.ceil((span[0] - own.before_seconds) * RATE - 0.5))
        feed(stream, first, min(len(script), math.ceil((span[1] + own.after_seconds) * RATE)))
        expected = naive(script, 6, 3, span)
        check(stream.finish(), expected)
        assert sum(own.batches) == len(expected)


def test_a_picture_that_is_shown_for_longer_is_looked_at_once(view: View) -> None:
    own = Where(view, [[600, 100]], 4, 2)
    stream = own.stream()
    stream.push(frame(0), range(5))
    found = stream.finish()
    assert own.sources[0].asked == 1
    assert found.values[:, 0].tolist() == [100, 600] * 2
    assert found.times.tolist() == [[0, 0.4]] * 2 + [[0.2, 0.5]] * 2
    still = Where(view, [[600, 100]], 4, 2)
    found = whole(still, 1)
    assert (found.values[:, 0].tolist(), found.times.tolist()) == ([100, 600], [[0, 0.1]] * 2)
    with pytest.raises(RuntimeError, match="this stream is finished: ask the extractor for a fresh one"):
        stream.push(frame(0), [5])


def test_what_is_missing_is_said(view: View) -> None:
    """Two who take turns: each frame shows a face, and no window the same one in half of them."""
    script: list[list[float]] = [[], [], *([x] for x in (100, 600, 1100, 1600, 100, 600, 1100, 1600))]
    stream = Where(view, script, 4, 4).stream()
    assert stream.missing_reason() == "no frame could be sampled"
    feed(stream, 0, 2)
    assert stream.missing_reason() == "no face found in 2 sampled frames"
    feed(stream, 2, 10)
    found, reason = stream.window(0.2, 1.0)
    assert len(found) == 0
    assert reason.startswith("of 8 sampled frames 8 have a face, but no window of 4 frames with the same face in half")
    part = Where(view, script, 4, 4).stream()
    part.expect_segment(0.0, 0.2)
    feed(part, 0, 6)
    assert len(part.finish()) == 0
    assert part.missing_reason() == "no face found in 2 sampled frames"  # of those around it nothing is said


def test_a_new_face_in_every_frame_piles_up_nowhere(view: View) -> None:
    """A thousand and more places, none of them twice."""

    class Moving(Places):
        def find_all(self, image: np.ndarray) -> list[np.ndarray]:
            self.asked += 1
            return [view(centre=(1000.0 * (4 * self.asked + k), 240.0), scale=50.0) for k in range(4)]

    own = Where(view, [], 6, 3)
    source = Moving(view, [])
    choice = FaceChoice(RATE, source, lambda image, points: [0.0, 0.0], speaking=False)  # type: ignore[arg-type]
    stream = FaceWindowStream(own, choice, own.windows, own._describe, 2)
    most = 0
    for index in range(300):
        stream.push(IMAGE, [index])
        most = max(most, len(stream._steps._subjects))
        if index % 20 == 19:
            assert len(stream.window(index / RATE - 2, index / RATE - 1)[0]) == 0
            stream.forget(index / RATE - 1 - own.before_seconds)
    assert 4 * 3 <= most <= 4 * 6
    assert len(choice._tracks._tracks) <= 16
    assert choice._tracks._next == 1200  # all of them were new
    assert len(stream._steps._seen) < 60
