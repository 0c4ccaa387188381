"""`TransformerFaceVideo`: what a pretrained video encoder makes of windows of a face, cut out and set upright."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream, check_range
from extractors.facial.face_choice import FaceChoice, Instant
from extractors.facial.face_tracks import GAP_SECONDS
from extractors.facial.face_view import FaceView
from extractors.facial.face_windows import FaceWindowStream
from extractors.facial.landmarks import LandmarkSource
from extractors.sequence import FeatureSequence, first_step
from extractors.vision.frame_windows import FrameWindowStream
from extractors.vision.video_encoder import VideoEncoder


class TransformerFaceVideo(VisionExtractor):
    """One step per window of aligned crops of a face: VideoMAE, TimeSformer, ViViT or V-JEPA 2.

    Landmarks, tracking and crops are those of `facial.transformers`; windows, preparation and pooling those of
    `vision.video_transformers`. A window gives a step if at least half of its frames show the face; where one does not,
    the last crop before it in the window stands in (at its beginning, the first crop there is). The step lasts as long
    as the window, also over frames without a face. With `faces="all"`, all this holds for each face on its own
    (`FaceWindowStream`): a window gives a step for everyone who is in half of its frames.

    Args:
        model: see `vision.video_transformers`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
        pooling: `"mean"`, `"cls"` or `"pooled"`; see `vision.video_transformers`.
        num_frames: in a window; None is the number that the model was made for.
        hop_frames: from the start of one window to that of the next; None is half a window.
        crop_pixels: width and height of a crop.
        margin: how much is shown above hairline and below chin, as a share of the distance between the two.
        frames_per_second: how many frames per second of media are looked at.
        max_side_pixels: frames are scaled down to fit before the face is looked for and cut out.
        faces: which of several: `"first"`, `"largest"`, `"speaking"` or `"all"`, see `FaceMesh`. With `"speaking"`, a
            window shows in each of its frames whoever speaks then; with `"all"`, the same face in all of them.
        min_detection_confidence: below this a detection is no face.
        min_tracking_confidence: see `FaceMesh`.
        landmarker_path: a `face_landmarker.task` file, see `FaceMesh`.
        landmarker_sha256: what the hash of that file must be; filled in when left out.
        batch_size: windows per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers is missing; the model cannot be had or is no video encoder; or a file is not the one its
            hash names.
    """

    REGISTRY_NAME = "facial.video_transformers"
    DEFINITION = 1
    rolling = True
    uses_gpu = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        pooling: str = "mean",
        num_frames: int | None = None,
        hop_frames: int | None = None,
        crop_pixels: int = 224,
        margin: float = 0.15,
        frames_per_second: float = 8.0,
        max_side_pixels: int = 1280,
        faces: str = "largest",
        min_detection_confidence: float = 0.5,
        min_tracking_confidence: float = 0.5,
        landmarker_path: str | None = None,
        landmarker_sha256: str | None = None,
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        check_range("batch_size", batch_size, 1, 4096)
        self._view = FaceView(
            crop_pixels=crop_pixels,
            margin=margin,
            frames_per_second=frames_per_second,
            max_side_pixels=max_side_pixels,
            faces=faces,
            min_detection_confidence=min_detection_confidence,
            min_tracking_confidence=min_tracking_confidence,
            landmarker_path=landmarker_path,
            landmarker_sha256=landmarker_sha256,
        )
        self._encoder = VideoEncoder(
            model=model,
            revision=revision,
            weights_sha256=weights_sha256,
            pooling=pooling,
            num_frames=num_frames,
            hop_frames=hop_frames,
            device=device,
        )
        self._batch_size = int(batch_size)
        self._view.equip(self, self._encoder.names)
        if faces == "all":  # who is who at a window's beginning follows from what was seen before
            self.before_seconds += GAP_SECONDS
        self._reach = self._encoder.windows.context_seconds(self._view.mesh.steps_per_second)
        self.before_seconds, self.after_seconds = self.before_seconds + self._reach, self.after_seconds + self._reach
        self.spec = self._view.spec(self.REGISTRY_NAME, self.DEFINITION, self._encoder.parameters, self._encoder.hints)

    def load(self) -> None:
        """See `Extractor.load`."""
        self._encoder.load()

    def stream(self) -> VisionStream:
        """A fresh stream with a fresh tracker; the first one loads the model.

        Raises:
            ToolError: see `VideoEncoder.load`; or MediaPipe or a system library that it needs is missing.
        """
        self.load()
        encoder, mesh = self._encoder, self._view.mesh
        if mesh.faces == "all":
            choice = mesh.choose_faces(self._prepared)
            return FaceWindowStream(self, choice, encoder.windows, encoder.encode, self._batch_size)
        inner = FrameWindowStream(
            self,
            encoder.windows,
            encoder.prepare,
            encoder.encode,
            self._batch_size,
            "face",
            mesh.steps_per_second,
        )
        if mesh.faces == "speaking":
            return _SpeakerWindows(mesh.choose_faces(self._view.crop), inner, mesh.steps_per_second, self._reach)
        return _CropWindows(self._view, mesh.open_source(), inner)

    def _prepared(self, image: NDArray[np.uint8], points: NDArray[np.float64]) -> Any:
        return self._encoder.prepare(self._view.crop(image, points))


class _FaceWindows(VisionStream):
    """Passes crops on to the windows."""

    def __init__(self, inner: FrameWindowStream) -> None:
        self._inner = inner

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self.close()
        return self._inner.finish()

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        return self._inner.window(start_seconds, end_seconds)

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._inner.forget(before_seconds)

    def missing_reason(self) -> str:
        """See `VisionStream.missing_reason`."""
        return self._inner.missing_reason()


class _CropWindows(_FaceWindows):
    """Cuts out the one face; windows are told of frames without it."""

    def __init__(self, view: FaceView, source: LandmarkSource, inner: FrameWindowStream) -> None:
        super().__init__(inner)
        self._view = view
        self._source: LandmarkSource | None = source

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`; a frame is looked at once, however long it is shown."""
        if self._source is None:
            raise RuntimeError("this stream is finished: ask the extractor for a fresh one")
        points = self._source.find(image)
        if points is not None and np.isfinite(points).all():
            self._inner.push(self._view.crop(image, points), indices)
        else:
            self._inner.skip(indices)

    def close(self) -> None:
        """Free the tracker."""
        if self._source is not None:
            self._source.close()
            self._source = None


class _SpeakerWindows(_FaceWindows):
    """Passes on the crops of whoever speaks, as soon as that is decided.

    Args:
        choice: keeps a face's crop.
        inner: the windows.
        steps_per_second: of the choice.
        reach: how many seconds of faces after a stretch of time bear on its windows.
    """

    def __init__(self, choice: FaceChoice, inner: FrameWindowStream, steps_per_second: float, reach: float) -> None:
        super().__init__(inner)
        self._choice, self._rate, self._reach = choice, steps_per_second, reach

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`; a frame is looked at once, however long it is shown."""
        self._pass_on(self._choice.push(image, indices))

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        self._pass_on(self._choice.listen(samples, first_sample))

    def no_more_sound(self) -> None:
        """See `VisionStream.no_more_sound`."""
        self._pass_on(self._choice.no_more_sound())

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self._pass_on(self._choice.decide())
        return super().finish()

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        self._pass_on(self._choice.decide(self._step(end_seconds + self._reach)))
        return super().window(start_seconds, end_seconds)

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._choice.forget(self._step(before_seconds))
        super().forget(before_seconds)

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """How often the speaker could not be told."""
        return self._choice.notes(self._step(start_seconds), self._step(end_seconds))

    def close(self) -> None:
        """Free the tools."""
        self._choice.close()

    def _pass_on(self, decided: Iterable[Instant]) -> None:
        for instant in decided:
            for face in instant.faces:
                self._inner.push(face.kept, [instant.step])
            if not instant.faces:
                self._inner.skip([instant.step])

    def _step(self, seconds: float) -> int:
        return first_step(min(seconds, 1e9), self._rate)
