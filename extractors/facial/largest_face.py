"""Of several faces the largest, and the same one as long as it stays: `LargestFace` chooses, `LargestSource` looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import LANDMARK_COUNT, RIGID

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

NEAR = 0.75
"""A face is the one of the frame before if its middle has moved by at most this many times its size."""

LARGER = 1.25
"""Another face takes over only if it is this many times as large: two of like size must not take turns."""

FACES = 4
"""How many faces the mesh looks for in its view."""

_RIGID = list(RIGID)


class LargestFace:
    """Follows the largest face from frame to frame by the boxes of a detector; a box's size is the root of its area."""

    def __init__(self) -> None:
        self._middle: NDArray[np.float64] | None = None
        self._size = 0.0

    def choose(self, boxes: Sequence[Box]) -> Box | None:
        """The face to look at.

        Args:
            boxes: of all faces in the frame.

        Returns:
            One of them; None where there is none, and whoever comes next is a new one.
        """
        if not boxes:
            self._middle = None
            return None
        middles, sizes = [_middle(box) for box in boxes], [_size(box) for box in boxes]
        chosen = int(np.argmax(sizes))
        if self._middle is not None:
            apart = [float(np.linalg.norm(middle - self._middle)) for middle in middles]
            same = int(np.argmin(apart))
            if apart[same] <= NEAR * self._size and sizes[chosen] < LARGER * sizes[same]:
                chosen = same
        self._middle, self._size = middles[chosen], sizes[chosen]
        return boxes[chosen]


class LargestSource:
    """Finds the landmarks of the largest face: a `LandmarkSource`.

    In every frame a detector looks for all faces. The mesh is fed a square around the chosen one, which stays where it
    is as long as that face is well inside, so that the mesh can track; of what the mesh finds there, the face whose
    middle lies in the chosen box counts. Where the detector finds nobody (a face that fills the frame), the mesh looks
    at the whole frame.

    Args:
        mesh: normalised landmarks of each face in an image; may track from call to call.
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
        to_pixels: Callable[[Sequence[Any], Box], NDArray[np.float64]],
        release: Callable[[], None],
    ) -> None:
        self._mesh, self._detect, self._release = mesh, detect, release
        self._square, self._to_pixels = square, to_pixels
        self._follow = LargestFace()
        self._view: Box | None = None
        self._size: tuple[int, int] | None = None

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """See `LandmarkSource.find`."""
        height, width = image.shape[:2]
        if self._size != (height, width):
            self._view, self._size, self._follow = None, (height, width), LargestFace()
        box = self._follow.choose(self._detect(image))
        if box is None:
            self._view = None
            found = self._through(image, (0, 0, width, height))
            return found[0] if found else None
        fresh = self._view is None or not _holds(self._view, box)
        if fresh:
            self._view = self._square(box, width, height)
        points = self._in_box(image, box)
        if points is None and not fresh:
            self._view = self._square(box, width, height)
            points = self._in_box(image, box)
        return points

    def close(self) -> None:
        """Free both tools."""
        self._release()

    def _in_box(self, image: NDArray[np.uint8], box: Box) -> NDArray[np.float64] | None:
        assert self._view is not None
        reach = _size(box) / 2
        for points in self._through(image, self._view):
            if np.abs(points[_RIGID, :2].mean(axis=0) - _middle(box)).max() <= reach:
                return points
        return None

    def _through(self, image: NDArray[np.uint8], view: Box) -> list[NDArray[np.float64]]:
        left, top, right, bottom = view
        found = self._mesh(np.ascontiguousarray(image[top:bottom, left:right]))
        return [self._to_pixels(face, view) for face in found if len(face) == LANDMARK_COUNT]


def _middle(box: Box) -> NDArray[np.float64]:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def _size(box: Box) -> float:
    return float(np.sqrt(max(0, box[2] - box[0]) * max(0, box[3] - box[1])))


def _holds(view: Box, box: Box) -> bool:
    """Whether a box lies in a view that is neither too tight nor too wide for it."""
    inside = view[0] <= box[0] and view[1] <= box[1] and box[2] <= view[2] and box[3] <= view[3]
    return inside and 1.5 <= (view[2] - view[0]) / max(1, box[2] - box[0]) <= 6.0
