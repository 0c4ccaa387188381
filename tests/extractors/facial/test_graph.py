"""The graph finds what MediaPipe's own `process` finds, bit for bit, and starts no thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractors.facial.graph import Graph
from extractors.facial.landmarks import coordinates

TASKS = Path("/proc/self/task")
solutions = pytest.importorskip("mediapipe").solutions


def moved(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The picture going to the right, 4 pixels at a time."""
    return [np.ascontiguousarray(np.roll(picture, 4 * k, axis=1)) for k in range(count)]


@pytest.mark.parametrize("still", [False, True])
def test_finds_what_the_solution_finds(astronaut: np.ndarray, still: bool) -> None:
    """Tracking or not, with frames without a face in between."""
    empty = np.zeros_like(astronaut)
    frames = [empty, *moved(astronaut, 4), empty, *moved(astronaut, 3)]
    options: dict[str, Any] = {"static_image_mode": still, "refine_landmarks": True, "max_num_faces": 2}
    graph, usual = Graph(solutions.face_mesh.FaceMesh, **options), solutions.face_mesh.FaceMesh(**options)
    seen = 0
    for frame in frames:
        kept = frame.copy()
        faces = usual.process(frame).multi_face_landmarks or []
        found = graph.find(frame)
        assert found == [face.SerializeToString() for face in faces]
        for face, written in zip(faces, found, strict=True):
            expected = np.array([(p.x, p.y, p.z) for p in face.landmark], np.float64)
            assert np.array_equal(coordinates(written), expected)
        assert np.array_equal(frame, kept)
        assert frame.flags.writeable
        seen += len(found)
    assert seen == 7
    graph.close()
    usual.close()


def test_finds_what_the_detector_finds(astronaut: np.ndarray) -> None:
    options = {"model_selection": 1, "min_detection_confidence": 0.3}
    detection = solutions.face_detection.FaceDetection
    graph, usual = Graph(detection, **options), detection(**options)
    for frame in moved(astronaut, 2):
        expected = [one.SerializeToString() for one in usual.process(frame).detections or []]
        assert expected
        assert graph.find(frame) == expected
    assert graph.find(np.zeros((64, 64, 3), np.uint8)) == []


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are counted as Linux shows them")
def test_starts_no_threads(astronaut: np.ndarray) -> None:
    def started(make: Callable[[], Any], look: Callable[[Any], object]) -> tuple[int, Any]:
        before = len(list(TASKS.iterdir()))
        tool = make()
        look(tool)
        return len(list(TASKS.iterdir())) - before, tool

    mesh = solutions.face_mesh.FaceMesh
    own, graph = started(lambda: Graph(mesh), lambda tool: tool.find(astronaut))
    theirs, usual = started(mesh, lambda tool: tool.process(astronaut))
    assert own == 0
    assert theirs > 0, "MediaPipe starts none either: this test proves nothing"
    graph.close()
    usual.close()
