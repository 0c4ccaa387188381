"""Smoothing a timeline: a centred Gaussian mean over the windows around each one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmsa.scoring.results import TaskScore, WindowScore, number

REACH = 3.0
"""Windows further away than this many standard deviations count for nothing (their weight would be below 1.2 %)."""


def default_width(windows: Sequence[WindowScore]) -> float:
    """The width used where none is asked for: half the median length of the windows, in seconds."""
    lengths = [window.end_seconds - window.start_seconds for window in windows]
    return float(np.median(lengths)) / 2 if lengths else 0.0


def smooth(windows: Sequence[WindowScore], width_seconds: float) -> list[WindowScore]:
    """The windows with `smoothed` filled in.

    The smoothed value at window `i` is the mean over windows `j`, each with the weight
    `exp(-(m_i - m_j)² / (2 width²)) · p_j`, where `m` is a window's middle and `p` the share of modalities that are
    present in it (Nadaraya and Watson's kernel regression, 1964). So a window without a face or without words counts
    for less. Probabilities are averaged as they are, and the label is taken from the mean. Windows of different
    speakers do not mix, and a window in which nothing could be scored stays empty: gaps are not bridged.

    Args:
        windows: in any order.
        width_seconds: the standard deviation of the Gaussian; 0 smooths nothing.
    """
    middles = np.array([window.middle_seconds for window in windows])
    order = np.argsort(middles, kind="stable")
    ordered = middles[order]
    found = list(windows)
    for position, index in enumerate(order):
        window = windows[index]
        if not window.scores or width_seconds <= 0:
            found[index] = replace(window, smoothed={k: replace(v, interval=None) for k, v in window.scores.items()})
            continue
        first = np.searchsorted(ordered, ordered[position] - REACH * width_seconds, "left")
        last = np.searchsorted(ordered, ordered[position] + REACH * width_seconds, "right")
        near = [k for k in order[first:last] if windows[k].scores and windows[k].speaker == window.speaker]
        apart = (middles[near] - middles[index]) / width_seconds
        weights = np.exp(-0.5 * apart**2) * [_presence(windows[k]) for k in near]
        weights = weights / weights.sum()
        found[index] = replace(
            window,
            smoothed={name: _mean([windows[k].scores[name] for k in near], weights) for name in window.scores},
        )
    return found


def _presence(window: WindowScore) -> float:
    present = [one.present for one in window.modalities.values()]
    return sum(present) / len(present) if present else 1.0


def _mean(scores: Sequence[TaskScore], weights: NDArray[np.float64]) -> TaskScore:
    first = scores[0]
    if first.label is None and first.labels is None:
        return TaskScore(value=number(float(weights @ [score.value or 0.0 for score in scores])))
    probabilities = {
        name: number(float(weights @ [score.probabilities[name] for score in scores])) for name in first.probabilities
    }
    if first.labels is not None:
        held = tuple(name for name, share in probabilities.items() if share > 0.5)
        return TaskScore(labels=held, probabilities=probabilities)
    return TaskScore(label=max(probabilities, key=lambda name: probabilities[name]), probabilities=probabilities)
