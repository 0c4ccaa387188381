"""`FaceClassifier`: what a pretrained image classifier says of the face, cut out and set upright."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import VisionExtractor, VisionStream, check_range
from extractors.classification import Classifier, labels_of
from extractors.facial.face_view import FaceView


class FaceClassifier(VisionExtractor):
    """One step per sampled frame in which a face is found: the probability of each label of an image classifier.

    The classifier sees the aligned crop of the face (`extractors.facial.crop`), prepared as its own image processor
    says (its Pillow form). Frames without a face give no step. Batching changes no value beyond rounding.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and
            `preprocessor_config.json`; `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
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
        ToolError: the model cannot be had or names no labels, or a file is not the one its hash names.
    """

    REGISTRY_NAME = "facial.classifier"
    DEFINITION = 1
    uses_gpu = True
    rolling = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        crop_pixels: int = 224,
        margin: float = 0.15,
        frames_per_second: float = 2.0,
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
        self._batch_size, self._device = int(batch_size), device
        found = pretrained.find(model, revision, weights_sha256)
        self._source = found.source
        self._looker: _Looker | None = None
        self._labels = labels_of(found.config, model)
        self._view.equip(self, self._labels)
        self.spec = self._view.spec(self.REGISTRY_NAME, self.DEFINITION, found.identity, found.hints)

    def load(self) -> None:
        """See `Extractor.load`."""
        if self._looker is None:
            self._looker = _Looker(self._source, self._labels, self._device)

    def stream(self) -> VisionStream:
        """A fresh stream with a fresh tracker; the first one loads the model.

        Raises:
            ToolError: weights or image processor cannot be had, or MediaPipe or a system library that it needs is
                missing.
        """
        self.load()
        assert self._looker is not None
        return self._view.stream(self, self._looker.look, self._batch_size)


class _Looker:
    """Image processor and model, loaded."""

    def __init__(self, source: pretrained.Source, labels: tuple[str, ...], device: str) -> None:
        self._processor: Any = pretrained.load("image processor", "AutoImageProcessor", source, backend="pil")
        self._classifier = Classifier(source, "AutoModelForImageClassification", labels, device)

    def look(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """`(S, S, 3)` RGB crops → `(N, L)` probabilities."""
        inputs = self._processor(images=list(crops), input_data_format="channels_last", return_tensors="pt")
        return self._classifier.probabilities({"pixel_values": inputs["pixel_values"]})
