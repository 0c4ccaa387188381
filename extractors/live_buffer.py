"""Frames on their way from a source that does not wait to a reader that may be slow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

HELD_SECONDS = 30.0
"""More than this is never held, however slow the reader is."""
HELD_FRAMES = 4000
"""Nor more frames than this, whatever their timestamps say."""
# A reader that is behind for this long while it takes frames does not catch up.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A decoded frame.

    Attributes:
        kind: what it is a frame of.
        frame: PyAV's.
        seconds: when it is on the live clock, which starts with 0 at the first frame.
        stamp: the same where the source says so itself, else None.
        run: frames of one run follow each other; the number grows at a break in the source and where sound was dropped.
    """

    kind: Literal["audio", "video"]
    frame: Any
    seconds: float
    stamp: float | None
    run: int


class LiveBuffer:
    """A queue between two threads that drops rather than lags.

    `put` never waits. Pictures that are older than half of `max_latency_seconds` behind the newest frame are dropped:
    the one before stands for them. Sound is kept, as a gap in it would be heard; but when the reader stays more than
    `max_latency_seconds` behind though it does nothing but take frames, all up to half of that is dropped and a new run
    begins.

    Args:
        max_latency_seconds: how far the reader may fall behind.
        clock: seconds that go on steadily.
    """

    def __init__(self, max_latency_seconds: float, clock: Callable[[], float]) -> None:
        self._limit, self._clock = max_latency_seconds, clock
        self._frames: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._behind_since: float | None = None
        self._newest = 0.0
        self._run = 0
        self._ended: BaseException | Literal[False] | None = False
        self.dropped_frames = 0
        self.skipped_seconds = 0.0

    def put(self, kind: Literal["audio", "video"], frame: Any, seconds: float, stamp: float | None) -> None:
        """Add a frame; once the end has come, it is left out: nobody waits for it any more."""
        with self._changed:
            if self._ended is not False:
                return
            self._newest = max(self._newest, seconds)
            self._frames.append(LiveFrame(kind, frame, seconds, stamp, self._run))
            self._drop_pictures()
            if self._backlog() > HELD_SECONDS or len(self._frames) > HELD_FRAMES:
                self._skip()
            self._changed.notify()

    def begin_run(self) -> int:
        """What follows does not follow what came before; returns the new run's number."""
        with self._changed:
            self._run += 1
            return self._run

    def end(self, error: BaseException | None = None) -> None:
        """Nothing follows any more; what is there can still be taken."""
        with self._changed:
            if self._ended is False:
                self._ended = error
            self._changed.notify()

    def clear(self) -> None:
        """Forget what waits, and end without an error."""
        with self._changed:
            self._frames.clear()
            self._ended = None
            self._changed.notify()

    def take(self, run: int) -> LiveFrame | None:
        """The oldest frame; waits for one. None where the next one belongs to another run, and at the end."""
        with self._changed:
            self._wait()
            if self._frames:
                self._catch_up()
            return self._frames.popleft() if self._frames and self._frames[0].run == run else None

    def peek(self) -> LiveFrame | None:
        """The oldest frame, which stays; waits for one. None at the end.

        Raises:
            BaseException: what `end` was called with, where no frame is left.
        """
        with self._changed:
            self._wait()
            if not self._frames and isinstance(self._ended, BaseException):
                raise self._ended
            return self._frames[0] if self._frames else None

    def _wait(self) -> None:
        self._changed.wait_for(lambda: self._frames or self._ended is not False)

    @property
    def over(self) -> bool:
        """Whether the end has come and nothing is left."""
        with self._changed:
            return not self._frames and self._ended is not False

    @property
    def backlog_seconds(self) -> float:
        """From the oldest frame to the newest."""
        with self._changed:
            return self._backlog()

    def _backlog(self) -> float:
        return self._newest - self._frames[0].seconds if self._frames else 0.0

    def _drop_pictures(self) -> None:
        edge = self._newest - self._limit / 2
        if not any(one.kind == "video" and one.seconds < edge for one in self._frames):
            return
        kept = [one for one in self._frames if one.kind == "audio" or one.seconds >= edge]
        self.dropped_frames += len(self._frames) - len(kept)
        self._frames = deque(kept)

    def _catch_up(self) -> None:
        """Skip if the reader has been behind for too long."""
        now = self._clock()
        if self._backlog() <= self._limit:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since > _PATIENCE_SECONDS:
            self._skip()

    def _skip(self) -> None:
        edge = max(self._newest - self._limit / 2, self._frames[0].seconds)
        kept = [one for one in self._frames if one.seconds >= edge][-HELD_FRAMES // 2 :] or [self._frames[-1]]
        self.skipped_seconds += max(0.0, kept[0].seconds - self._frames[0].seconds)
        self.dropped_frames += sum(one.kind == "video" for one in self._frames) - sum(o.kind == "video" for o in kept)
        self._run += 1
        self._frames = deque(replace(one, run=self._run) for one in kept)
        self._behind_since = None
