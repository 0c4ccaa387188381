"""All faces of a frame: through stand-ins for the tools, and two real ones."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from extractors.facial.canonical import canonical_face
from extractors.facial.landmarks import _square_around, open_several_faces, to_pixels
from extractors.facial.largest_face import Box
from extractors.facial.several_faces import SeveralFaces

IMAGE = np.zeros((400, 1000, 3), np.uint8)
SHAPE = np.nan_to_num(canonical_face())


def box(x: float, y: float, size: float) -> Box:
    return round(x - size / 2), round(y - size / 2), round(x + size / 2), round(y + size / 2)


class Tools:
    """A detector and a mesh that know where faces are; the mesh finds those in its view, the last one first."""

    def __init__(self, *faces: Box, seen: tuple[Box, ...] | None = None) -> None:
        self.faces, self.seen = faces, faces if seen is None else seen
        self.views: list[Box] = []
        self._view: Box = (0, 0, 1000, 400)
        self.released = 0

    def square(self, around: Box, width: int, height: int) -> Box:
        self._view = _square_around(around, width, height, 2.0)
        return self._view

    def mesh(self, image: np.ndarray) -> list[list[Any]]:
        left, top, right, bottom = self._view
        assert image.shape[:2] == (bottom - top, right - left)
        self.views.append(self._view)
        found = []
        for face in reversed(self.faces):
            x, y, size = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2, face[2] - face[0]
            if left <= x < right and top <= y < bottom:
                places = SHAPE[:, :2] * size / 2 + (x - left, y - top)
                found.append([SimpleNamespace(x=a / (right - left), y=b / (bottom - top), z=0.0) for a, b in places])
        return found

    def find(self) -> list[list[int]]:
        source = SeveralFaces(
            self.mesh, lambda _: self.seen, self.square, to_pixels, lambda: setattr(self, "released", 1)
        )
        found = source.find_all(IMAGE)
        source.close()
        return [np.round(points[[10, 168, 6, 197, 195, 5, 4, 1, 33, 263, 133, 362, 127, 356, 234, 454, 129, 358], :2]
                         .mean(axis=0)).astype(int).tolist() for points in found]  # fmt: skip


def test_each_face_is_looked_at_through_its_own_square_the_largest_first() -> None:
    tools = Tools(box(200, 200, 60), box(700, 150, 100))
    assert tools.find() == [[700, 150], [200, 200]]
    assert tools.views == [(600, 50, 800, 250), (140, 140, 260, 260)]
    assert tools.released == 1


def test_a_neighbour_in_the_square_is_not_taken_for_it() -> None:
    assert Tools(box(300, 200, 100), box(370, 200, 90)).find() == [[300, 200], [370, 200]]


def test_one_face_that_is_detected_twice_counts_once() -> None:
    assert Tools(box(300, 200, 100), seen=(box(300, 200, 100), box(310, 200, 90))).find() == [[300, 200]]


def test_a_detection_without_landmarks_in_it_is_no_face() -> None:
    assert Tools(box(300, 200, 100), seen=(box(300, 200, 100), box(700, 200, 90))).find() == [[300, 200]]


def test_at_most_four_and_where_nobody_is_detected_the_whole_frame_is_searched() -> None:
    many = tuple(box(100 + 150 * i, 200, 60 + 2 * i) for i in range(6))
    assert [x for x, _ in Tools(*many).find()] == [850, 700, 550, 400]
    tools = Tools(box(500, 200, 390), seen=())
    assert tools.find() == [[500, 200]]
    assert tools.views == [(0, 0, 1000, 400)]
    assert Tools().find() == []


def test_two_real_faces_are_found_anew_in_every_frame(astronaut: np.ndarray) -> None:
    """The same landmarks for the same frame, whatever was seen before."""
    small = cv2.resize(astronaut, (380, 380), interpolation=cv2.INTER_AREA)
    frame = np.full((560, 1000, 3), 90, np.uint8)
    frame[20:400, 10:390], frame[20:532, 480:992] = small, astronaut
    source = open_several_faces(0.5)
    try:
        first = source.find_all(frame)
        source.find_all(np.ascontiguousarray(frame[:, ::-1]))
        again = source.find_all(frame)
    finally:
        source.close()
    # The nose's tip of the photograph alone is at (223, 112), as test_largest_face has it.
    assert [points[1, 0] for points in first] == pytest.approx([703, 10 + 223 * 380 / 512], abs=12)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_square_is_tighter_than_the_one_for_tracking() -> None:
    around = partial(_square_around, box(500, 200, 100), 1000, 400)
    assert around(2.0) == (400, 100, 600, 300)
    assert around() == (350, 50, 650, 350)
