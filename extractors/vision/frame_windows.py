"""`FrameWindowStream`: windows of sampled frames, each described as a whole, a batch at a time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence

Prepare = Callable[[NDArray[np.uint8]], Any]
Describe = Callable[[Sequence[Sequence[Any]]], NDArray[np.float32]]


@dataclass(frozen=True)
class FrameWindows:
    """Where windows lie: window `j` covers the frames from `j * hop` to `j * hop + frames - 1` of the media's clock.

    Attributes:
        frames: in a window.
        hop: frames from the start of one window to that of the next.
    """

    frames: int
    hop: int

    def context_seconds(self, frames_per_second: float) -> float:
        """How far from a window's middle its frames can lie, and one frame more, since segments begin between two."""
        return (self.frames / 2 + 1) / frames_per_second


@dataclass(frozen=True, eq=False)
class _Window:
    """A window that will be a step: first frame and the one after the last, and a picture for each of its frames."""

    span: tuple[int, int]
    pictures: list[Any]


class FrameWindowStream(VisionStream):
    """One step per window of which at least half of the frames are there; it lasts from the first of these to the last.

    A frame is there if it was pushed. One that was passed over (`skip`: no face in it) is not, though the media shows
    it: it counts for the window's time, but not for the half. In the place of a frame that is not there stands the last
    one before it in the window, or the first one of all. A video, or a picture, that ends before half of its first
    window has passed gives one step if half of what it shows is there.

    So the steps whose middle lies in a segment are those of the whole file, given `FrameWindows.context_seconds` of
    frames around it: a window that lacks frames only because the segment does not reach that far has its middle
    outside. (A picture that stands still for so long that sampling gives it up can, beside a segment's edge, hide from
    the segment that a window began before.)

    Each frame is prepared once, however many windows share it. In memory are the prepared frames of one window and of
    one batch of windows.

    Args:
        extractor: whose stream this is.
        windows: where windows lie.
        prepare: `(H, W, 3)` RGB → what a window holds of a frame.
        describe: windows → `(N, D)`, each row a function of its own window.
        batch_size: windows per call of `describe`.
        absent: what is missing where no frame was pushed, in plain words, for `missing_reason`.
        frames_per_second: of the frames that enter windows; None is the extractor's.
    """

    def __init__(
        self,
        extractor: VisionExtractor,
        windows: FrameWindows,
        prepare: Prepare,
        describe: Describe,
        batch_size: int = 1,
        absent: str = "picture",
        frames_per_second: float | None = None,
    ) -> None:
        self._extractor, self._windows, self._absent = extractor, windows, absent
        self._prepare, self._describe, self._batch_size = prepare, describe, batch_size
        self._rate = frames_per_second or extractor.frames_per_second
        self._seen: list[int] = []
        self._there: list[int] = []
        self._pictures: dict[int, Any] = {}
        self._next = 0
        self._waiting: list[_Window] = []
        self._rows: list[NDArray[np.float32]] = []
        self._spans: list[tuple[int, int]] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`."""
        prepared = self._prepare(image)
        self._there.extend(indices)
        self._pictures.update(dict.fromkeys(indices, prepared))
        self.skip(indices)

    def skip(self, indices: Sequence[int]) -> None:
        """Take note of a frame that is not to enter windows; see `VisionStream.push` for the indices."""
        if not self._seen:
            self._next = max(self._next, (indices[0] - self._windows.frames) // self._windows.hop + 1)
        self._seen.extend(indices)
        while self._first(self._next) + self._windows.frames <= self._seen[-1] + 1:
            window = self._window(self._next)
            self._next += 1
            self._waiting += [] if window is None else [window]
            if len(self._waiting) >= self._batch_size:
                self._flush()
        for index in [index for index in self._pictures if index < self._first(self._next)]:
            del self._pictures[index]

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self._waiting += self._unfinished()
        self._flush()
        return self._sequence(self._rows, self._spans)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; windows that lack their last frames count, as those will never come."""
        self._flush()
        mine = [i for i, span in enumerate(self._spans) if start_seconds <= self._middle(span) < end_seconds]
        last = [window for window in self._unfinished() if start_seconds <= self._middle(window.span) < end_seconds]
        rows = [*(self._rows[i] for i in mine), *self._described(last)]
        found = self._sequence(rows, [*(self._spans[i] for i in mine), *(window.span for window in last)])
        if len(found):
            return found, ""
        first, after = (math.ceil(min(at, 1e9) * self._rate - 0.5) for at in (start_seconds, end_seconds))
        return found, self._reason(*(_between(listed, first, after) for listed in (self._seen, self._there)))

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        old = sum(self._middle(span) < before_seconds for span in self._spans)
        del self._rows[:old], self._spans[:old]
        first = min(math.ceil(before_seconds * self._rate - 0.5), self._first(self._next))
        for listed in (self._seen, self._there):
            del listed[: min(bisect_left(listed, first), max(0, len(listed) - 1))]

    def missing_reason(self) -> str:
        """See `VisionStream.missing_reason`."""
        return self._reason(len(self._seen), len(self._there))

    def _reason(self, seen: int, there: int) -> str:
        if not seen:
            return "no frame could be sampled"
        if not there:
            return f"no {self._absent} found in {seen} sampled frame{'' if seen == 1 else 's'}"
        frames, hop = self._windows.frames, self._windows.hop
        return (
            f"of {seen} sampled frames {there} have a {self._absent}, but no window of {frames} frames with a "
            f"{self._absent} in half of them has its middle here; one begins every {hop} frames "
            f"({hop / self._rate:g} s)"
        )

    def _first(self, number: int) -> int:
        return number * self._windows.hop

    def _middle(self, span: tuple[int, int]) -> float:
        return (span[0] / self._rate + span[1] / self._rate) / 2

    def _unfinished(self) -> list[_Window]:
        """The windows that have begun and lack frames that would come now."""
        found, number = [], self._next
        while self._seen and self._first(number) <= self._seen[-1]:
            window = self._window(number)
            found += [] if window is None else [window]
            number += 1
        return found

    def _window(self, number: int) -> _Window | None:
        """A window, unless it lacks too many frames."""
        first, count = self._first(number), self._windows.frames
        shown = self._seen[bisect_left(self._seen, first) : bisect_left(self._seen, first + count)]
        there = self._there[bisect_left(self._there, first) : bisect_left(self._there, first + count)]
        ended_early = number == 0 and 2 * (self._seen[-1] + 1) < count
        if not there or 2 * len(there) < (len(shown) if ended_early else count):
            return None
        chosen = (there[max(0, bisect_right(there, index) - 1)] for index in range(first, first + count))
        return _Window((shown[0], shown[-1] + 1), [self._pictures[index] for index in chosen])

    def _flush(self) -> None:
        self._rows.extend(self._described(self._waiting))
        self._spans.extend(window.span for window in self._waiting)
        self._waiting = []

    def _described(self, windows: Sequence[_Window]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(windows), self._batch_size):
            yield from self._describe([window.pictures for window in windows[start : start + self._batch_size]])

    def _sequence(self, rows: Sequence[NDArray[np.float32]], spans: Sequence[tuple[int, int]]) -> FeatureSequence:
        if not rows:
            return self._extractor.empty()
        times = np.array(spans, np.float64) / self._rate
        return FeatureSequence(np.stack(rows), times, self._extractor.names)


def _between(indices: Sequence[int], first: int, after: int) -> int:
    return bisect_left(indices, after) - bisect_left(indices, first)
