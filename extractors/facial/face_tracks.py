"""Who is who from frame to frame: faces joined to tracks by where they are, how large, and how they are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import RIGID
from extractors.facial.head_pose import frontal

GAP_SECONDS = 2.0
"""A face that comes back within this is the same; after a longer absence it is a new one."""

_NEAR = 0.75
_SIZES_PER_SECOND = 1.5
_FARTHEST = 2.5
_LIKE_SIZE = 2.0
_SHAPE_NOISE = 0.0125
_OTHER_SHAPE = 0.06
_PREDICTED_SECONDS = 0.5
_SHAPE_FRAMES = 20
_MOST = 16
_RIGID = list(RIGID)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SeenFace:
    """One face in one frame.

    Attributes:
        middle: `(2,)`, mean of the landmarks that expressions hardly move, in pixels.
        size: root of the area of the box around its landmarks, in pixels.
        shape: `(36,)`, those same landmarks seen from the front, x and y in distances between the outer eye corners.
        opening: between the inner lips, in the same unit.
    """

    middle: Floats
    size: float
    shape: Floats
    opening: float


def see(points: Floats) -> SeenFace:
    """What tracking needs of a face.

    Args:
        points: `(478, 3)` landmarks in pixels of the frame.

    Raises:
        ValueError: the rigid landmarks coincide.
    """
    face = frontal(points)
    width, height = np.ptp(points[:, :2], axis=0)
    opening = float(np.linalg.norm(face.points[13] - face.points[14]))
    return SeenFace(face.centre_pixels, float(np.sqrt(width * height)), face.points[_RIGID, :2].ravel(), opening)


class _Track:
    def __init__(self, number: int, face: SeenFace, seconds: float) -> None:
        self.number = number
        self.seconds = seconds
        self.middle, self.size, self.shape = face.middle, face.size, face.shape
        self._velocity: Floats = np.zeros(2)
        self._frames = 1

    def cost(self, face: SeenFace, seconds: float) -> float:
        """How little a face looks like this one going on; infinite where it cannot be."""
        passed = seconds - self.seconds
        place = self.middle + self._velocity * min(passed, _PREDICTED_SECONDS)
        apart = min(float(np.linalg.norm(face.middle - where)) for where in (place, self.middle)) / self.size
        reach = min(_FARTHEST, _NEAR + _SIZES_PER_SECOND * passed)
        grown = abs(np.log(face.size / self.size))
        other = float(np.sqrt(np.mean((face.shape - self.shape) ** 2)))
        if apart > reach or grown > np.log(_LIKE_SIZE) or other > _OTHER_SHAPE:
            return np.inf
        off = float(np.linalg.norm(face.middle - place)) / self.size
        return float(off / reach + grown + other / _SHAPE_NOISE)

    def follow(self, face: SeenFace, seconds: float) -> None:
        passed = seconds - self.seconds
        if passed > 0:
            self._velocity = (self._velocity + (face.middle - self.middle) / passed) / 2
        self._frames += 1
        self.shape = self.shape + (face.shape - self.shape) / min(self._frames, _SHAPE_FRAMES)
        self.seconds, self.middle, self.size = seconds, face.middle, face.size


class FaceTracks:
    """Gives every face of every frame the number of its track.

    Faces and tracks are paired so that as many as can be are, at the least sum of costs (the assignment problem, solved
    by scipy's `linear_sum_assignment`). What a face costs a track is the sum of

    - how far it is from where the track's velocity leads, in shares of how far a face may get: 0.75 of its size and
      1.5 sizes a second since it was seen, at most 2.5;
    - the logarithm of how much its size changed;
    - how differently it is built: root mean square difference to the track's mean shape, in units of 0.0125, about
      what pose and expression add to it within one person.

    Beyond that reach, of twice or half the size, or built differently by 0.06, it is another face. A track not seen
    for `GAP_SECONDS` ends, and its number is not used again. Within that, someone may be hidden by another who walks
    past: where the two are built differently the shape tells which one shows and which one comes back.

    Limits: persons built alike who meet may be mistaken for each other, above all if they turn back where they meet. A
    cut to another person of like size and build in the same place looks like one who goes on. Nobody is known again
    after `GAP_SECONDS`. At most 16 tracks are remembered; the one not seen for longest goes.

    The order in which faces are given does not matter: they are taken from left to right.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 0

    def assign(self, faces: Sequence[SeenFace], seconds: float) -> list[int]:
        """The numbers of a frame's faces, in the order given.

        Args:
            faces: all faces of the frame, none twice.
            seconds: when it is shown; frames come in order.
        """
        self._tracks = [track for track in self._tracks if seconds - track.seconds <= GAP_SECONDS + 1e-9]
        order = sorted(range(len(faces)), key=lambda i: (*faces[i].middle, faces[i].size, *faces[i].shape))
        numbers = dict.fromkeys(order, -1)
        for row, column in self._pairs([faces[i] for i in order], seconds):
            track, face = self._tracks[row], order[column]
            track.follow(faces[face], seconds)
            numbers[face] = track.number
        for face in order:
            if numbers[face] < 0:
                self._tracks.append(_Track(self._next, faces[face], seconds))
                numbers[face] = self._next
                self._next += 1
        self._tracks = sorted(self._tracks, key=lambda one: (-one.seconds, one.number))[:_MOST]
        return [numbers[i] for i in range(len(faces))]

    def _pairs(self, faces: Sequence[SeenFace], seconds: float) -> list[tuple[int, int]]:
        from scipy.optimize import linear_sum_assignment

        if not self._tracks or not faces:
            return []
        costs = np.array([[track.cost(face, seconds) for face in faces] for track in self._tracks])
        possible = np.isfinite(costs)
        # Dearer than all others together, so that as many as can be are paired.
        rows, columns = linear_sum_assignment(np.where(possible, costs, costs[possible].sum() + 1.0))
        return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if possible[i, j]]
