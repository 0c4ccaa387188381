"""Aligned face crops: every face upright, of one size and in one place, whatever it was in the frame."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import RIGID, canonical_face

_RIGID = list(RIGID)
_HAIRLINE, _CHIN = 10, 152


@cache
def template(size_pixels: int, margin: float) -> NDArray[np.float64]:
    """Where the rigid landmarks of a neutral face lie in a crop: `(18, 2)` pixels, x right and y down.

    The canonical face seen from the front, from hairline to chin in the crop's middle, with `margin` of that height
    above and below.
    """
    face = canonical_face()
    top, bottom = float(face[_HAIRLINE, 1]), float(face[_CHIN, 1])
    unit = size_pixels / ((top - bottom) * (1.0 + 2.0 * margin))
    flat = face[_RIGID, :2] - (0.0, (top + bottom) / 2)
    placed = flat * (unit, -unit) + size_pixels / 2
    placed.setflags(write=False)
    return np.asarray(placed, np.float64)


def similarity(points: NDArray[np.float64], size_pixels: int, margin: float) -> NDArray[np.float64]:
    """The similarity that takes a face to the template: `(2, 3)`, from pixels of the frame to pixels of the crop.

    Turn, scale and shift with the least sum of squared distances over the landmarks that expressions hardly move
    (Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991). In the
    plane that is a regression in complex numbers, `w = a z + b`, which cannot mirror. A head that is turned away keeps
    its look: only the plane's motions are taken out, nothing is bent.

    Args:
        points: `(478, 2 or 3)` landmarks in pixels.
        size_pixels: width and height of the crop.
        margin: see `template`.

    Raises:
        ValueError: the rigid landmarks coincide.
    """
    source = points[_RIGID, 0] + 1j * points[_RIGID, 1]
    target = template(size_pixels, margin) @ np.array([1.0, 1j])
    centred = source - source.mean()
    spread = float((np.abs(centred) ** 2).sum())
    if spread <= 0.0:
        raise ValueError("the rigid landmarks coincide: this is no face; leave the frame out")
    turn = (centred.conj() * (target - target.mean())).sum() / spread
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def crop_face(
    image: NDArray[np.uint8], points: NDArray[np.float64], size_pixels: int, margin: float
) -> NDArray[np.uint8]:
    """The aligned crop of one face.

    A face that is larger than in the crop is averaged down by area first, so that nothing flickers; then it is sampled
    bilinearly. What lies outside of the frame is black.

    Args:
        image: `(H, W, 3)` RGB frame.
        points: `(478, 2 or 3)` its landmarks in pixels of the frame.
        size_pixels: width and height of the crop.
        margin: see `template`.

    Returns:
        `(size_pixels, size_pixels, 3)` RGB.

    Raises:
        ValueError: the rigid landmarks coincide.
    """
    import cv2

    matrix = np.vstack([similarity(points, size_pixels, margin), (0.0, 0.0, 1.0)])
    region, origin = _around(image, matrix, size_pixels)
    if not region.size:
        return np.zeros((size_pixels, size_pixels, 3), np.uint8)
    place = np.array([[1.0, 0.0, origin[0]], [0.0, 1.0, origin[1]], [0.0, 0.0, 1.0]])
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1.0:
        height, width = region.shape[:2]
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        region = cv2.resize(region, small, interpolation=cv2.INTER_AREA)
        place = place @ np.diag([width / small[0], height / small[1], 1.0])
    whole = _by_centres(matrix @ place)
    return np.asarray(cv2.warpAffine(region, whole[:2], (size_pixels, size_pixels), flags=cv2.INTER_LINEAR), np.uint8)


def _around(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size_pixels: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The part of the frame that the crop shows, with a few pixels around it, and its left upper corner."""
    corners = np.array([[0, 0, 1], [size_pixels, 0, 1], [0, size_pixels, 1], [size_pixels, size_pixels, 1]])
    shown = (np.linalg.inv(matrix) @ corners.T)[:2]
    rim = 2.0 + 2.0 / float(np.hypot(matrix[0, 0], matrix[1, 0]))
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(shown.min(axis=1) - rim), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(shown.max(axis=1) + rim), 0, (width, height)).astype(int)
    return np.ascontiguousarray(image[top:bottom, left:right]), (int(left), int(top))


def _by_centres(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A map of the plane, in which pixel `i` covers `[i, i + 1)`, as OpenCV wants it: from centre to centre."""
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    return np.asarray(np.linalg.inv(half) @ matrix @ half)
