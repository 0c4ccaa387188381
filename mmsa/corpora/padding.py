"""Ragged sequences out of zero-padded arrays.

The field's feature files pad every clip to one length, at the start or at the end, and seldom say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["left", "right"]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Spans:
    """Which steps of a padded array are a clip's.

    Attributes:
        start: `(N,)` int64, the first step of each clip.
        stop: `(N,)` int64, the step after its last; equal to `start` where a clip has no step.
        side: where the padding lies, or None where no clip tells.
        corrected: how many clips have data outside the length given for them, and were read by their data instead.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    side: Side | None
    corrected: int = 0


def find_spans(used: Array, lengths: Array | None = None, side: Side | None = None) -> Spans:
    """Tell the steps of each clip from its padding.

    Only what is zero on the padded side is padding: zeros between data, and on the other side, stay, so that
    modalities that were aligned step by step stay so.

    Args:
        used: `(N, L)` boolean, True where a step holds anything but zeros.
        lengths: `(N,)` how many steps each clip has. A clip whose data do not fit is read by its data.
        side: where the padding lies; None finds out (`detect_side`).
    """
    count, steps = used.shape
    side = side or detect_side(used, lengths)
    first, stop = _data_spans(used)
    empty = first == stop
    if lengths is None:
        start = first if side == "left" else np.zeros(count, np.int64)
        end = np.full(count, steps) if side == "left" else stop
        return Spans(np.where(empty, 0, start), np.where(empty, 0, end), side)
    given = np.clip(np.asarray(lengths, np.int64), 0, steps)
    start, end = (steps - given, np.full(count, steps)) if side == "left" else (np.zeros(count, np.int64), given)
    wrong = ~empty & ((first < start) | (stop > end))
    start, end = np.where(wrong, np.minimum(start, first), start), np.where(wrong, np.maximum(end, stop), end)
    return Spans(np.where(empty, 0, start), np.where(empty, 0, end), side, int(wrong.sum()))


def detect_side(used: Array, lengths: Array | None = None) -> Side | None:
    """Which side the padding lies on, by what most clips say; None where no clip tells.

    With lengths, a clip tells where its data fit into that many steps on one side and not on the other. Without, a
    clip tells where it is zero for longer on one side than on the other.
    """
    steps = used.shape[1]
    first, stop = _data_spans(used)
    some = first < stop
    if lengths is None:
        before, after = first, steps - stop
        left, right = some & (before > after), some & (after > before)
    else:
        given = np.clip(np.asarray(lengths, np.int64), 0, steps)
        fits_right, fits_left = stop <= given, first >= steps - given
        left, right = some & fits_left & ~fits_right, some & fits_right & ~fits_left
    if left.sum() == right.sum():
        return None
    return "left" if left.sum() > right.sum() else "right"


def _data_spans(used: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(N,)` first step with data and the step after the last; both 0 where there is none."""
    some = used.any(axis=1)
    first = np.where(some, used.argmax(axis=1), 0)
    stop = np.where(some, used.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    return first.astype(np.int64), stop.astype(np.int64)
