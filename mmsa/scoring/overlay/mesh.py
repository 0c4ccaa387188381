"""Drawing a face's landmarks as lines."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_SHIFT = 4  # cv2 draws in sixteenths of a pixel
_NET, _CONTOUR, _EYES = (196, 230, 255), (120, 214, 255), (255, 221, 87)
_NET_SHARE = 0.28


def draw_mesh(picture: NDArray[np.uint8], face: NDArray[np.float64]) -> None:
    """Draw the net faintly and the contours of face, brows, eyes and mouth clearly, in place.

    Args:
        picture: `(H, W, 3)` RGB, contiguous.
        face: `(478, 2)` landmarks as shares of width and height.
    """
    import cv2

    height, width = picture.shape[:2]
    points = face * (width, height)
    fixed = np.round(points * 2**_SHIFT).astype(np.int32)
    thick = max(1, round(min(width, height) / 420))
    net, contours, eyes = _lines()
    left, top = np.clip(np.floor(points.min(axis=0)).astype(int) - 2, 0, (width, height))
    right, bottom = np.clip(np.ceil(points.max(axis=0)).astype(int) + 3, 0, (width, height))
    if right > left and bottom > top:
        under = picture[top:bottom, left:right].copy()
        cv2.polylines(picture, list(fixed[net]), False, _NET, 1, cv2.LINE_AA, _SHIFT)
        own = picture[top:bottom, left:right]
        own[:] = cv2.addWeighted(own, _NET_SHARE, under, 1 - _NET_SHARE, 0)
    cv2.polylines(picture, list(fixed[contours]), False, _CONTOUR, thick, cv2.LINE_AA, _SHIFT)
    cv2.polylines(picture, list(fixed[eyes]), False, _EYES, thick, cv2.LINE_AA, _SHIFT)


@cache
def _lines() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of landmarks, `(N, 2)` each: net, contours, irises; by MediaPipe's own tables."""
    from mediapipe.python.solutions import face_mesh_connections as tables

    names = (tables.FACEMESH_TESSELATION, tables.FACEMESH_CONTOURS, tables.FACEMESH_IRISES)
    net, contours, eyes = (np.array(sorted(pairs), np.int64) for pairs in names)
    return net, contours, eyes
