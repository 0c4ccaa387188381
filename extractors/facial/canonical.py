"""A neutral face in three dimensions, for the landmarks that are measured."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

LANDMARK_COUNT = 478
"""Landmarks per face: 468 of the mesh, then 5 of each iris (centre first), the subject's right eye before the left."""

RIGHT_IRIS, LEFT_IRIS = 468, 473

# Vertices of MediaPipe's canonical face model (canonical_face_model.obj, Apache-2.0), in centimetres: x towards the
# image's right (the subject's left), y up, z out of the face.
_MIDLINE = {
    0: (-3.406404, 5.979507),
    1: (-1.126865, 7.475604),
    2: (-2.089024, 6.058267),
    4: (-0.463170, 7.586580),
    5: (0.365669, 7.242870),
    6: (2.473255, 5.788627),
    10: (8.261778, 4.481535),
    13: (-3.994436, 5.219482),
    14: (-4.542400, 5.404754),
    17: (-5.365123, 5.535441),
    152: (-9.403378, 4.264492),
    168: (3.271027, 5.236015),
    195: (1.059413, 6.774605),
    197: (1.728369, 6.316750),
}
# (landmark on the subject's right, its mirror image on the left): coordinates of the left one.
_PAIRS = {
    (33, 263): (4.445859, 2.663991, 3.173422),
    (133, 362): (1.856432, 2.585245, 3.757904),
    (160, 387): (3.670075, 2.927714, 3.724325),
    (159, 386): (3.177186, 2.964136, 3.876973),
    (158, 385): (2.724032, 2.961810, 3.871767),
    (144, 373): (3.670075, 2.360153, 3.635230),
    (145, 374): (3.177186, 2.294265, 3.775704),
    (153, 380): (2.724032, 2.315802, 3.777151),
    (70, 300): (5.720968, 4.254584, 2.830852),
    (105, 334): (3.986562, 5.109487, 4.466315),
    (107, 336): (1.395634, 5.011963, 5.316032),
    (55, 285): (1.220941, 4.142165, 5.106035),
    (61, 291): (2.456206, -4.342621, 4.283884),
    (37, 267): (0.711452, -3.329355, 5.877044),
    (84, 314): (0.699606, -5.291850, 5.448304),
    (50, 280): (4.765501, -0.701554, 3.534632),
    (205, 425): (3.832928, -1.537326, 4.137731),
    (129, 358): (1.785794, -0.978284, 4.850470),
    (127, 356): (7.743095, 2.364999, -2.005167),
    (234, 454): (7.664182, 0.673132, -2.435867),
    (172, 397): (5.940524, -6.223629, -0.631468),
}

RIGID = (10, 168, 6, 197, 195, 5, 4, 1, 33, 263, 133, 362, 127, 356, 234, 454, 129, 358)
"""Landmarks that expressions hardly move: nose, eye corners, temples, hairline."""

_OUTER_CORNER_DISTANCE = 2 * 4.445859


@cache
def canonical_face() -> NDArray[np.float64]:
    """The neutral face: `(478, 3)`, NaN for landmarks that are not listed.

    The unit is the distance between the outer eye corners; x points to the image's right, y up, z out of the face; the
    origin is the centroid of `RIGID`. Each iris lies midway between the corners of its eye.
    """
    face = np.full((LANDMARK_COUNT, 3), np.nan)
    for index, (y, z) in _MIDLINE.items():
        face[index] = (0.0, y, z)
    for (right, left), (x, y, z) in _PAIRS.items():
        face[left] = (x, y, z)
        face[right] = (-x, y, z)
    face[RIGHT_IRIS] = (face[33] + face[133]) / 2
    face[LEFT_IRIS] = (face[263] + face[362]) / 2
    face = (face - face[list(RIGID)].mean(axis=0)) / _OUTER_CORNER_DISTANCE
    frozen: NDArray[np.float64] = np.asarray(face, np.float64)
    frozen.setflags(write=False)
    return frozen
