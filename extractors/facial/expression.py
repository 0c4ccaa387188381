"""What the face does, measured on its frontal landmarks."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import LEFT_IRIS, RIGHT_IRIS, canonical_face

Values = NDArray[np.float64]

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
    """Measures of the expression: `(..., 24)`, one per name in `EXPRESSION_NAMES`.

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
        face: `(..., 478, 3)` landmarks from `frontal`.
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
    x, y, z = np.moveaxis(p, (-1, -2), (0, 1))  # each `(478, ...)`
    apart = p[..., _PAIRS[0], :] - p[..., _PAIRS[1], :]
    lengths = iter(np.moveaxis(np.sqrt((apart * apart).sum(axis=-1)), -1, 0))
    mouth, brows, eyes = ([next(lengths) for _ in pairs] for pairs in (_MOUTH, _BROWS, _EYES))
    return np.stack([*_mouth(y, z, *mouth), *_brows(y, *brows), *_eyes(x, y, *eyes)], axis=-1)


def _mouth(
    y: Values, z: Values, width: Values, opening: Values, upper: Values, lower: Values, philtrum: Values, jaw: Values
) -> list[Values]:
    middle = (y[13] + y[14]) / 2
    right, left = y[61] - middle, y[291] - middle
    protrusion = (z[0] + z[17]) / 2 - (z[61] + z[291]) / 2
    lift = (right + left) / 2 + width / 2
    return [lift, right, left, left - right, width, opening, upper, lower, protrusion, -philtrum, jaw]


def _brows(y: Values, furrow: Values) -> list[Values]:
    inner_right, inner_left = y[107] - y[133], y[336] - y[362]
    outer_right, outer_left = y[70] - y[33], y[300] - y[263]
    asymmetry = (inner_left + outer_left - inner_right - outer_right) / 2
    return [inner_right, inner_left, outer_right, outer_left, -furrow, asymmetry]


def _eyes(x: Values, y: Values, *lengths: Values) -> list[Values]:
    right_1, right_2, right_width, left_1, left_2, left_width, nose_right, nose_left = lengths
    right, left = (right_1 + right_2) / (2 * right_width), (left_1 + left_2) / (2 * left_width)
    cheeks = (y[205] + y[425] - y[145] - y[374]) / 2
    wrinkle = -(nose_right + nose_left) / 2
    seen = zip(_gaze(x, y, RIGHT_IRIS, 33, 133), _gaze(x, y, LEFT_IRIS, 362, 263), strict=True)
    return [right, left, left - right, cheeks, wrinkle, *((one + other) / 2 for one, other in seen)]


def _gaze(x: Values, y: Values, iris: int, image_left: int, image_right: int) -> tuple[Values, Values]:
    """Offset of an iris from the middle of its eye along the eye's axis and across it, in eye widths."""
    across, up = x[image_right] - x[image_left], y[image_right] - y[image_left]
    width = np.sqrt(across * across + up * up)
    across, up = across / width, up / width
    right, above = x[iris] - (x[image_left] + x[image_right]) / 2, y[iris] - (y[image_left] + y[image_right]) / 2
    return (right * across + above * up) / width, (above * across - right * up) / width
