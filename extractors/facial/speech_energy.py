"""How loud the sound of a clip is around each sampled frame."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8000
"""What the sound is resampled to: up to 4 kHz lies nearly all energy of speech."""

FLOOR_DB = -80.0
"""The level of digital silence."""


class SpeechEnergy:
    """Levels by frame: the root mean square of the sound from half a frame before its instant to half a frame after.

    The mean is taken out of each stretch, so that a recorder's offset is no sound. Memory is bounded if `forget` is
    called.

    Args:
        frames_per_second: frame `k` is at `k / frames_per_second`.
    """

    def __init__(self, frames_per_second: float) -> None:
        self._step = RATE_HZ / frames_per_second
        self._held: NDArray[np.float32] = np.zeros(0, np.float32)
        self._at = 0
        self._next = 0
        self._levels: dict[int, float] = {}
        self.heard = False

    @property
    def known(self) -> int:
        """The first frame whose level may still come."""
        return self._next

    def push(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """Take the next samples `(N,)` at `RATE_HZ`; the first has this index on the media's clock."""
        if not self.heard:
            self.heard, self._at = True, first_sample
            self._next = math.ceil(first_sample / self._step + 0.5) if first_sample else 0
        self._held = np.concatenate([self._held, samples])
        while self._edge(self._next + 1) <= self._at + len(self._held):
            start = max(0, self._edge(self._next) - self._at)
            self._levels[self._next] = _level(self._held[start : self._edge(self._next + 1) - self._at])
            self._next += 1
        done = min(max(0, self._edge(self._next) - self._at), len(self._held))
        self._held, self._at = self._held[done:], self._at + done

    def levels(self, first: int, after: int) -> NDArray[np.float64]:
        """`(after - first,)` decibels relative to full scale; NaN where there is no sound, or none any more."""
        return np.array([self._levels.get(index, np.nan) for index in range(first, after)])

    def forget(self, before: int) -> None:
        """No level before this frame is asked for any more."""
        for index in [index for index in self._levels if index < before]:
            del self._levels[index]

    def _edge(self, frame: int) -> int:
        """Index of the first sample that belongs to a frame."""
        return round((frame - 0.5) * self._step)


def _level(samples: NDArray[np.float32]) -> float:
    centred = samples.astype(np.float64) - samples.mean(dtype=np.float64)
    return max(FLOOR_DB, 10.0 * math.log10(max(float(np.mean(centred**2)), 1e-12)))
