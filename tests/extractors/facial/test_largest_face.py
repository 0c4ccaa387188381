"""Choosing among several faces: by numbers, through stand-ins for the tools, and on a frame with two real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from extractors.facial.facemesh import FaceMesh
from extractors.facial.landmarks import _square_around, to_pixels
from extractors.facial.largest_face import Box, LargestFace, LargestSource

IMAGE = np.zeros((400, 1000, 3), np.uint8)


def box(x: float, y: float, size: float) -> Box:
    return round(x - size / 2), round(y - size / 2), round(x + size / 2), round(y + size / 2)


class TestChoosing:
    def test_the_largest_is_taken_whatever_the_order(self) -> None:
        small, large = box(100, 100, 50), box(500, 100, 60)
        assert LargestFace().choose([small, large]) == large
        assert LargestFace().choose([large, small]) == large
        assert LargestFace().choose([]) is None

    def test_who_is_followed_stays_until_another_is_a_quarter_larger(self) -> None:
        follow = LargestFace()
        follow.choose([box(100, 100, 100)])
        for x, other in ((110, 110), (130, 120), (150, 124)):
            assert follow.choose([box(600, 100, other), box(x, 100, 100)]) == box(x, 100, 100)
        assert follow.choose([box(600, 100, 126), box(160, 100, 100)]) == box(600, 100, 126)
        assert follow.choose([box(600, 100, 100), box(160, 100, 110)]) == box(600, 100, 100)

    def test_one_that_is_gone_is_not_mistaken_for_another(self) -> None:
        """Nobody within three quarters of its size: the largest of those who are there."""
        follow = LargestFace()
        follow.choose([box(100, 100, 100)])
        assert follow.choose([box(180, 100, 90), box(600, 100, 95)]) == box(600, 100, 95)
        follow.choose([])
        assert follow.choose([box(600, 100, 95), box(300, 100, 99)]) == box(300, 100, 99)


class Tools:
    """A detector and a mesh that know where faces are; the mesh finds those whose middle is in its view."""

    def __init__(self) -> None:
        self.faces: list[Box] = []
        self.views: list[tuple[int, int]] = []
        self.hidden = False
        self.released = 0
        self._view: Box = (0, 0, 1000, 400)

    def detect(self, image: np.ndarray) -> list[Box]:
        return [] if self.hidden else self.faces

    def square(self, around: Box, width: int, height: int) -> Box:
        self._view = _square_around(around, width, height)
        return self._view

    def mesh(self, image: np.ndarray) -> list[list[Any]]:
        height, width = image.shape[:2]
        self.views.append((height, width))
        left, top, right, bottom = (0, 0, 1000, 400) if (height, width) == (400, 1000) else self._view
        found = []
        for face in self.faces:
            x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
            if left <= x < right and top <= y < bottom:
                found.append([SimpleNamespace(x=(x - left) / width, y=(y - top) / height, z=0.0)] * 478)
        return found

    def release(self) -> None:
        self.released += 1

    def source(self) -> LargestSource:
        return LargestSource(self.mesh, self.detect, self.square, to_pixels, self.release)


class TestLooking:
    def test_through_a_square_that_stays_while_the_face_is_inside(self) -> None:
        tools = Tools()
        source = tools.source()
        for x in (300, 320, 340):
            tools.faces = [box(800, 200, 60), box(x, 200, 100)]
            found = source.find(IMAGE)
            assert found is not None
            assert found[0, :2].tolist() == pytest.approx([x, 200])
        assert tools.views == [(300, 300)] * 3
        assert tools._view == (150, 50, 450, 350)
        tools.faces = [box(600, 200, 100)]
        found = source.find(IMAGE)
        assert found is not None
        assert tools._view == (450, 50, 750, 350)
        source.close()
        assert tools.released == 1

    def test_of_several_in_the_square_the_one_in_the_box_counts(self) -> None:
        tools = Tools()
        tools.faces = [box(220, 200, 70), box(300, 200, 100)]
        found = tools.source().find(IMAGE)
        assert found is not None
        assert found[0, :2].tolist() == pytest.approx([300, 200])

    def test_a_face_that_the_detector_misses_is_looked_for_in_the_whole_frame(self) -> None:
        tools = Tools()
        tools.faces, tools.hidden = [box(500, 200, 390)], True
        found = tools.source().find(IMAGE)
        assert found is not None
        assert tools.views == [(400, 1000)]

    def test_nobody(self) -> None:
        assert Tools().source().find(IMAGE) is None


def test_two_real_faces(astronaut: np.ndarray) -> None:
    """The larger one on the right, then on the left; whoever MediaPipe is surer of does not matter."""
    small = cv2.resize(astronaut, (330, 330), interpolation=cv2.INTER_AREA)
    source = FaceMesh(landmarks="none", faces="largest").open_source()
    try:
        for left, right, expected in ((small, astronaut, 703), (astronaut[:, :460], small, 233)):
            frame = np.full((560, 1000, 3), 90, np.uint8)
            frame[20 : 20 + len(left), 10 : 10 + left.shape[1]] = left
            frame[20 : 20 + len(right), 480 : 480 + right.shape[1]] = right
            found = [source.find(frame) for _ in range(2)][-1]
            assert found is not None
            assert found[1, 0] == pytest.approx(expected, abs=12)
    finally:
        source.close()


def test_the_choice_is_part_of_the_spec_but_for_the_old_one() -> None:
    assert "faces" not in FaceMesh().spec.parameters
    assert FaceMesh(faces="largest").spec.parameters["faces"] == "largest"
    with pytest.raises(ValueError, match=r"faces must be one of \('first', 'largest', 'speaking', 'all'\), not 'both'"):
        FaceMesh(faces="both")
