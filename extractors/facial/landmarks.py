"""Finding the 478 landmarks of one face in a frame: the most prominent one, or the largest of several."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extractors.errors import ToolError
from extractors.facial.blendshapes import scores
from extractors.facial.canonical import LANDMARK_COUNT
from extractors.facial.graph import Graph
from extractors.facial.largest_face import FACES, Box, LargestSource
from extractors.facial.quiet import quiet_native
from extractors.facial.several_faces import VIEW_FACTOR, SeveralFaces
from extractors.loading import load_late, without_collecting

# A face found at a distance is looked at through a square this many times its size, so that it can move about.
_VIEW_FACTOR = 3.0


class LandmarkSource(Protocol):
    """Anything that finds landmarks; fed the frames of one clip in order."""

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Landmarks in a `(H, W, 3)` RGB frame: `(478, 3)` pixels (x right, y down, z away), None without a face."""
        ...

    def close(self) -> None:
        """Free what the source holds."""
        ...


# A landmark with three coordinates as protobuf writes it: a tag and the length 15, then each as a tag and a float.
_WRITTEN = np.dtype(
    [("head", "S2"), ("x_tag", "u1"), ("x", "<f4"), ("y_tag", "u1"), ("y", "<f4"), ("z_tag", "u1"), ("z", "<f4")]
)
_TAGS = (b"\x0a\x0f", 0x0D, 0x15, 0x1D)


def coordinates(written: bytes) -> NDArray[np.float64]:
    """x, y and z of MediaPipe's `NormalizedLandmarkList`, as protobuf writes it: `(N, 3)`.

    Read as they lie, in a hundredth of the time that building a message and asking each landmark for each takes, which
    is a quarter of what finding them takes.
    """
    if not len(written) % _WRITTEN.itemsize:
        rows = np.frombuffer(written, _WRITTEN)
        tags = (rows["head"], rows["x_tag"], rows["y_tag"], rows["z_tag"])
        if all((own == tag).all() for own, tag in zip(tags, _TAGS, strict=True)):
            return np.asarray(np.stack([rows[axis] for axis in "xyz"], axis=1), np.float64)
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmarkList

    face = NormalizedLandmarkList.FromString(written)
    return np.array([(point.x, point.y, point.z) for point in face.landmark], np.float64)


def to_pixels(landmarks: Sequence[Any], view: Box) -> NDArray[np.float64]:
    """From a tool's normalised landmarks in a view to pixels of the whole frame; depth is in the scale of x.

    Args:
        landmarks: `(N, 3)`, or objects with x, y and z.
        view: where in the frame they were found.
    """
    left, top, right, bottom = view
    points = np.asarray(
        landmarks if isinstance(landmarks, np.ndarray) else [(point.x, point.y, point.z) for point in landmarks],
        np.float64,
    )
    width = right - left
    return points * (width, bottom - top, width) + (left, top, 0.0)


class ViewedSource:
    """Finds a face through a view that follows it.

    The mesh's own detector is made for faces that fill a good part of the frame and misses a person who sits further
    off. Where it finds none, a second detector looks over the whole frame; the mesh is then fed a square
    around that face, and stays with it until the face is lost.
    """

    def __init__(
        self,
        mesh: Callable[[NDArray[np.uint8]], Sequence[Any] | None],
        detect: Callable[[NDArray[np.uint8]], Box | None],
        release: Callable[[], None],
    ) -> None:
        """Join the tools.

        Args:
            mesh: normalised landmarks in an image, or None; may track from call to call.
            detect: box of the most certain face in an image, or None.
            release: frees both.
        """
        self._mesh, self._detect, self._release = mesh, detect, release
        self._view: Box | None = None
        self._size: tuple[int, int] | None = None

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """See `LandmarkSource.find`."""
        height, width = image.shape[:2]
        if self._size != (height, width):
            self._view, self._size = None, (height, width)
        points = self._through(image, self._view or (0, 0, width, height))
        if points is not None:
            return points
        found = self._detect(image)
        self._view = None if found is None else _square_around(found, width, height)
        return None if self._view is None else self._through(image, self._view)

    def close(self) -> None:
        """Free both tools."""
        self._release()

    def _through(self, image: NDArray[np.uint8], view: Box) -> NDArray[np.float64] | None:
        left, top, right, bottom = view
        found = self._mesh(np.ascontiguousarray(image[top:bottom, left:right]))
        if found is None or len(found) != LANDMARK_COUNT:
            return None
        return to_pixels(found, view)


def _square_around(box: Box, width: int, height: int, factor: float = _VIEW_FACTOR) -> Box:
    """A square around a face, moved (or, where the frame is too small, cut) to lie inside the frame."""
    left, top, right, bottom = box
    side = max(8, round(factor * max(right - left, bottom - top)))
    x = min(max(0, (left + right - side) // 2), max(0, width - side))
    y = min(max(0, (top + bottom - side) // 2), max(0, height - side))
    return x, y, min(width, x + side), min(height, y + side)


def open_face_mesh(
    min_detection_confidence: float, min_tracking_confidence: float, *, largest: bool = False
) -> LandmarkSource:
    """MediaPipe's FaceMesh with refined lips and irises, and its full-range face detector.

    Args:
        min_detection_confidence: below this a detection is no face.
        min_tracking_confidence: below this a tracked face counts as lost.
        largest: look for all faces in every frame and follow the largest, instead of the first that is found.

    Raises:
        ToolError: MediaPipe or a system library that it needs is missing, or the wheel no longer carries FaceMesh.
    """
    tools = _Tools(
        min_detection_confidence,
        max_num_faces=FACES if largest else 1,
        min_tracking_confidence=min_tracking_confidence,
    )

    def find_mesh(image: NDArray[np.uint8]) -> Sequence[Any] | None:
        return next(iter(tools.meshes(image)), None)

    if largest:
        return LargestSource(tools.meshes, tools.boxes, _square_around, to_pixels, tools.release)
    return ViewedSource(find_mesh, tools.surest_box, tools.release)


def open_several_faces(min_detection_confidence: float) -> SeveralFaces:
    """MediaPipe's FaceMesh and its full-range face detector for all faces of a frame, each frame on its own.

    Args:
        min_detection_confidence: below this a detection is no face.

    Raises:
        ToolError: MediaPipe or a system library that it needs is missing, or the wheel no longer carries FaceMesh.
    """
    tools = _Tools(min_detection_confidence, max_num_faces=FACES, static_image_mode=True)
    square = partial(_square_around, factor=VIEW_FACTOR)
    return SeveralFaces(tools.meshes, tools.boxes, square, to_pixels, tools.release)


class _Tools:
    """FaceMesh and, from when it is first asked, the full-range detector."""

    def __init__(self, min_detection_confidence: float, **options: Any) -> None:
        with quiet_native():
            self._solutions = _import_solutions()
            self._mesh = Graph(
                self._solutions.face_mesh.FaceMesh,
                refine_landmarks=True,
                min_detection_confidence=min_detection_confidence,
                **options,
            )
            self._mesh.find(np.zeros((64, 64, 3), np.uint8))
        self._confidence = min_detection_confidence
        self._detector: Graph | None = None
        self._ran = False

    def meshes(self, image: NDArray[np.uint8]) -> Sequence[Any]:
        """Normalised landmarks of each face, `(478, 3)`."""
        # The graph writes to the error stream when it first runs to its end, on the first face.
        with nullcontext() if self._ran else quiet_native():
            faces = self._mesh.find(image)
        self._ran = self._ran or bool(faces)
        return [coordinates(face) for face in faces]

    def boxes(self, image: NDArray[np.uint8]) -> Sequence[Box]:
        """Of all faces that the detector finds."""
        return [_box(one, image) for one in self._detections(image)]

    def surest_box(self, image: NDArray[np.uint8]) -> Box | None:
        """Of the face that the detector is most certain of."""
        best = max(self._detections(image), key=lambda one: one.score[0], default=None)
        return None if best is None else _box(best, image)

    def release(self) -> None:
        """Free both."""
        for tool in (self._mesh, self._detector):
            if tool is not None:
                tool.close()

    def _detections(self, image: NDArray[np.uint8]) -> Sequence[Any]:
        from mediapipe.framework.formats.detection_pb2 import Detection

        if self._detector is None:
            with quiet_native():
                solution = self._solutions.face_detection.FaceDetection
                options = {"min_detection_confidence": self._confidence, "model_selection": 1}
                self._detector = Graph(solution, **options)
                self._detector.find(np.zeros((64, 64, 3), np.uint8))
        return [Detection.FromString(one) for one in self._detector.find(image)]


def _box(detection: Any, image: NDArray[np.uint8]) -> Box:
    box = detection.location_data.relative_bounding_box
    height, width = image.shape[:2]
    left, top = round(box.xmin * width), round(box.ymin * height)
    return left, top, left + round(box.width * width), top + round(box.height * height)


class TaskSource:
    """MediaPipe Tasks' `FaceLandmarker`, which has the same 478 landmarks; for builds without FaceMesh.

    Args:
        landmarker: a `FaceLandmarker` in video mode.
        make_image: turns an RGB array into the image it takes.
        step_milliseconds: time between frames.

    Attributes:
        blendshapes: `(52,)` scores of the face that was found last; None where the landmarker gives none.
    """

    def __init__(self, landmarker: Any, make_image: Callable[[NDArray[np.uint8]], Any], step_milliseconds: int) -> None:
        self._landmarker, self._make_image, self._step = landmarker, make_image, step_milliseconds
        self._clock = 0
        self.blendshapes: NDArray[np.float32] | None = None

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """See `LandmarkSource.find`."""
        self._clock += self._step
        found = self._landmarker.detect_for_video(self._make_image(image), self._clock)
        faces = found.face_landmarks
        if not faces or len(faces[0]) != LANDMARK_COUNT:
            return None
        self.blendshapes = scores(found.face_blendshapes[0]) if found.face_blendshapes else None
        height, width = image.shape[:2]
        return to_pixels(faces[0], (0, 0, width, height))

    def close(self) -> None:
        """Free the landmarker."""
        self._landmarker.close()


def open_face_landmarker(
    path: Path,
    min_detection_confidence: float,
    min_tracking_confidence: float,
    frames_per_second: float,
    *,
    blendshapes: bool = False,
) -> TaskSource:
    """MediaPipe Tasks' `FaceLandmarker` from a `.task` file; with `blendshapes`, their scores too.

    Raises:
        ToolError: MediaPipe is missing, or the file cannot be loaded.
    """
    with quiet_native(), _explained():
        mediapipe = _import_mediapipe()
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=path.read_bytes()),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=1,
            min_face_detection_confidence=min_detection_confidence,
            min_tracking_confidence=min_tracking_confidence,
            output_face_blendshapes=blendshapes,
        )
        try:
            landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ToolError(
                f"{path} is not a face landmarker that MediaPipe can load ({error}); give a face_landmarker.task file"
            ) from error

    def make_image(image: NDArray[np.uint8]) -> Any:
        return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)

    return TaskSource(landmarker, make_image, max(1, round(1000 / frames_per_second)))


def _import_solutions() -> Any:
    mediapipe = _import_mediapipe()
    solutions = getattr(mediapipe, "solutions", None)
    if solutions is None or not hasattr(solutions, "face_mesh"):
        raise ToolError(
            f"MediaPipe {mediapipe.__version__} no longer carries FaceMesh: install mediapipe==0.10.21, "
            "or download face_landmarker.task and give its path as landmarker_path"
        )
    return solutions


def _import_mediapipe() -> Any:
    with _explained(), without_collecting():
        load_late("matplotlib.pyplot")
        import mediapipe

        return mediapipe


class _explained:  # noqa: N801 - reads as the statement it is
    """Turns an ImportError into a `ToolError` that says what to install."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ImportError):
            raise ToolError(explain_import(str(error))) from error


def explain_import(message: str) -> str:
    """What to do about a failed import of MediaPipe or OpenCV."""
    library = re.search(r"lib(?:GL|EGL|GLESv2|gthread-2\.0|glib-2\.0)\.so[.\d]*", message)
    if library:
        return (
            f"OpenCV needs the system library {library.group(0)}, which is missing: on Debian or Ubuntu run "
            "`apt-get install -y libgl1 libglib2.0-0`"
        )
    return f"MediaPipe cannot be imported ({message}): install mediapipe==0.10.21"
