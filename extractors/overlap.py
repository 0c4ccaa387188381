"""Watching on one thread while another decodes."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionStream
from extractors.sequence import FeatureSequence

# Enough to even out frames that take longer, few enough to stay small in memory.
_WAITING_FRAMES = 4


class OverlappedStream(VisionStream):
    """Passes frames, and sound where it listens, on to another stream from a thread of its own, in order.

    Decoders and landmark trackers let go of Python's lock while they work, so the two run at the same time. `push`
    waits when a few frames are waiting already. An error in the other stream is raised by the next `push`, or by
    `finish`.
    """

    def __init__(self, stream: VisionStream) -> None:
        self._stream = stream
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING_FRAMES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="extractors-vision", daemon=True)
        self._thread.start()

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`."""
        self._pass_on(partial(self._stream.push, image, indices))

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        self._pass_on(partial(self._stream.listen, samples, first_sample))

    def no_more_sound(self) -> None:
        """See `VisionStream.no_more_sound`."""
        self._pass_on(self._stream.no_more_sound)

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self._join()
        self._check()
        return self._stream.finish()

    def expect_windows(self) -> None:
        """See `RollingStream.expect_windows`."""
        self._stream.expect_windows()

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; frames that are still waiting are looked at first."""
        self._queue.join()
        self._check()
        return self._stream.window(start_seconds, end_seconds)

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._queue.join()
        self._stream.forget(before_seconds)

    def missing_reason(self) -> str:
        """See `VisionStream.missing_reason`."""
        return self._stream.missing_reason()

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """See `VisionStream.notes`."""
        return self._stream.notes(start_seconds, end_seconds)

    def close(self) -> None:
        """See `VisionStream.close`; frames that are still waiting are looked at first."""
        self._join()
        self._stream.close()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    item()
                except BaseException as error:  # noqa: BLE001 - raised again where the caller is
                    self._error = error
            self._queue.task_done()

    def _pass_on(self, item: Callable[[], None]) -> None:
        self._check()
        self._queue.put(item)

    def _join(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
