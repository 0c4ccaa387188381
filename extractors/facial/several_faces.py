"""`SeveralFaces`: the landmarks of all faces in a frame, each looked at on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import LANDMARK_COUNT, RIGID
from extractors.facial.largest_face import FACES, Box

VIEW_FACTOR = 2.0
"""A face is looked at through a square this many times its size, so that few others are in it."""

_SAME = 0.3
_RIGID = list(RIGID)

Points = NDArray[np.float64]


class SeveralFaces:
    """Finds all faces of a frame, at most `FACES`, the largest first.

    A detector looks over the frame; then the mesh looks at a square around each face it found, without tracking. What
    MediaPipe tracks with several faces in view may slip from one to the other when they come close, and it numbers them
    by the order in which it finds them. Here a frame's landmarks depend on that frame alone, whichever way a clip is
    cut; who is who is for `FaceTracks` to say. Where the detector finds nobody (a face that fills the frame), the mesh
    looks at the whole.

    Args:
        mesh: normalised landmarks of each face in an image; tracks nothing.
        detect: boxes of all faces in an image.
        square: a square around a box, inside a frame of this width and height.
        to_pixels: from normalised landmarks in a view to pixels of the frame.
        release: frees mesh and detector.
    """

    def __init__(
        self,
        mesh: Callable[[NDArray[np.uint8]], Sequence[Sequence[Any]]],
        detect: Callable[[NDArray[np.uint8]], Sequence[Box]],
        square: Callable[[Box, int, int], Box],
        to_pixels: Callable[[Sequence[Any], Box], Points],
        release: Callable[[], None],
    ) -> None:
        self._mesh, self._detect, self._release = mesh, detect, release
        self._square, self._to_pixels = square, to_pixels

    def find_all(self, image: NDArray[np.uint8]) -> list[Points]:
        """Landmarks `(478, 3)` of each face in a `(H, W, 3)` RGB frame, in pixels (x right, y down, z away)."""
        height, width = image.shape[:2]
        boxes = sorted(self._detect(image), key=lambda box: (-_area(box), box))[:FACES]
        found: list[Points] = []
        for box in boxes:
            middle, size = np.array([box[0] + box[2], box[1] + box[3]]) / 2, max(1.0, _area(box)) ** 0.5
            looked = self._through(image, self._square(box, width, height))
            away = [float(np.abs(_middle(points) - middle).max()) / size for points in looked]
            nearest = min(range(len(looked)), key=away.__getitem__, default=None)
            if nearest is None or away[nearest] > 0.5:
                continue
            points = looked[nearest]
            if all(float(np.linalg.norm(_middle(points) - _middle(other))) > _SAME * size for other in found):
                found.append(points)
        return found if boxes else self._through(image, (0, 0, width, height))

    def close(self) -> None:
        """Free both tools."""
        self._release()

    def _through(self, image: NDArray[np.uint8], view: Box) -> list[Points]:
        left, top, right, bottom = view
        found = self._mesh(np.ascontiguousarray(image[top:bottom, left:right]))
        points = [self._to_pixels(face, view) for face in found if len(face) == LANDMARK_COUNT]
        return [one for one in points if np.isfinite(one).all() and float(np.ptp(_rigid(one), axis=0).max()) > 0.0]


def _rigid(points: Points) -> Points:
    return points[_RIGID, :2]


def _middle(points: Points) -> Points:
    middle: Points = _rigid(points).mean(axis=0)
    return middle


def _area(box: Box) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])
