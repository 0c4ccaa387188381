"""`FeatureSequence`: what every extractor returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLACK_SECONDS = 1e-7
"""Times nearer to each other than this are the same: 31.3 and the middle of 31.2 and 31.4 differ in the last bit."""


def first_step(seconds: float, rate: float) -> int:
    """The first `k` with its middle, `(k + 0.5) / rate`, at a time or after it: where `FeatureSequence.between` cuts.

    Example:
        >>> first_step(31.3, 5.0), first_step(31.31, 5.0)
        (156, 157)
    """
    return math.ceil((seconds - SLACK_SECONDS) * rate - 0.5)


@dataclass(frozen=True, eq=False)
class FeatureSequence:
    """Features of one clip in one modality, each step with the time it speaks of.

    A stretch without data (no face, silence, no words) has **no steps**: it shows as a gap between the `times`
    of its neighbours and is never filled with zeros.

    Attributes:
        values: `(T, D)` float32, finite. `T` may be 0 (the modality is missing), `D` is always the extractor's.
        times: `(T, 2)` float64, start and end of each step in seconds of the media's own clock, sorted by start.
        names: one name per feature, length `D`.

    Raises:
        ValueError: the shapes disagree, a value is not finite, or a step ends before it starts.

    Example:
        >>> seq = FeatureSequence(np.ones((2, 1), np.float32), np.array([[0.0, 0.1], [0.3, 0.4]]), ("energy",))
        >>> seq
        FeatureSequence(T=2, D=1, 0.00-0.40 s)
    """

    values: NDArray[np.float32]
    times: NDArray[np.float64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise ValueError(
                f"values must be (T, D) float32, not {self.values.shape} {self.values.dtype}: "
                "cast with .astype(np.float32)"
            )
        if self.times.shape != (len(self.values), 2) or self.times.dtype != np.float64:
            raise ValueError(
                f"times must be ({len(self.values)}, 2) float64, not {self.times.shape} {self.times.dtype}"
            )
        if len(self.names) != self.values.shape[1]:
            raise ValueError(f"{len(self.names)} names given for {self.values.shape[1]} features")
        if not np.isfinite(self.values).all():
            bad = [self.names[i] for i in np.flatnonzero(~np.isfinite(self.values).all(axis=0))]
            raise ValueError(f"values must be finite: {', '.join(bad[:5])} are not; leave such steps out")
        if len(self.times) and (
            not np.isfinite(self.times).all()
            or (self.times[:, 1] < self.times[:, 0]).any()
            or (np.diff(self.times[:, 0]) < 0).any()
        ):
            raise ValueError("times must be finite, sorted by start, and no step may end before it starts")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Number of features `D`."""
        return self.values.shape[1]

    @classmethod
    def empty(cls, names: tuple[str, ...]) -> FeatureSequence:
        """A sequence without steps: the modality is missing."""
        return cls(np.zeros((0, len(names)), np.float32), np.zeros((0, 2), np.float64), names)

    def between(self, start_seconds: float, end_seconds: float) -> FeatureSequence:
        """The steps whose middle lies in `[start_seconds, end_seconds)`."""
        middle = self.times.mean(axis=1) + SLACK_SECONDS
        keep = (middle >= start_seconds) & (middle < end_seconds)
        return FeatureSequence(self.values[keep], self.times[keep], self.names)

    def __repr__(self) -> str:
        span = f"{self.times[0, 0]:.2f}-{self.times[:, 1].max():.2f} s" if len(self) else "empty"
        return f"FeatureSequence(T={len(self)}, D={self.dim}, {span})"
