"""Watching and listening on threads of their own while another decodes."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioStream, RollingStream, VisionStream
from extractors.cores import usable_cores
from extractors.sequence import FeatureSequence

# Enough to even out frames and blocks of sound that take longer, few enough to stay small in memory.
_WAITING = 8


def watched_apart(stream: VisionStream) -> VisionStream:
    """The stream on a thread of its own; as it is where there is one core, on which threads would only take turns."""
    return OverlappedStream(stream) if usable_cores() > 1 else stream


def heard_apart(stream: AudioStream) -> AudioStream:
    """See `watched_apart`."""
    return OverlappedSound(stream) if usable_cores() > 1 else stream


class _Overlapped(RollingStream):
    """Passes on what another stream is given from a thread of its own, in order.

    `push` waits when a few things are waiting already. An error in the other stream is raised by the next `push`, or by
    `finish`.
    """

    def __init__(self, stream: AudioStream | VisionStream) -> None:
        self._overlapped = stream
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"extractors-{type(self).__name__}", daemon=True)
        self._thread.start()

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self.end()
        self._check()
        return self._overlapped.finish()

    def expect_windows(self) -> None:
        """See `RollingStream.expect_windows`."""
        self._overlapped.expect_windows()

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; what is still waiting comes first."""
        self._queue.join()
        self._check()
        return self._overlapped.window(start_seconds, end_seconds)

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._queue.join()
        self._overlapped.forget(before_seconds)

    def missing_reason(self) -> str:
        """See `VisionStream.missing_reason`."""
        return self._overlapped.missing_reason()

    def end(self) -> None:
        """End the thread; what is still waiting comes first."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

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

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


class OverlappedStream(_Overlapped, VisionStream):
    """Passes frames, and sound where it listens, on to another stream from a thread of its own, in order.

    Decoders and landmark trackers let go of Python's lock while they work, so the two run at the same time.
    """

    def __init__(self, stream: VisionStream) -> None:
        super().__init__(stream)
        self._stream = stream

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        """See `VisionStream.expect_segment`."""
        self._stream.expect_segment(start_seconds, end_seconds)

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`."""
        self._pass_on(partial(self._stream.push, image, indices))

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        self._pass_on(partial(self._stream.listen, samples, first_sample))

    def no_more_sound(self) -> None:
        """See `VisionStream.no_more_sound`."""
        self._pass_on(self._stream.no_more_sound)

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """See `VisionStream.notes`."""
        return self._stream.notes(start_seconds, end_seconds)

    def close(self) -> None:
        """See `VisionStream.close`; frames that are still waiting are looked at first."""
        self.end()
        self._stream.close()


class OverlappedSound(_Overlapped, AudioStream):
    """Passes sound on to another stream from a thread of its own, in order.

    So pictures do not wait while seconds of sound are looked into, nor while a library for sound is imported.
    """

    def __init__(self, stream: AudioStream) -> None:
        super().__init__(stream)
        self._stream = stream

    def push(self, samples: NDArray[np.float32]) -> None:
        """See `AudioStream.push`."""
        self._pass_on(partial(self._stream.push, samples))
