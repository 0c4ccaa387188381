"""Statistics of descriptors over stretches of some seconds: functionals, as openSMILE calls them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioStream
from extractors.sequence import FeatureSequence

STATISTICS = ("mean", "std", "p20", "p50", "p80")
"""Mean, standard deviation (the population's), and percentiles, as GeMAPS takes them (Eyben et al. 2016)."""


def functional_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the statistics of descriptors.

    Example:
        >>> functional_names(("energy_db",))[:2]
        ('energy_db_mean', 'energy_db_std')
    """
    return tuple(f"{name}_{statistic}" for name in names for statistic in STATISTICS)


def summarise(sequence: FeatureSequence, seconds: float) -> FeatureSequence:
    """One step for each stretch `[n * seconds, (n + 1) * seconds)` in which there is any.

    A step belongs to the stretch that its middle lies in, and a stretch's time goes from its first step to its last.
    """
    names = functional_names(sequence.names)
    if not len(sequence):
        return FeatureSequence.empty(names)
    own = np.floor(sequence.times.mean(axis=1) / seconds + 1e-9).astype(np.int64)
    firsts = np.flatnonzero(np.diff(own, prepend=own[0] - 1))
    parts = np.split(np.arange(len(sequence)), firsts[1:])
    values = np.stack([_statistics(sequence.values[rows]) for rows in parts])
    times = np.array([[sequence.times[rows[0], 0], sequence.times[rows, 1].max()] for rows in parts])
    return FeatureSequence(values, times, names)


def _statistics(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(T, D)` → `(D * 5,)`, the statistics of a descriptor side by side."""
    wide = rows.astype(np.float64)
    percentiles = np.percentile(wide, (20, 50, 80), axis=0)
    together = np.stack([wide.mean(axis=0), wide.std(axis=0), *percentiles], axis=1)  # (D, 5)
    return np.asarray(together.reshape(-1), np.float32)


class FunctionalsStream(AudioStream):
    """Summarises what another stream gives.

    Args:
        inner: of descriptors; it serves windows.
        seconds: length of a stretch.
    """

    def __init__(self, inner: AudioStream, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples; see `AudioStream.push`."""
        self._inner.push(samples)

    def finish(self) -> FeatureSequence:
        """The statistics of all stretches."""
        return summarise(self._inner.finish(), self._seconds)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; stretches at either end are whole."""
        first = math.floor(start_seconds / self._seconds + 1e-9) * self._seconds
        after = (
            math.ceil(end_seconds / self._seconds - 1e-9) * self._seconds if math.isfinite(end_seconds) else math.inf
        )
        found, reason = self._inner.window(first, after)
        summary = summarise(found, self._seconds).between(start_seconds, end_seconds)
        return summary, "" if len(summary) else reason or "no stretch of descriptors has its middle here"

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._inner.forget(before_seconds)

    def missing_reason(self) -> str:
        """As the inner stream's."""
        return self._inner.missing_reason()
