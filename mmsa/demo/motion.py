"""How the face moves while a clip is spoken: lips after the speech sounds, expression, blinks, gaze, head sway."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mmsa.demo.face import FaceState
from mmsa.demo.phones import TimedPhone
from mmsa.demo.script import Expression

FRAME_RATE = 25
_FINE = 200

Track = NDArray[np.float64]


def _lips(phones: Sequence[TimedPhone], times: Track) -> tuple[Track, Track]:
    """Jaw opening and rounding at the given times, from the sounds' targets, smoothed over about 60 ms."""
    n = int(times[-1] * _FINE) + _FINE if len(times) else _FINE
    jaw, rounding = np.zeros(n), np.zeros(n)
    for timed in phones:
        piece = slice(round(timed.start_seconds * _FINE), round(timed.end_seconds * _FINE))
        jaw[piece] = timed.phone.jaw * (1.15 if timed.stressed else 0.9)
        rounding[piece] = timed.phone.rounding
    fine = np.arange(n) / _FINE
    return (
        np.interp(times, fine, gaussian_filter1d(jaw, 0.03 * _FINE)),
        np.interp(times, fine, gaussian_filter1d(rounding, 0.04 * _FINE)),
    )


def _blinks(times: Track, rng: np.random.Generator) -> Track:
    """Factor on the eyes' opening: dips to 0.05 for about 0.15 s, every 2 to 4 s."""
    factor = np.ones_like(times)
    now = rng.uniform(0.4, 2.5)
    while len(times) and now < times[-1]:
        factor *= 1 - 0.95 * np.exp(-(((times - now) / 0.07) ** 4))
        now += rng.uniform(2.0, 4.0)
    return factor


def _sway(times: Track, amplitude: float, rng: np.random.Generator) -> Track:
    """A slow wander of about the given amplitude: three sines of random phase below 1 Hz."""
    out = np.zeros_like(times)
    for hertz, share in ((0.17, 0.6), (0.41, 0.4), (0.83, 0.2)):
        out += share * np.sin(2 * np.pi * (hertz * rng.uniform(0.8, 1.2) * times + rng.uniform()))
    return amplitude * out


def _gaze(times: Track, reach: float, rng: np.random.Generator) -> Track:
    """Fixations of 0.4 to 1.2 s with jumps between."""
    out, start = np.zeros_like(times), 0.0
    while len(times) and start <= times[-1]:
        out[times >= start] = rng.normal(0, reach)
        start += rng.uniform(0.4, 1.2)
    return np.clip(out, -1, 1)


def _expression_strength(times: Track, rng: np.random.Generator) -> Track:
    """Grows from 0.5 to its height within half a second, then wavers by a tenth."""
    onset = 0.5 + 0.5 * np.clip(times / 0.5, 0, 1)
    return onset * (0.97 + _sway(times, 0.06, rng))


def face_track(
    phones: Sequence[TimedPhone], expression: Expression, n_frames: int, rng: np.random.Generator
) -> tuple[FaceState, ...]:
    """One state per frame at 25 frames a second.

    Args:
        phones: what is said; the lips follow it. None said: the mouth stays shut.
        expression: its `face` moves the corners of the mouth and, slightly, the head up (positive) or down; its
            `brow` moves brows and eyelids. Nothing here depends on its `text`, `voice` or `arousal`.
        n_frames: how many.
        rng: for everything that wanders.
    """
    times = np.arange(n_frames) / FRAME_RATE
    jaw, rounding = _lips(phones, times)
    strength = _expression_strength(times, rng)
    smile = expression.face / 3 * strength + _sway(times, 0.06, rng)
    brow = expression.brow * strength + _sway(times, 0.06, rng)
    eyes = (1 + 0.3 * brow) * _blinks(times, rng)
    yaw, roll = _sway(times, 0.10, rng) + rng.normal(0, 0.03), _sway(times, 0.05, rng)
    pitch = _sway(times, 0.05, rng) - 0.05 * expression.face / 3 * strength + 0.06 * (gaussian_filter1d(jaw, 4) - 0.3)
    shift_x, shift_y = _sway(times, 0.05, rng), _sway(times, 0.03, rng)
    gaze_x, gaze_y = _gaze(times, 0.3, rng), _gaze(times, 0.2, rng)
    columns = (smile, brow, jaw, rounding, eyes, yaw, pitch, roll, shift_x, shift_y, gaze_x, gaze_y)
    limits = ((-1.1, 1.1), (-1.1, 1.1), (0, 1.1), (0, 1), (0, 1.4), *[(-0.5, 0.5)] * 5, (-1, 1), (-1, 1))
    clipped = [np.clip(column, low, high) for column, (low, high) in zip(columns, limits, strict=True)]
    return tuple(FaceState(*(float(value) for value in row)) for row in np.stack(clipped, axis=1))
