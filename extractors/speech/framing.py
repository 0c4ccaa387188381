"""Cutting a stream of samples into analysis windows, so that block boundaries leave no trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioStream
from extractors.sequence import FeatureSequence

_BATCH_SECONDS = 20.0
_PIECE_WINDOWS = 4096

FrameFeatures = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""`(N,)` samples holding whole windows only → `(windows, K)` values, each row a function of its own window."""


class Rows:
    """What was computed of all windows, `(T, K)`, in the blocks in which it was, so that a long clip is never copied.

    Args:
        blocks: `(t, K)` each, at least one.
    """

    def __init__(self, blocks: list[NDArray[np.float64]]) -> None:
        self._blocks, self._gone = blocks, 0

    def column(self, index: int) -> NDArray[np.float64]:
        """One value of each window: `(T,)`; before any was let go."""
        return np.concatenate([block[:, index] for block in self._blocks])

    def between(self, first: int, after: int) -> NDArray[np.float64]:
        """The rows of these windows, as far as there are."""
        found, start = [], self._gone
        for block in self._blocks:
            found.append(block[max(0, first - start) : max(0, after - start)])
            start += len(block)
        return np.concatenate(found)

    def let_go(self, before: int) -> None:
        """Nobody asks for windows before this any more."""
        while self._blocks and self._gone + len(self._blocks[0]) <= before:
            self._gone += len(self._blocks.pop(0))


Finish = Callable[[Rows, NDArray[np.bool_]], NDArray[np.float32]]
"""The rows of all windows and `(T,)` which are loud → features of the loud ones; may look across the whole clip."""


def _as_they_are(rows: Rows, loud: NDArray[np.bool_]) -> NDArray[np.float32]:
    return in_pieces(rows, loud, lambda first, after: rows.between(first, after))


def in_pieces(
    rows: Rows, loud: NDArray[np.bool_], of: Callable[[int, int], NDArray[np.float64]], *, reach: int = 0
) -> NDArray[np.float32]:
    """Features of the loud windows, computed a minute or so at a time; rows are let go on the way.

    Args:
        rows: of all windows.
        loud: `(T,)`.
        of: features of the windows from one to another: `(after - first, D)`.
        reach: how many windows before them it asks for.
    """
    found: NDArray[np.float32] | None = None
    place = 0
    for first in range(0, len(loud), _PIECE_WINDOWS):
        mine = loud[first : first + _PIECE_WINDOWS]
        features = of(first, first + len(mine))[mine]
        if found is None:
            found = np.empty((int(loud.sum()), features.shape[1]), np.float32)
        found[place : place + len(features)] = features
        place += len(features)
        rows.let_go(first + len(mine) - reach)
    assert found is not None
    return found


class WindowedStream(AudioStream):
    """Windows of `window` samples every `hop` samples, computed in bounded batches.

    Windows are counted from the media's beginning: window `k` covers samples `[k * hop, k * hop + window)`. Windows
    whose root mean square lies below the floor give no step.
    """

    def __init__(
        self,
        extractor: Any,
        first_sample: int,
        *,
        window: int,
        floor_db: float,
        compute: FrameFeatures,
        finish: Finish | None = None,
    ) -> None:
        """Start at a sample of the media's clock.

        Args:
            extractor: the `AudioExtractor` that the stream belongs to.
            first_sample: index of the first pushed sample; a multiple of the extractor's `hop_samples`.
            window: window length in samples.
            floor_db: silence floor in dB relative to a full-scale root mean square of 1.
            compute: features of the windows of one batch.
            finish: from all rows to the features; may look across windows. None takes the rows as they are.

        Raises:
            ValueError: `first_sample` is not on the grid.
        """
        self._extractor, self._window, self._hop = extractor, window, extractor.hop_samples
        if first_sample % self._hop:
            raise ValueError(f"first_sample must be a multiple of {self._hop}, not {first_sample}")
        self._first_window = first_sample // self._hop
        self._floor = 10.0 ** (floor_db / 20.0)
        self._compute, self._finish_rows = compute, finish or _as_they_are
        self._pending: list[NDArray[np.float32]] = []
        self._pending_samples = 0
        self._batch = max(window, int(_BATCH_SECONDS * extractor.sample_rate_hz))
        self._rows: list[NDArray[np.float64]] = []
        self._loud: list[NDArray[np.bool_]] = []
        self._samples = 0
        self._forgotten = 0

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples; see `AudioStream.push`."""
        for start in range(0, len(samples), self._batch):
            block = samples[start : start + self._batch]
            self._pending.append(block)
            self._pending_samples += len(block)
            self._samples += len(block)
            if self._pending_samples >= self._batch:
                self._flush()

    def finish(self) -> FeatureSequence:
        """The features of the loud windows, in order."""
        self._flush()
        if not self._rows:
            return self._extractor.empty()  # type: ignore[no-any-return]
        loud = np.concatenate(self._loud)
        if not loud.any():
            return self._extractor.empty()  # type: ignore[no-any-return]
        values = self._finish_rows(Rows(self._rows), loud)
        start = (self._first_window + np.flatnonzero(loud)) * self._hop
        times = np.stack([start, start + self._window], axis=1) / self._extractor.sample_rate_hz
        return FeatureSequence(values, times, self._extractor.names)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; the rows are those that a stream of this segment alone would have."""
        self._flush()
        rate, context = self._extractor.sample_rate_hz, self._extractor.context_seconds
        first = max(0, math.floor((start_seconds - context) * rate / self._hop)) - self._first_window
        end_sample = math.inf if math.isinf(end_seconds) else math.ceil((end_seconds + context) * rate)
        after = len(self._row_loud()) + self._forgotten
        if math.isfinite(end_sample):
            after = min(after, (int(end_sample) - self._window) // self._hop + 1 - self._first_window)
        kept = slice(max(0, first - self._forgotten), max(0, after - self._forgotten))
        loud = self._row_loud()[kept]
        if not loud.any():
            return self._extractor.empty(), "silent" if len(loud) else "too little sound for one analysis window"
        values = self._finish_rows(Rows([Rows(self._rows).between(kept.start, kept.stop)]), loud)
        start = (self._first_window + self._forgotten + kept.start + np.flatnonzero(loud)) * self._hop
        times = np.stack([start, start + self._window], axis=1) / rate
        sequence = FeatureSequence(values, times, self._extractor.names)
        sequence = sequence.between(start_seconds, end_seconds)
        return sequence, "" if len(sequence) else "silent"

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`; rows go as soon as they are a batch old."""
        keep_from = math.floor(before_seconds * self._extractor.sample_rate_hz / self._hop) - self._first_window
        while self._rows and self._forgotten + len(self._rows[0]) <= keep_from:
            self._forgotten += len(self._rows.pop(0))
            self._loud.pop(0)

    def _row_loud(self) -> NDArray[np.bool_]:
        return np.concatenate(self._loud) if self._loud else np.zeros(0, np.bool_)

    def missing_reason(self) -> str:
        """Too short for one window, or silent."""
        if self._samples < self._window:
            seconds = self._samples / self._extractor.sample_rate_hz
            return f"only {seconds:.3f} s of sound, less than one analysis window"
        return "silent"

    def _flush(self) -> None:
        if self._pending_samples < self._window:
            return
        signal = np.concatenate(self._pending)
        count = (len(signal) - self._window) // self._hop + 1
        used = signal[: (count - 1) * self._hop + self._window]
        windows = np.lib.stride_tricks.sliding_window_view(used, self._window)[:: self._hop]
        energy = np.einsum("tw,tw->t", windows, windows, dtype=np.float64) / self._window
        self._loud.append(np.sqrt(energy) >= self._floor)
        self._rows.append(self._compute(used))
        self._pending = [signal[count * self._hop :]]
        self._pending_samples = len(self._pending[0])
