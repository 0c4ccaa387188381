"""What the face does, measured on its frontal landmarks."""

from __future__ import annotations

from functools import cache

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
    return _measures(face) - _neutral()


@cache
def _neutral() -> NDArray[np.float64]:
    return _measures(canonical_face())


# Pairs of landmarks whose distances are measured.
_MOUTH = ((61, 291), (13, 14), (0, 13), (14, 17), (2, 0), (2, 152))
_BROWS = ((55, 285),)
_EYES = ((160, 144), (158, 153), (33, 133), (387, 373), (385, 380), (263, 362), (129, 133), (358, 362))
_PAIRS = np.array((*_MOUTH, *_BROWS, *_EYES)).T


def _measures(p: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = p[_PAIRS[0]] - p[_PAIRS[1]]
    lengths = iter(np.sqrt((apart * apart).sum(axis=1)).tolist())
    mouth, brows, eyes = ([next(lengths) for _ in pairs] for pairs in (_MOUTH, _BROWS, _EYES))
    return np.array([*_mouth(p, *mouth), *_brows(p, *brows), *_eyes(p, *eyes)])


def _mouth(
    p: NDArray[np.float64], width: float, opening: float, upper: float, lower: float, philtrum: float, jaw: float
) -> list[float]:
    middle = (p[13, 1] + p[14, 1]) / 2
    right, left = p[61, 1] - middle, p[291, 1] - middle
    protrusion = (p[0, 2] + p[17, 2]) / 2 - (p[61, 2] + p[291, 2]) / 2
    lift = (right + left) / 2 + width / 2
    return [lift, right, left, left - right, width, opening, upper, lower, protrusion, -philtrum, jaw]


def _brows(p: NDArray[np.float64], furrow: float) -> list[float]:
    inner_right, inner_left = p[107, 1] - p[133, 1], p[336, 1] - p[362, 1]
    outer_right, outer_left = p[70, 1] - p[33, 1], p[300, 1] - p[263, 1]
    asymmetry = (inner_left + outer_left - inner_right - outer_right) / 2
    return [inner_right, inner_left, outer_right, outer_left, -furrow, asymmetry]


def _eyes(p: NDArray[np.float64], *lengths: float) -> list[float]:
    right_1, right_2, right_width, left_1, left_2, left_width, nose_right, nose_left = lengths
    right, left = (right_1 + right_2) / (2 * right_width), (left_1 + left_2) / (2 * left_width)
    cheeks = (p[205, 1] + p[425, 1] - p[145, 1] - p[374, 1]) / 2
    wrinkle = -(nose_right + nose_left) / 2
    gaze = (_gaze(p, RIGHT_IRIS, 33, 133) + _gaze(p, LEFT_IRIS, 362, 263)) / 2
    return [right, left, left - right, cheeks, wrinkle, float(gaze[0]), float(gaze[1])]


def _gaze(p: NDArray[np.float64], iris: int, image_left: int, image_right: int) -> NDArray[np.float64]:
    """Offset of an iris from the middle of its eye along the eye's axis and across it, in eye widths: `(2,)`."""
    axis = (p[image_right] - p[image_left])[:2]
    width = np.linalg.norm(axis)
    axis = axis / width
    offset = (p[iris] - (p[image_left] + p[image_right]) / 2)[:2]
    return np.array([offset @ axis, offset @ np.array([-axis[1], axis[0]])]) / float(width)
