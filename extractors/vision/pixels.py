"""`Pixels`: the pictures that a pretrained image encoder sees, for one that is trained along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import VisionExtractor, VisionStream, check_range, make_spec
from extractors.errors import ToolError
from extractors.vision.per_frame import PerFrameStream

_PROBES = ((48, 64), (64, 48))


class Pixels(VisionExtractor):
    """One step per sampled frame: its pixels as the model's own image processor prepares them, `(C, H, W)` in a row.

    These are what an encoder such as ViT, CLIP or DINOv2 reads, not features; they are for encoders that are trained
    together with the head. A frame of 224 by 224 is 150,528 numbers: 600 kB, or half of that with
    `feature_dtype: float16`, which is still finer than the grey levels of a video.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `preprocessor_config.json` and `config.json`;
            `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        files_sha256: what the hash of the local folder's files, but for the weights, must be; filled in when left out.
        frames_per_second: how many frames per second of media are looked at.
        max_side_pixels: larger frames and images are scaled down by area before the image processor sees them.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers is missing; the image processor cannot be had, or makes pictures of more than one size.
    """

    REGISTRY_NAME = "vision.pixels"
    DEFINITION = 1
    raw = True
    rolling = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        files_sha256: str | None = None,
        frames_per_second: float = 2.0,
        max_side_pixels: int = 1280,
    ) -> None:
        check_range("frames_per_second", frames_per_second, 0.1, 120.0)
        check_range("max_side_pixels", max_side_pixels, 64, 8192)
        self.frames_per_second, self.max_side_pixels = float(frames_per_second), int(max_side_pixels)
        found = pretrained.find(model, revision, files_sha256=files_sha256, weights=False)
        self._processor = load_processor(found.source)
        channels, height, width = picture_shape(self._processor, found.source.name)
        self.names = tuple(f"{c}.{y}.{x}" for c in range(channels) for y in range(height) for x in range(width))
        parameters = {
            **found.identity,
            "frames_per_second": frames_per_second,
            "max_side_pixels": max_side_pixels,
        }
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, parameters, found.hints)

    def stream(self) -> VisionStream:
        """See `VisionExtractor.stream`."""
        return PerFrameStream(self, self._prepare)

    def _prepare(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack([_prepared(self._processor, image).reshape(-1) for image in images])


def load_processor(source: pretrained.Source) -> Any:
    """The image processor of a model, in its Pillow form whatever else is installed.

    Raises:
        ToolError: it cannot be had.
    """
    return pretrained.load("image processor", "AutoImageProcessor", source, backend="pil")


def picture_shape(processor: Any, name: str) -> tuple[int, int, int]:
    """Channels, height and width of what an image processor makes.

    Raises:
        ToolError: they depend on the image.
    """
    first, second = (_prepared(processor, np.zeros((*size, 3), np.uint8)).shape for size in _PROBES)
    if first != second:
        raise ToolError(
            f"{name}: its image processor keeps an image's proportions ({first} and {second}), so that frames cannot "
            "share a table: set do_center_crop or a fixed height and width in its preprocessor_config.json, or use the "
            "frozen features of vision.transformers"
        )
    channels, height, width = first
    return int(channels), int(height), int(width)


def _prepared(processor: Any, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = processor(images=image, input_data_format="channels_last", return_tensors="np")["pixel_values"][0]
    return np.asarray(pixels, np.float32)
