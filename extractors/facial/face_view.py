"""`FaceView`: the aligned crop of one face of every sampled frame, for whatever looks at faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream, check_range, make_spec
from extractors.facial.crop import crop_face
from extractors.facial.facemesh import SEVERAL, FaceMesh
from extractors.facial.faces_stream import Looks
from extractors.facial.landmarks import LandmarkSource
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.vision.per_frame import Describe, PerFrameStream


class FaceView:
    """How faces are found and cut out.

    Args:
        crop_pixels: width and height of a crop.
        margin: how much is shown above hairline and below chin, as a share of the distance between the two.
        finding: arguments of `FaceMesh` that say how faces are found: `frames_per_second`, `max_side_pixels`, `faces`,
            `min_detection_confidence`, `min_tracking_confidence`, `landmarker_path`, `landmarker_sha256`.

    Attributes:
        parameters: all of these that change a number, for a spec.
        hints: those that only help to find a file again.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: the landmarker's file is missing or is not the one the hash names.
    """

    def __init__(self, *, crop_pixels: int, margin: float, **finding: Any) -> None:
        check_range("crop_pixels", crop_pixels, 16, 2048)
        check_range("margin", margin, 0.0, 2.0)
        self._crop_pixels, self._margin = int(crop_pixels), float(margin)
        self.mesh = FaceMesh(landmarks="none", **finding)
        found = {key: value for key, value in self.mesh.spec.parameters.items() if key != "landmarks"}
        self.parameters: dict[str, Any] = {"crop_pixels": crop_pixels, "margin": margin, **found}
        self.hints = dict(self.mesh.spec.hints)

    def equip(self, extractor: VisionExtractor, names: tuple[str, ...]) -> None:
        """Set what an extractor that looks at crops must say of itself.

        Args:
            extractor: it.
            names: of the features of one crop.
        """
        mesh = self.mesh
        extractor.frames_per_second, extractor.max_side_pixels = mesh.frames_per_second, mesh.max_side_pixels
        extractor.listens_at_hz = mesh.listens_at_hz
        extractor.before_seconds, extractor.after_seconds = mesh.before_seconds, mesh.after_seconds
        extractor.names = mesh.named(names)

    def spec(
        self, name: str, definition: int, parameters: Mapping[str, Any], hints: Mapping[str, Any]
    ) -> ExtractorSpec:
        """The spec of an extractor that looks at crops with a model of transformers; its version names both tools."""
        made = make_spec(name, "transformers", definition, {**parameters, **self.parameters}, {**hints, **self.hints})
        release, _, own = made.version.partition("+")
        version = f"{release}+mediapipe.{metadata.version('mediapipe')}.{own}"
        return ExtractorSpec(made.name, made.tool, version, made.parameters, made.hints)

    def stream(self, extractor: VisionExtractor, describe: Describe, batch_size: int) -> VisionStream:
        """A fresh stream with a fresh tracker.

        Args:
            extractor: whose stream it is.
            describe: crops → `(N, D)`, each row a function of its own crop.
            batch_size: crops per call of `describe`.

        Raises:
            ToolError: MediaPipe or a system library that it needs is missing.
        """
        if self.mesh.faces in SEVERAL:
            return self.mesh.stream_of_several(extractor, Looks(self.crop, describe, batch_size))
        return _CropStream(self, self.mesh.open_source(), PerFrameStream(extractor, describe, batch_size))

    def crop(self, image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The crop of a face with these landmarks; see `extractors.facial.crop.crop_face`."""
        return crop_face(image, points, self._crop_pixels, self._margin)


class _CropStream(VisionStream):
    """Cuts out the face and passes it on; frames without one are passed over, which leaves a gap."""

    def __init__(self, view: FaceView, source: LandmarkSource, inner: PerFrameStream) -> None:
        self._view, self._inner = view, inner
        self._source: LandmarkSource | None = source
        self._seen: list[int] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`; a frame is looked at once, however long it is shown."""
        if self._source is None:
            raise RuntimeError("this stream is finished: ask the extractor for a fresh one")
        self._seen.extend(indices)
        points = self._source.find(image)
        if points is not None and np.isfinite(points).all():
            self._inner.push(self._view.crop(image, points), indices)

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self.close()
        return self._inner.finish()

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        found, _ = self._inner.window(start_seconds, end_seconds)
        if len(found):
            return found, ""
        first, after = (self._inner.index(at) for at in (start_seconds, min(end_seconds, 1e9)))
        return found, _reason(sum(first <= index < after for index in self._seen))

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._inner.forget(before_seconds)
        first = self._inner.index(before_seconds)
        del self._seen[: sum(index < first for index in self._seen)]

    def missing_reason(self) -> str:
        """No frame or no face."""
        return _reason(len(self._seen))

    def close(self) -> None:
        """Free the tracker."""
        if self._source is not None:
            self._source.close()
            self._source = None


def _reason(seen: int) -> str:
    return f"no face found in {seen} sampled frame{'' if seen == 1 else 's'}" if seen else "no frame could be sampled"
