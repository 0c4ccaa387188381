"""`TransformerFace`: what a pretrained image encoder makes of the face, cut out and set upright."""

from __future__ import annotations

from extractors import pretrained
from extractors.base import VisionExtractor, VisionStream, check_range
from extractors.facial.face_view import FaceView
from extractors.vision.transformer import POOLINGS, ImageEncoder, encoder_width


class TransformerFace(VisionExtractor):
    """One step per sampled frame in which a face is found: any image encoder on the aligned crop of that face.

    Landmarks come from FaceMesh, tracked through the clip and started afresh with each; turn, size and place of the
    face are taken out by a similarity (`extractors.facial.crop`); the crop then goes through the encoder like a picture
    in `vision.transformers`, in batches. Frames without a face give no step.

    Args:
        model: see `vision.transformers`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
        pooling: `"cls"`, `"mean"` or `"pooled"`; see `vision.transformers`.
        crop_pixels: width and height of a crop.
        margin: how much is shown above hairline and below chin, as a share of the distance between the two.
        frames_per_second: how many frames per second of media are looked at.
        max_side_pixels: frames are scaled down to fit before the face is looked for and cut out.
        faces: which of several: `"first"`, `"largest"`, `"speaking"` or `"all"`, see `FaceMesh`.
        min_detection_confidence: below this a detection is no face.
        min_tracking_confidence: see `FaceMesh`.
        landmarker_path: a `face_landmarker.task` file, see `FaceMesh`.
        landmarker_sha256: what the hash of that file must be; filled in when left out.
        batch_size: crops per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers is missing; the model cannot be had or is no image encoder; or a file is not the one its
            hash names.
    """

    REGISTRY_NAME = "facial.transformers"
    DEFINITION = 1
    uses_gpu = True
    rolling = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        pooling: str = "cls",
        crop_pixels: int = 224,
        margin: float = 0.15,
        frames_per_second: float = 5.0,
        max_side_pixels: int = 1280,
        faces: str = "largest",
        min_detection_confidence: float = 0.5,
        min_tracking_confidence: float = 0.5,
        landmarker_path: str | None = None,
        landmarker_sha256: str | None = None,
        batch_size: int = 16,
        device: str = "auto",
    ) -> None:
        check_range("batch_size", batch_size, 1, 4096)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, not {pooling!r}")
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
        self._pooling, self._batch_size, self._device = pooling, int(batch_size), device
        found = pretrained.find(model, revision, weights_sha256)
        self._source = found.source
        self._encoder: ImageEncoder | None = None
        self._width = encoder_width(found.config, model)
        self._view.equip(self, tuple(f"hidden_{i}" for i in range(self._width)))
        parameters = {**found.identity, "pooling": pooling}
        self.spec = self._view.spec(self.REGISTRY_NAME, self.DEFINITION, parameters, found.hints)

    def load(self) -> None:
        """See `Extractor.load`."""
        if self._encoder is None:
            encoder = ImageEncoder(self._source, self._pooling, self._device)
            encoder.check(self._width)
            self._encoder = encoder

    def stream(self) -> VisionStream:
        """A fresh stream with a fresh tracker; the first one loads the model.

        Raises:
            ToolError: the weights or the image processor cannot be had, the model has not what `pooling` asks for, or
                MediaPipe or a system library that it needs is missing.
        """
        self.load()
        assert self._encoder is not None
        return self._view.stream(self, self._encoder.encode, self._batch_size)
