"""A file's windows in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsa.scoring.results import Moment, Summary, TaskSummary, WindowScore, number

Vector = NDArray[np.float64]


def summarise(windows: Sequence[WindowScore]) -> Summary:
    """Mean, spread, moments, shares of time and coverage; see `mmsa.scoring.results.Summary`.

    Each window counts by its length (all alike where none has any, as still images). Windows in which nothing could be
    scored count for the coverage alone.

    Args:
        windows: smoothed ones.
    """
    scored = [window for window in windows if window.scores]
    names = list(scored[0].scores) if scored else []
    keys = list(windows[0].modalities) if windows else []
    weights = _weights(windows)
    coverage = {
        key: number(float(weights @ [float(window.modalities[key].present) for window in windows])) for key in keys
    }
    return Summary({name: _task(name, scored) for name in names}, coverage, len(windows), len(scored))


def _weights(windows: Sequence[WindowScore]) -> Vector:
    lengths = np.array([window.end_seconds - window.start_seconds for window in windows])
    if lengths.sum() <= 0:
        lengths = np.ones(len(windows))
    shares: Vector = lengths / lengths.sum()
    return shares


def _task(name: str, windows: Sequence[WindowScore]) -> TaskSummary:
    weights = _weights(windows)
    first = windows[0].scores[name]
    if first.label is None and first.labels is None:
        values = np.array([window.scores[name].value for window in windows], dtype=np.float64)
        mean = float(weights @ values)
        smoothed = np.array([window.smoothed[name].value for window in windows], dtype=np.float64)
        return TaskSummary(
            mean=number(mean),
            std=number(float(np.sqrt(weights @ (values - mean) ** 2))),
            lowest=_moment(windows, values, int(values.argmin())),
            highest=_moment(windows, values, int(values.argmax())),
            most_negative=_moment(windows, smoothed, int(smoothed.argmin())),
            most_positive=_moment(windows, smoothed, int(smoothed.argmax())),
        )
    probabilities, shares, peaks = {}, {}, {}
    for one in first.probabilities:
        probabilities[one] = number(float(weights @ [window.scores[name].probabilities[one] for window in windows]))
        shares[one] = number(float(weights @ [float(_holds(window, name, one)) for window in windows]))
        smoothed = np.array([window.smoothed[name].probabilities[one] for window in windows])
        peaks[one] = _moment(windows, smoothed, int(smoothed.argmax()))
    return TaskSummary(probabilities=probabilities, shares=shares, peaks=peaks)


def _holds(window: WindowScore, task: str, name: str) -> bool:
    found = window.smoothed[task]
    return found.label == name if found.labels is None else name in found.labels


def _moment(windows: Sequence[WindowScore], values: Vector, place: int) -> Moment:
    return Moment(windows[place].middle_seconds, float(values[place]), windows[place].number)
