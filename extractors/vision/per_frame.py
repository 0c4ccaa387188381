"""`PerFrameStream`: frames that are described each on its own, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence, first_step

Describe = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]


class PerFrameStream(VisionStream):
    """One step per sampled instant; a frame that is shown at several instants is described once.

    In memory are at most `batch_size` frames, and the rows of those described.

    Args:
        extractor: whose stream this is.
        describe: `(H, W, 3)` RGB frames → `(N, D)`, each row a function of its own frame.
        batch_size: frames per call of `describe`.
    """

    def __init__(self, extractor: VisionExtractor, describe: Describe, batch_size: int = 1) -> None:
        self._extractor, self._describe, self._batch_size = extractor, describe, batch_size
        self._waiting: list[NDArray[np.uint8]] = []
        self._waiting_indices: list[Sequence[int]] = []
        self._rows: list[NDArray[np.float32]] = []
        self._indices: list[int] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`."""
        self._waiting.append(image)
        self._waiting_indices.append(indices)
        if len(self._waiting) >= self._batch_size:
            self._flush()

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`; step `k` lasts one sampling period from `k / frames_per_second`."""
        self._flush()
        return self._sequence(0, len(self._rows))

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        self._flush()
        first, after = self.index(start_seconds), self.index(min(end_seconds, 1e9))
        low, high = np.searchsorted(np.array(self._indices, np.int64), [first, after])
        found = self._sequence(int(low), int(high))
        return found, "" if len(found) else self.missing_reason()

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        old = int(np.searchsorted(np.array(self._indices, np.int64), self.index(before_seconds)))
        del self._rows[:old], self._indices[:old]

    def missing_reason(self) -> str:
        """Every frame gives a step, so there was none."""
        return "no frame could be sampled"

    def index(self, seconds: float) -> int:
        """The first instant whose step has its middle at or after this time."""
        return first_step(seconds, self._extractor.frames_per_second)

    def _flush(self) -> None:
        if not self._waiting:
            return
        for row, indices in zip(self._describe(self._waiting), self._waiting_indices, strict=True):
            self._rows.extend([row] * len(indices))
            self._indices.extend(indices)
        self._waiting, self._waiting_indices = [], []

    def _sequence(self, low: int, high: int) -> FeatureSequence:
        if low >= high:
            return self._extractor.empty()
        start = np.array(self._indices[low:high], np.float64)
        times = np.stack([start, start + 1.0], axis=1) / self._extractor.frames_per_second
        return FeatureSequence(np.stack(self._rows[low:high]), times, self._extractor.names)
