"""Finding faces: the view that follows one, the two tools, and what to install."""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from extractors.errors import ToolError
from extractors.facial import landmarks
from extractors.facial.landmarks import TaskSource, ViewedSource, coordinates, explain_import, to_pixels

IMAGE = np.zeros((400, 1000, 3), np.uint8)


def points(x: float, y: float, count: int = 478) -> list[Any]:
    return [SimpleNamespace(x=x, y=y, z=0.1)] * count


class Recorder:
    """A mesh that sees a face only in views at most `widest` pixels wide, and a detector with a fixed answer."""

    def __init__(self, widest: int, box: tuple[int, int, int, int] | None) -> None:
        self.widest, self.box = widest, box
        self.views: list[tuple[int, int]] = []
        self.searches = 0
        self.released = 0

    def mesh(self, image: np.ndarray) -> list[Any] | None:
        self.views.append(image.shape[:2])
        return points(0.5, 0.5) if image.shape[1] <= self.widest else None

    def detect(self, image: np.ndarray) -> tuple[int, int, int, int] | None:
        self.searches += 1
        return self.box

    def release(self) -> None:
        self.released += 1

    def source(self) -> ViewedSource:
        return ViewedSource(self.mesh, self.detect, self.release)


def test_a_large_face_needs_no_view() -> None:
    tools = Recorder(1000, None)
    found = tools.source().find(IMAGE)
    assert found is not None
    assert found[0].tolist() == [500.0, 200.0, 100.0]
    assert tools.searches == 0


def test_a_distant_face_is_followed_through_a_square() -> None:
    tools = Recorder(400, (780, 100, 840, 160))
    source = tools.source()
    first, second = source.find(IMAGE), source.find(IMAGE)
    # A square of 3 * 60 pixels around (810, 130).
    assert first is not None
    assert first[0].tolist() == pytest.approx([810.0, 130.0, 18.0])
    assert np.array_equal(first, second)
    assert tools.views == [(400, 1000), (180, 180), (180, 180)]
    assert tools.searches == 1


def test_a_view_at_the_edge_stays_inside() -> None:
    tools = Recorder(400, (0, 340, 60, 400))
    found = tools.source().find(IMAGE)
    assert found is not None
    assert found[0].tolist() == pytest.approx([90.0, 310.0, 18.0])
    wide = Recorder(400, (400, 0, 600, 200))
    assert wide.source().find(IMAGE) is None
    assert wide.views[-1] == (400, 600)


def test_a_lost_face_is_searched_for_in_the_whole_frame_again() -> None:
    tools = Recorder(400, (780, 100, 840, 160))
    source = tools.source()
    source.find(IMAGE)
    tools.widest, tools.box = 0, None
    assert source.find(IMAGE) is None
    assert source.find(IMAGE) is None
    assert tools.views[-2:] == [(180, 180), (400, 1000)]
    source.close()
    assert tools.released == 1


def test_a_face_with_other_landmarks_is_no_face() -> None:
    tools = Recorder(0, None)
    source = ViewedSource(lambda image: points(0, 0, 468), tools.detect, tools.release)
    assert source.find(IMAGE) is None


@pytest.mark.parametrize("more", [{}, {"visibility": 0.5}])
def test_coordinates_are_those_of_the_message(more: dict[str, float]) -> None:
    """Some are 0, which protobuf writes here as any other; fields beyond x, y and z make it another layout."""
    landmark_pb2 = pytest.importorskip("mediapipe.framework.formats.landmark_pb2")
    values = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    values[::7] = 0.0
    face = landmark_pb2.NormalizedLandmarkList()
    for k, (x, y, z) in enumerate(values):
        face.landmark.add(x=x, y=y, z=z, **(more if k % 2 else {}))
    found = coordinates(face.SerializeToString())
    assert found.dtype == np.float64
    assert np.array_equal(found, values.astype(np.float64))
    assert np.array_equal(to_pixels(found, (0, 0, 1, 1)), values.astype(np.float64))


def test_to_pixels() -> None:
    found = to_pixels([SimpleNamespace(x=0.5, y=0.25, z=-0.1)], (100, 200, 300, 600))
    assert found.tolist() == [[200.0, 300.0, -20.0]]


def test_tasks_landmarker() -> None:
    """Through a stand-in with the interface of MediaPipe Tasks: no .task file comes with the package."""
    calls: list[tuple[str, int]] = []
    answers = [[points(0.1, 0.5)], [], [points(0.2, 0.5, 468)]]

    def detect_for_video(image: str, clock: int) -> Any:
        calls.append((image, clock))
        return SimpleNamespace(face_landmarks=answers[len(calls) - 1], face_blendshapes=[])

    closed: list[bool] = []
    landmarker = SimpleNamespace(detect_for_video=detect_for_video, close=lambda: closed.append(True))
    source = TaskSource(landmarker, lambda image: f"image {image.shape}", 100)
    first = source.find(IMAGE)
    assert first is not None
    assert first[7].tolist() == pytest.approx([100.0, 200.0, 100.0])
    assert source.find(IMAGE) is None
    assert source.find(IMAGE) is None
    assert source.blendshapes is None
    assert calls == [("image (400, 1000, 3)", 100), ("image (400, 1000, 3)", 200), ("image (400, 1000, 3)", 300)]
    source.close()
    assert closed == [True]


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0", "libEGL.so.1"])
def test_missing_system_libraries_are_named(library: str) -> None:
    message = explain_import(f"{library}: cannot open shared object file: No such file or directory")
    assert library in message
    assert "apt-get install -y libgl1 libglib2.0-0" in message


def test_a_failing_import_becomes_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def failing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "mediapipe":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(ToolError, match=r"libGL\.so\.1, which is missing: on Debian or Ubuntu run `apt-get install"):
        landmarks.open_face_mesh(0.5, 0.5)


def test_a_mediapipe_without_face_mesh_becomes_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    import mediapipe

    monkeypatch.delattr(mediapipe, "solutions")
    monkeypatch.setattr(mediapipe, "__version__", "0.10.30", raising=False)
    with pytest.raises(
        ToolError, match=r"MediaPipe 0\.10\.30 no longer carries FaceMesh: install .*face_landmarker\.task"
    ):
        landmarks.open_face_mesh(0.5, 0.5)
