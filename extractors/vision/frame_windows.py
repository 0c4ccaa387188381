"""`FrameWindowStream`: windows of sampled frames, each described as a whole, a batch at a time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream
from extractors.sequence import SLACK_SECONDS, FeatureSequence, first_step

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
class Shown:
    """Somebody, or something, that a frame shows.

    Attributes:
        who: the same number in every frame that shows the same.
        left: how far to the left it is, in pixels.
        picture: what a window holds of it.
    """

    who: int
    left: float
    picture: Any


@dataclass(frozen=True)
class WindowStep:
    """A window that is a step.

    Attributes:
        number: of the window.
        span: its first frame and the one after its last.
        who: who is in it.
        left: how far to the left in the first frame there, in pixels.
    """

    number: int
    span: tuple[int, int]
    who: int
    left: float


@dataclass(frozen=True, eq=False)
class _Window:
    """A window that will be a step, and a picture for each of its frames."""

    step: WindowStep
    pictures: list[Any]


@dataclass(eq=False)
class _Subject:
    """The frames that show somebody, from the first on that a window still needs."""

    indices: list[int] = field(default_factory=list)
    shown: dict[int, Shown] = field(default_factory=dict)

    def add(self, indices: Sequence[int], shown: Shown) -> None:
        self.indices.extend(indices)
        self.shown.update(dict.fromkeys(indices, shown))

    def drop(self, before: int) -> None:
        old = bisect_left(self.indices, before)
        for index in self.indices[:old]:
            del self.shown[index]
        del self.indices[:old]


class WindowSteps:
    """What a media's windows show of one subject, or of each of several: at most one step per window and subject.

    `FrameWindowStream` says which windows are steps, and how long these last; with several, each is there in the frames
    that show it, and where it is not, the last picture before it of the same one stands. Steps come window by window;
    those of one window have equal times. They are described in batches that are filled whoever is in them.

    In memory are the pictures of one window and of one batch of windows. Somebody who is gone is forgotten as soon as
    no window can show them any more, so that it does not matter how many come and go.

    Args:
        windows: where windows lie.
        describe: windows → `(N, D)`, each row a function of its own window.
        batch_size: windows per call of `describe`.
        frames_per_second: of the frames that enter windows.
        absent: what is missing where a frame shows nobody, in plain words, for `reason`.
        each: what a window must show in half of its frames, in plain words; None is `absent`, whichever it is.
    """

    def __init__(
        self,
        windows: FrameWindows,
        describe: Describe,
        batch_size: int,
        frames_per_second: float,
        absent: str,
        each: str | None = None,
    ) -> None:
        self._windows, self._describe, self._batch_size = windows, describe, batch_size
        self._rate, self._absent, self._each = frames_per_second, absent, each or f"a {absent}"
        self._span = (-math.inf, math.inf)
        self._seen: list[int] = []
        self._there: list[int] = []
        self._subjects: dict[int, _Subject] = {}
        self._next = 0
        self._waiting: list[_Window] = []
        self._rows: list[NDArray[np.float32]] = []
        self._steps: list[WindowStep] = []

    def only(self, start_seconds: float, end_seconds: float) -> None:
        """Windows whose middle lies elsewhere will not be asked for: they are not described."""
        self._span = (start_seconds, end_seconds)

    def add(self, indices: Sequence[int], shown: Sequence[Shown] = ()) -> None:
        """Take a frame.

        Args:
            indices: see `VisionStream.push`.
            shown: those in it, nobody twice; none where it is not to enter windows.
        """
        if not self._seen:
            self._next = max(self._next, (indices[0] - self._windows.frames) // self._windows.hop + 1)
        self._seen.extend(indices)
        self._there.extend(indices if shown else ())
        for one in shown:
            self._subjects.setdefault(one.who, _Subject()).add(indices, one)
        while self._first(self._next) + self._windows.frames <= self._seen[-1] + 1:
            complete = self._of_window(self._next)
            self._next += 1
            for window in complete:
                self._waiting.append(window)
                if len(self._waiting) >= self._batch_size:
                    self._flush()
        for subject in self._subjects.values():
            subject.drop(self._first(self._next))
        self._subjects = {who: subject for who, subject in self._subjects.items() if subject.indices}

    def all(self) -> tuple[list[NDArray[np.float32]], list[WindowStep]]:
        """Rows and steps of all windows, when every frame has been taken; called once."""
        self._waiting += self._unfinished()
        self._flush()
        return self._rows, self._steps

    def between(self, start_seconds: float, end_seconds: float) -> tuple[list[NDArray[np.float32]], list[WindowStep]]:
        """Those whose middle lies in a span; windows that lack their last frames count, as those will never come."""
        self._flush()
        span = (start_seconds, end_seconds)
        mine = [i for i, step in enumerate(self._steps) if self._inside(step.span, span)]
        last = [window for window in self._unfinished() if self._inside(window.step.span, span)]
        rows = [*(self._rows[i] for i in mine), *self._described(last)]
        return rows, [*(self._steps[i] for i in mine), *(window.step for window in last)]

    def forget(self, before_seconds: float) -> None:
        """Steps whose middle lies before this will not be asked for again."""
        old = sum(self._middle(step.span) < before_seconds for step in self._steps)
        del self._rows[:old], self._steps[:old]
        first = min(first_step(before_seconds, self._rate), self._first(self._next))
        for listed in (self._seen, self._there):
            del listed[: min(bisect_left(listed, first), max(0, len(listed) - 1))]

    def reason(self, start_seconds: float = -math.inf, end_seconds: float = math.inf) -> str:
        """Why there is no step in a span."""
        span = max(start_seconds, self._span[0]), min(end_seconds, self._span[1])
        first, after = (first_step(min(max(at, -1e9), 1e9), self._rate) for at in span)
        seen, there = (_between(listed, first, after) for listed in (self._seen, self._there))
        if not seen:
            return "no frame could be sampled"
        if not there:
            return f"no {self._absent} found in {seen} sampled frame{'' if seen == 1 else 's'}"
        frames, hop = self._windows.frames, self._windows.hop
        return (
            f"of {seen} sampled frames {there} have a {self._absent}, but no window of {frames} frames with "
            f"{self._each} in half of them has its middle here; one begins every {hop} frames ({hop / self._rate:g} s)"
        )

    def _first(self, number: int) -> int:
        return number * self._windows.hop

    def _middle(self, span: tuple[int, int]) -> float:
        return (span[0] / self._rate + span[1] / self._rate) / 2

    def _inside(self, frames: tuple[int, int], span: tuple[float, float]) -> bool:
        """As `FeatureSequence.between` has it."""
        return span[0] <= self._middle(frames) + SLACK_SECONDS < span[1]

    def _unfinished(self) -> list[_Window]:
        """The windows that have begun and lack frames that would come now."""
        found, number = list[_Window](), self._next
        while self._seen and self._first(number) <= self._seen[-1]:
            found += self._of_window(number)
            number += 1
        return found

    def _of_window(self, number: int) -> list[_Window]:
        """A window of each who is in enough of its frames."""
        first, count = self._first(number), self._windows.frames
        low, high = bisect_left(self._seen, first), bisect_left(self._seen, first + count)
        if low == high:
            return []
        span = (self._seen[low], self._seen[high - 1] + 1)
        if not self._inside(span, self._span):
            return []
        ended_early = number == 0 and 2 * (self._seen[-1] + 1) < count
        of_all, found = high - low if ended_early else count, list[_Window]()
        for who, subject in self._subjects.items():
            there = subject.indices[bisect_left(subject.indices, first) : bisect_left(subject.indices, first + count)]
            if there and 2 * len(there) >= of_all:
                chosen = (there[max(0, bisect_right(there, index) - 1)] for index in range(first, first + count))
                step = WindowStep(number, span, who, subject.shown[there[0]].left)
                found.append(_Window(step, [subject.shown[index].picture for index in chosen]))
        return found

    def _flush(self) -> None:
        self._rows.extend(self._described(self._waiting))
        self._steps.extend(window.step for window in self._waiting)
        self._waiting = []

    def _described(self, windows: Sequence[_Window]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(windows), self._batch_size):
            yield from self._describe([window.pictures for window in windows[start : start + self._batch_size]])


class WindowStream(VisionStream):
    """Gives the steps of windows; subclasses say what enters these.

    Args:
        extractor: whose stream this is.
        steps: what the windows show.
        frames_per_second: of the frames that enter windows.
    """

    def __init__(self, extractor: VisionExtractor, steps: WindowSteps, frames_per_second: float) -> None:
        self._extractor, self._steps, self._rate = extractor, steps, frames_per_second

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        return self._sequence(*self._steps.all())

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; windows that lack their last frames count, as those will never come."""
        found = self._sequence(*self._steps.between(start_seconds, end_seconds))
        return found, "" if len(found) else self._steps.reason(start_seconds, end_seconds)

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._steps.forget(before_seconds)

    def missing_reason(self) -> str:
        """See `VisionStream.missing_reason`."""
        return self._steps.reason()

    def _sequence(self, rows: Sequence[NDArray[np.float32]], steps: Sequence[WindowStep]) -> FeatureSequence:
        if not rows:
            return self._extractor.empty()
        rows, steps = self._arranged(rows, steps)
        times = np.array([step.span for step in steps], np.float64) / self._rate
        return FeatureSequence(np.stack(rows), times, self._extractor.names)

    def _arranged(
        self, rows: Sequence[NDArray[np.float32]], steps: Sequence[WindowStep]
    ) -> tuple[Sequence[NDArray[np.float32]], Sequence[WindowStep]]:
        """For subclasses: another order, or more features."""
        return rows, steps


class FrameWindowStream(WindowStream):
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
        rate = frames_per_second or extractor.frames_per_second
        super().__init__(extractor, WindowSteps(windows, describe, batch_size, rate, absent), rate)
        self._prepare = prepare

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`."""
        self._steps.add(indices, [Shown(0, 0.0, self._prepare(image))])

    def skip(self, indices: Sequence[int]) -> None:
        """Take note of a frame that is not to enter windows; see `VisionStream.push` for the indices."""
        self._steps.add(indices)


def _between(indices: Sequence[int], first: int, after: int) -> int:
    return bisect_left(indices, after) - bisect_left(indices, first)
