"""Crops of every frame: the photograph of a real face turned, scaled and moved; gaps; times."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import cv2
import numpy as np
import pytest

import extractors
from extractors import FeatureSequence
from extractors.base import VisionExtractor, VisionStream
from extractors.facial.canonical import RIGID
from extractors.facial.crop import template
from extractors.facial.face_view import FaceView

SIZE = 64
FINDING = {"frames_per_second": 5.0, "max_side_pixels": 1280}


class Thumbnails(VisionExtractor):
    """The crop itself, `SIZE` × `SIZE` grey values, as features."""

    rolling = True

    def __init__(self, batch_size: int = 4, **finding: object) -> None:
        self.view = FaceView(crop_pixels=SIZE, margin=0.15, **{**FINDING, **finding})
        self.frames_per_second, self.max_side_pixels, self.batch_size = 5.0, 1280, batch_size
        self.batches: list[int] = []
        self.names = tuple(f"pixel_{i}" for i in range(SIZE * SIZE))
        self.spec = extractors.ExtractorSpec("thumbnails", "none", "1", {})

    def stream(self) -> VisionStream:
        return self.view.stream(self, self._describe, self.batch_size)

    def _describe(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        self.batches.append(len(crops))
        return np.stack([crop.mean(axis=2).ravel() for crop in crops]).astype(np.float32)


class Scripted:
    """A source of landmarks that finds what it is told, frame by frame."""

    def __init__(self, found: Sequence[np.ndarray | None]) -> None:
        self._found = iter(found)

    def find(self, image: np.ndarray) -> np.ndarray | None:
        return next(self._found)

    def close(self) -> None:
        return None


def warped(photo: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((224.0, 110.0), degrees, scale)
    matrix[:, 2] += np.array(shift)
    return cv2.warpAffine(photo, matrix, (800, 600), flags=cv2.INTER_AREA, borderValue=(90, 90, 90))


def find(photo: np.ndarray) -> np.ndarray:
    """Landmarks as in a video that shows the photograph: the tracker needs a few frames to settle."""
    source = FaceView(crop_pixels=SIZE, margin=0.15, **FINDING).mesh.open_source()
    try:
        points = [source.find(photo) for _ in range(4)][-1]
    finally:
        source.close()
    assert points is not None
    return points


def test_a_turned_scaled_and_moved_face_gives_the_same_crop(astronaut: np.ndarray) -> None:
    """Found anew in each; pixels differ by a few of 255 on average, which is what the landmarks' own error moves."""
    view = FaceView(crop_pixels=SIZE, margin=0.15, **FINDING)
    upright = view.crop(astronaut, find(astronaut)).astype(float)
    assert upright.std() > 40
    for degrees, scale, shift in ((25, 1.0, (150, 100)), (-35, 0.8, (50, 160)), (10, 1.6, (200, 150))):
        image = warped(astronaut, degrees, scale, shift)
        found = view.crop(image, find(image)).astype(float)
        assert np.abs(found - upright).mean() < 10
        assert np.abs(found[:, ::-1] - upright).mean() > 12  # which a mirrored one is not


def test_the_photograph_stands_upright(astronaut: np.ndarray) -> None:
    """The eyes are darker than the cheeks below them, and lie where the template has them."""
    image = warped(astronaut, 40, 1.2, (200, 100))
    crop = FaceView(crop_pixels=256, margin=0.15, **FINDING).crop(image, find(image)).mean(axis=2)
    corners = {index: template(256, 0.15)[RIGID.index(index)] for index in (33, 133, 263, 362)}
    for outer, inner in ((33, 133), (263, 362)):
        x, y = (corners[outer] + corners[inner]) / 2
        eye = crop[round(y) - 6 : round(y) + 6, round(x) - 8 : round(x) + 8].mean()
        cheek = crop[round(y) + 34 : round(y) + 46, round(x) - 8 : round(x) + 8].mean()
        assert eye < cheek - 30


def test_frames_without_a_face_leave_a_gap(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    points = find(astronaut)
    broken = np.full((478, 3), np.nan)
    extractor = Thumbnails(batch_size=2)
    monkeypatch.setattr(extractor.view.mesh, "open_source", lambda: Scripted([points, None, broken, points, points]))
    stream = extractor.stream()
    for indices in ([0], [1], [2, 3], [4, 5], [6]):
        stream.push(astronaut, indices)
    found = stream.finish()
    assert found.times[:, 0].tolist() == pytest.approx([0.0, 0.8, 1.0, 1.2])
    assert extractor.batches == [2, 1]
    assert np.ptp(found.values, axis=0).max() == 0


def test_nobody(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Thumbnails()
    monkeypatch.setattr(extractor.view.mesh, "open_source", lambda: Scripted([None, None]))
    stream = extractor.stream()
    assert (len(stream.window(0.0, 1.0)[0]), stream.window(0.0, 1.0)[1]) == (0, "no frame could be sampled")
    stream.push(astronaut, [0, 1])
    stream.push(astronaut, [2])
    assert stream.window(0.0, 0.4)[1] == "no face found in 2 sampled frames"
    stream.forget(0.4)
    assert stream.window(0.0, 0.6)[1] == "no face found in 1 sampled frame"
    assert len(stream.finish()) == 0
    assert stream.missing_reason() == "no face found in 1 sampled frame"
    with pytest.raises(RuntimeError, match="this stream is finished"):
        stream.push(astronaut, [3])


def test_a_video_whole_in_windows_and_in_parts(face_video: object) -> None:
    """A face for one second, nobody for one, a face for one; whatever the batch, and whichever way it is cut."""

    def cut(batch_size: int, **span: float) -> FeatureSequence:
        return extractors.extract(face_video, {"vision": Thumbnails(batch_size)}, **span).sequences["vision"]  # type: ignore[arg-type]

    whole = cut(1)
    assert whole.times[:, 0].tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 2.0, 2.2, 2.4, 2.6, 2.8])
    assert np.array_equal(cut(7).values, whole.values)
    part = cut(3, start_seconds=2.0, end_seconds=3.0)
    assert np.array_equal(part.times, whole.times[5:])
    assert np.abs(part.values - whole.values[5:]).mean() < 3  # the tracker starts afresh
    windows = list(extractors.extract_windows(face_video, {"vision": Thumbnails()}, [(0, 1), (0.5, 2.3), (1, 2)]))  # type: ignore[arg-type]
    rows = [window.extraction.sequences["vision"] for window in windows]
    assert np.array_equal(rows[0].values, whole.values[:5])
    assert rows[1].times[:, 0].tolist() == pytest.approx([0.4, 0.6, 0.8, 2.0])
    assert windows[2].extraction.missing == {"vision": "no face found in 5 sampled frames"}


def test_the_spec_names_both_tools_and_all_that_changes_a_crop() -> None:
    spec = FaceView(crop_pixels=64, margin=0.2, **FINDING).spec("x", 3, {"pooling": "cls"}, {"model": "here"})
    assert spec.parameters == {
        "pooling": "cls", "crop_pixels": 64, "margin": 0.2, "frames_per_second": 5.0, "max_side_pixels": 1280,
        "min_detection_confidence": 0.5, "min_tracking_confidence": 0.5,
    }  # fmt: skip
    assert spec.hints == {"model": "here"}
    tools = [metadata.version(name) for name in ("transformers", "mediapipe")]
    assert spec.version == f"{tools[0]}+mediapipe.{tools[1]}.3"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"crop_pixels": 4, "margin": 0.1}, "crop_pixels must be a number from 16 to 2048, not 4"),
        ({"crop_pixels": 64, "margin": -1}, "margin must be a number from 0 to 2, not -1"),
        ({"crop_pixels": 64, "margin": 0.1, "frames_per_second": 0}, "frames_per_second must be a number from 0.1"),
    ],
)
def test_parameters_are_checked(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceView(**{**FINDING, **parameters})
