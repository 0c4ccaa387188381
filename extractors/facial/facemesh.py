"""`FaceMesh`: expression, head pose and landmarks of the face by MediaPipe."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream, check_range, make_spec
from extractors.errors import ToolError
from extractors.facial.blendshapes import BLENDSHAPE_NAMES, has_blendshapes
from extractors.facial.canonical import LANDMARK_COUNT
from extractors.facial.expression import EXPRESSION_NAMES, expression
from extractors.facial.face_choice import FaceChoice, Look
from extractors.facial.faces_stream import TRACK, FacesStream, Looks
from extractors.facial.head_pose import frontal, head_angles
from extractors.facial.landmarks import (
    LandmarkSource,
    TaskSource,
    open_face_landmarker,
    open_face_mesh,
    open_several_faces,
)
from extractors.facial.speaker import AFTER_SECONDS, BEFORE_SECONDS
from extractors.facial.speech_energy import RATE_HZ
from extractors.sequence import FeatureSequence, first_step

_POSE_NAMES = ("yaw_degrees", "pitch_degrees", "roll_degrees", "face_x", "face_y", "face_size")
# Brows, lids, mouth, nose wings, cheeks and jaw: what moves.
_COMPACT = (
    *(70, 105, 107, 336, 334, 300),
    *(159, 145, 386, 374),
    *(61, 291, 0, 17, 13, 14, 37, 267, 84, 314),
    *(129, 358, 205, 425, 152, 172, 397),
)
_SUBSETS = ("compact", "all", "none")
WHICH = ("first", "largest", "speaking", "all")
"""Which of several faces count: values of the parameter `faces`."""

SEVERAL = ("speaking", "all")
"""Those for which every face is followed."""

# Lips open and close up to 7 times a second: a speaker is told from frames this close, whatever steps are asked for.
_LIPS_PER_SECOND = 10.0
_TRACKING_CONFIDENCE = 0.5
_TOGETHER = 32


class FaceMesh(VisionExtractor):
    """What one face does: one step per sampled frame in which a face is found.

    - **Head pose**: yaw, pitch, roll (`extractors.facial.head_pose`); position of the face relative to the
      frame's middle and its size, in longer frame sides.
    - **Expression**: 24 measures (`extractors.facial.expression`), 0 on a neutral face, free of pose and size.
    - **Landmarks**: with pose, position and size taken out; x to the image's right and y up, in distances between
      the outer eye corners. `landmarks="compact"` keeps 27 that expressions move, x and y; `"all"` keeps the 478
      with depth; `"none"` keeps none.

    Of several faces, `faces="first"` takes the one that MediaPipe is surest of and stays with it until it is lost.
    `faces="largest"` looks for all in every frame and follows the largest, see `LargestFace`: another one takes over
    only when it is a quarter larger. `faces="speaking"` follows all (`FaceTracks`) and takes the one whose lips move
    with the clip's sound (`SpeakerChoice`); where that cannot be told, the largest stands in, with a note. Frames are
    then sampled at 10 a second or more, however many steps are asked for. `faces="all"` gives a step for every face of
    a frame: equal times, ordered by track, with the feature `track` at the end (`FacesStream`).

    Frames without a face give no step. Tracking starts afresh with each clip, so a clip's features do not depend
    on what was processed before.

    With `landmarker_path` the landmarks come from MediaPipe Tasks' `FaceLandmarker` instead of FaceMesh: same
    indices, slightly different numbers, and only faces that fill a good part of the frame. Where the file holds the
    model for them, as Google's does, its 52 **blendshapes** follow (`BLENDSHAPE_NAMES`): scores from 0 to 1 under
    MediaPipe's names, which are ARKit's and `_neutral`.

    Args:
        frames_per_second: how many frames per second of media are looked at.
        max_side_pixels: frames are scaled down to fit.
        landmarks: `"compact"`, `"all"` or `"none"`.
        faces: `"first"`, `"largest"`, `"speaking"` or `"all"`.
        min_detection_confidence: below this a detection is no face.
        min_tracking_confidence: below this a tracked face counts as lost and is searched for again; for `"first"` and
            `"largest"`, as the others find faces anew in every frame.
        landmarker_path: a `face_landmarker.task` file.
        landmarker_sha256: what the hash of that file must be; filled in when left out.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: the `.task` file is missing or is not the one the hash names.

    Example:
        >>> len(FaceMesh().names)
        84
    """

    REGISTRY_NAME = "facial.facemesh"
    DEFINITION = 1
    rolling = True

    def __init__(
        self,
        *,
        frames_per_second: float = 10.0,
        max_side_pixels: int = 1280,
        landmarks: str = "compact",
        faces: str = "first",
        min_detection_confidence: float = 0.5,
        min_tracking_confidence: float = _TRACKING_CONFIDENCE,
        landmarker_path: str | None = None,
        landmarker_sha256: str | None = None,
    ) -> None:
        check_range("frames_per_second", frames_per_second, 0.1, 120.0)
        check_range("max_side_pixels", max_side_pixels, 64, 8192)
        check_range("min_detection_confidence", min_detection_confidence, 0.0, 1.0)
        check_range("min_tracking_confidence", min_tracking_confidence, 0.0, 1.0)
        if landmarks not in _SUBSETS:
            raise ValueError(f"landmarks must be one of {_SUBSETS}, not {landmarks!r}")
        if faces not in WHICH:
            raise ValueError(f"faces must be one of {WHICH}, not {faces!r}")
        if faces in SEVERAL and min_tracking_confidence != _TRACKING_CONFIDENCE:
            raise ValueError(f"min_tracking_confidence has no effect with faces={faces!r}: leave it out")
        self.faces = faces
        self._every = max(1, math.ceil(_LIPS_PER_SECOND / frames_per_second)) if faces == "speaking" else 1
        self.frames_per_second, self.max_side_pixels = float(frames_per_second * self._every), int(max_side_pixels)
        if faces == "speaking":
            self.listens_at_hz = RATE_HZ
            self.before_seconds, self.after_seconds = BEFORE_SECONDS, AFTER_SECONDS
        self._confidences = (float(min_detection_confidence), float(min_tracking_confidence))
        self._subset = landmarks
        self._task = None if landmarker_path is None else _checked_task(Path(landmarker_path), landmarker_sha256)
        self._shapes = self._task is not None and has_blendshapes(self._task[0])
        own = (
            *_POSE_NAMES,
            *EXPRESSION_NAMES,
            *_landmark_names(landmarks),
            *(BLENDSHAPE_NAMES if self._shapes else ()),
        )
        self.names = self.named(own)
        parameters: dict[str, Any] = {
            "frames_per_second": frames_per_second,
            "max_side_pixels": max_side_pixels,
            "landmarks": landmarks,
            "min_detection_confidence": min_detection_confidence,
            "min_tracking_confidence": min_tracking_confidence,
        }
        if faces != "first" and self._task is not None:
            raise ValueError(
                f"faces={faces!r} needs FaceMesh and its detector, which a landmarker_path replaces: set "
                "faces='first', or leave landmarker_path out"
            )
        if faces != "first":  # features of before there was a choice keep their fingerprint
            parameters["faces"] = faces
        hints = {}
        if self._task is not None:
            parameters["landmarker_sha256"] = self._task[1]
            hints["landmarker_path"] = str(landmarker_path)
        self.spec = make_spec(self.REGISTRY_NAME, "mediapipe", self.DEFINITION + self._shapes, parameters, hints)

    def stream(self) -> VisionStream:
        """A fresh stream with a fresh tracker.

        Raises:
            ToolError: MediaPipe or a system library that it needs is missing.
        """
        if self.faces in SEVERAL:
            return self.stream_of_several(self, Looks(self._keep, np.stack, 1))
        source = self.open_source(blendshapes=True) if self._shapes else self.open_source()
        return _FaceStream(self, source)

    def stream_of_several(self, extractor: VisionExtractor, looks: Looks, *, every: int | None = None) -> FacesStream:
        """A fresh stream that follows all faces, where `faces` is one of `SEVERAL`.

        Args:
            extractor: whose stream it is.
            looks: what is made of a face.
            every: a step for each so many frames; None is what `frames_per_second` asks for.

        Raises:
            ToolError: MediaPipe or a system library that it needs is missing.
        """
        return FacesStream(extractor, self.choose_faces(looks.keep, every=every), looks)

    def choose_faces(self, keep: Look, *, every: int | None = None) -> FaceChoice:
        """A fresh choice of who counts, where `faces` is one of `SEVERAL`.

        Args:
            keep: what is kept of a face.
            every: see `stream_of_several`.

        Raises:
            ToolError: MediaPipe or a system library that it needs is missing.
        """
        source, speaking = open_several_faces(self._confidences[0]), self.faces == "speaking"
        return FaceChoice(self.frames_per_second, source, keep, speaking=speaking, every=every or self._every)

    @property
    def steps_per_second(self) -> float:
        """What was asked for as `frames_per_second`, though more frames may be looked at."""
        return self.frames_per_second / self._every

    def named(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the features of a sequence, given those of what is made of one face."""
        return (*names, TRACK) if self.faces == "all" else names

    def _keep(self, image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.float32]:
        height, width = image.shape[:2]
        return self.describe(points, width, height)

    def open_source(self, *, blendshapes: bool = False) -> LandmarkSource:
        """A fresh tracker as `stream` uses it, for those who want the landmarks themselves.

        Args:
            blendshapes: whether it scores them too; only with a file that has them.

        Raises:
            ValueError: `faces` is one of `SEVERAL`: see `stream_of_several`.
            ToolError: MediaPipe or a system library that it needs is missing.
        """
        if self.faces in SEVERAL:
            raise ValueError(f"faces={self.faces!r} follows several faces: use stream_of_several")
        if self._task is not None:
            rate = self.frames_per_second
            return open_face_landmarker(self._task[0], *self._confidences, rate, blendshapes=blendshapes)
        return open_face_mesh(*self._confidences, largest=self.faces == "largest")

    def describe(self, points: NDArray[np.float64], width: int, height: int) -> NDArray[np.float32]:
        """Features of a face, or of many in frames of one size.

        Args:
            points: `(..., 478, 3)` landmarks in pixels: x right, y down, z away from the camera.
            width: width of the whole frame in pixels.
            height: height of the whole frame in pixels.

        Returns:
            `(..., D)`, without `track` and without blendshapes; a face's are the same whatever others are with it.
        """
        face = frontal(points)
        side = max(width, height)
        place = (face.centre_pixels - (width / 2, height / 2)) / side * (1.0, -1.0)
        parts = [
            head_angles(points, width, height),
            place,
            face.scale_pixels[..., None] / side,
            expression(face.points),
        ]
        if self._subset == "compact":
            parts.append(face.points[..., list(_COMPACT), :2].reshape(*points.shape[:-2], -1))
        elif self._subset == "all":
            parts.append(face.points.reshape(*points.shape[:-2], -1))
        return np.asarray(np.concatenate(parts, axis=-1), np.float32)


class _FaceStream(VisionStream):
    """Faces are described many at once: one by one, that takes a tenth of the time that finding them takes."""

    def __init__(self, extractor: FaceMesh, source: LandmarkSource) -> None:
        self._extractor = extractor
        self._source: LandmarkSource | None = source
        self._rows: list[NDArray[np.float32]] = []
        self._indices: list[int] = []
        self._seen: list[int] = []
        self._size = (0, 0)
        self._faces: list[NDArray[np.float64]] = []  # found, and not described yet
        self._shapes: list[NDArray[np.float32]] = []
        self._shown: list[int] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """Look for a face once, however long the frame is shown."""
        if self._source is None:
            raise RuntimeError("this stream is finished: ask the extractor for a fresh one")
        self._seen.extend(indices)
        points = self._source.find(image)
        if points is None or not np.isfinite(points).all():
            return
        height, width = image.shape[:2]
        if self._size != (width, height) or len(self._faces) >= _TOGETHER:
            self._describe()
            self._size = (width, height)
        self._faces.append(points)
        if isinstance(self._source, TaskSource) and self._source.blendshapes is not None:
            self._shapes.append(self._source.blendshapes)
        self._shown.append(len(indices))
        self._indices.extend(indices)

    def _describe(self) -> None:
        if not self._faces:
            return
        rows = self._extractor.describe(np.stack(self._faces), *self._size)
        if self._shapes:
            rows = np.concatenate([rows, np.stack(self._shapes)], axis=1)
        for row, times in zip(rows, self._shown, strict=True):
            self._rows.extend([row.copy()] * times)
        self._faces, self._shapes, self._shown = [], [], []

    def finish(self) -> FeatureSequence:
        """One step per sampled frame with a face; step `k` lasts one sampling period from `k / fps`."""
        self.close()
        self._describe()
        if not self._rows:
            return self._extractor.empty()
        return self._sequence(self._rows, self._indices)

    def _sequence(self, rows: Sequence[NDArray[np.float32]], indices: Sequence[int]) -> FeatureSequence:
        start = np.array(indices, np.float64)
        times = np.stack([start, start + 1.0], axis=1) / self._extractor.frames_per_second
        return FeatureSequence(np.stack(rows), times, self._extractor.names)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        self._describe()
        rate = self._extractor.frames_per_second
        first, after = (first_step(at, rate) for at in (start_seconds, min(end_seconds, 1e9)))
        mine = [i for i, index in enumerate(self._indices) if first <= index < after]
        if not mine:
            seen = sum(first <= index < after for index in self._seen)
            reason = f"no face found in {seen} sampled frame{'' if seen == 1 else 's'}"
            return self._extractor.empty(), reason if seen else "no frame could be sampled"
        return self._sequence([self._rows[i] for i in mine], [self._indices[i] for i in mine]), ""

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._describe()
        first = first_step(before_seconds, self._extractor.frames_per_second)
        old = sum(index < first for index in self._indices)
        del self._rows[:old], self._indices[:old]
        del self._seen[: sum(index < first for index in self._seen)]

    def missing_reason(self) -> str:
        """No frame or no face."""
        if not self._seen:
            return "no frame could be sampled"
        return f"no face found in {len(self._seen)} sampled frame{'s' if len(self._seen) > 1 else ''}"

    def close(self) -> None:
        """Free the tracker."""
        if self._source is not None:
            self._source.close()
            self._source = None


def _landmark_names(subset: str) -> tuple[str, ...]:
    if subset == "compact":
        return tuple(f"landmark_{i}_{axis}" for i in _COMPACT for axis in "xy")
    if subset == "all":
        return tuple(f"landmark_{i}_{axis}" for i in range(LANDMARK_COUNT) for axis in "xyz")
    return ()


def _checked_task(path: Path, expected_sha256: str | None) -> tuple[Path, str]:
    if not path.is_file():
        raise ToolError(
            f"landmarker_path={str(path)!r}: no such file; download MediaPipe's face_landmarker.task and give its path"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if expected_sha256 is not None and found != expected_sha256:
        raise ToolError(
            f"{path} has the SHA-256 {found}, but {expected_sha256} is required: give the file that the "
            "features were made with"
        )
    return path, found
