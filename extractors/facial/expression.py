"""What the face does, measured on its frontal landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import LEFT_IRIS, RIGHT_IRIS, canonical_face

EXPRESSION_NAMES = (
    "smile",
    "mouth_corner_lift_right",
    "mouth_corner_lift_left",
    "mouth_corner_asymmetry",
    "mouth_width",
    "mouth_opening",
    "lip_thickness_upper",
    "lip_thickness_lower",
    "lip_protrusion",
    "upper_lip_raise",
    "jaw_drop",
    "brow_inner_raise_right",
    "brow_inner_raise_left",
    "brow_outer_raise_right",
    "brow_outer_raise_left",
    "brow_furrow",
    "brow_asymmetry",
    "eye_aperture_right",
    "eye_aperture_left",
    "eye_asymmetry",
    "cheek_raise",
    "nose_wrinkle",
    "gaze_right",
    "gaze_up",
)
"""Names of the measures, in order; right and left are the subject's."""


def expression(face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measures of the expression: `(24,)`, one per name in `EXPRESSION_NAMES`.

    All lengths are in distances between the outer eye corners and relative to the canonical neutral face: 0 is
    that face's value (`gaze_*`: looking straight ahead). They stand for action units of the Facial Action Coding
    System (Ekman & Friesen 1978), which they approximate by geometry only; people's neutral faces differ from
    the canonical one, so compare within a person.

    - `smile` (AU12): mean lift of the mouth corners over the middle of the lips, plus half of what the mouth
      is wider.
    - `mouth_opening` (AU25), `jaw_drop` (AU26: chin to nose base), `upper_lip_raise` (AU10), `lip_thickness_*` (small
      when pressed, AU24), `lip_protrusion` (AU18).
    - `brow_inner_raise_*` (AU1), `brow_outer_raise_*` (AU2), `brow_furrow` (AU4: inner brows closer together).
    - `eye_aperture_*` (AU5, 43): eye aspect ratio of Soukupová & Čech 2016; `cheek_raise` (AU6), `nose_wrinkle`
      (AU9).
    - `gaze_right` (to the image's right), `gaze_up`: the iris between the eye's corners, in eye widths.

    Args:
        face: `(478, 3)` landmarks from `frontal`.
    """
    measures = _measures(face) - _measures(canonical_face())
    return measures.astype(np.float64)


def _measures(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([*_mouth(p), *_brows(p), *_eyes(p)])


def _distance(p: NDArray[np.float64], a: int, b: int) -> float:
    return float(np.linalg.norm(p[a] - p[b]))


def _mouth(p: NDArray[np.float64]) -> list[float]:
    middle = (p[13, 1] + p[14, 1]) / 2
    right, left = p[61, 1] - middle, p[291, 1] - middle
    width = _distance(p, 61, 291)
    return [
        (right + left) / 2 + width / 2,
        right,
        left,
        left - right,
        width,
        _distance(p, 13, 14),
        _distance(p, 0, 13),
        _distance(p, 14, 17),
        (p[0, 2] + p[17, 2]) / 2 - (p[61, 2] + p[291, 2]) / 2,
        -_distance(p, 2, 0),
        _distance(p, 2, 152),
    ]


def _brows(p: NDArray[np.float64]) -> list[float]:
    inner_right, inner_left = p[107, 1] - p[133, 1], p[336, 1] - p[362, 1]
    outer_right, outer_left = p[70, 1] - p[33, 1], p[300, 1] - p[263, 1]
    return [
        inner_right,
        inner_left,
        outer_right,
        outer_left,
        -_distance(p, 55, 285),
        (inner_left + outer_left - inner_right - outer_right) / 2,
    ]


def _eyes(p: NDArray[np.float64]) -> list[float]:
    right = (_distance(p, 160, 144) + _distance(p, 158, 153)) / (2 * _distance(p, 33, 133))
    left = (_distance(p, 387, 373) + _distance(p, 385, 380)) / (2 * _distance(p, 263, 362))
    cheeks = (p[205, 1] + p[425, 1] - p[145, 1] - p[374, 1]) / 2
    wrinkle = -(_distance(p, 129, 133) + _distance(p, 358, 362)) / 2
    gaze = (_gaze(p, RIGHT_IRIS, 33, 133) + _gaze(p, LEFT_IRIS, 362, 263)) / 2
    return [right, left, left - right, cheeks, wrinkle, float(gaze[0]), float(gaze[1])]


def _gaze(p: NDArray[np.float64], iris: int, image_left: int, image_right: int) -> NDArray[np.float64]:
    """Offset of an iris from the middle of its eye along the eye's axis and across it, in eye widths: `(2,)`."""
    axis = (p[image_right] - p[image_left])[:2]
    width = np.linalg.norm(axis)
    axis = axis / width
    offset = (p[iris] - (p[image_left] + p[image_right]) / 2)[:2]
    return np.array([offset @ axis, offset @ np.array([-axis[1], axis[0]])]) / float(width)
