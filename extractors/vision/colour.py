"""`Colour`: hand-made descriptions of a picture's colours, light and detail, which need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream, check_range, make_spec
from extractors.vision.per_frame import PerFrameStream

HUE_BINS = 12
_NAMES = (
    *(f"hue_{k * 360 // HUE_BINS}" for k in range(HUE_BINS)),
    *("hue_cos", "hue_sin"),
    *("saturation_mean", "saturation_std", "brightness_mean", "brightness_std", "brightness_range"),
    *("centre_saturation", "centre_brightness"),
    *("colourfulness", "edge_energy", "detail"),
)


class Colour(VisionExtractor):
    """One step per sampled frame: 24 numbers on its colours, light and detail.

    Low-level features of affective image analysis: Machajdik and Hanbury, "Affective Image Classification using
    Features inspired by Psychology and Art Theory", ACM Multimedia 2010, take among others the mean saturation and
    brightness of the picture and of its middle (rule of thirds), statistics of hue as a direction, weighted by
    saturation, a measure of colourfulness and the amount of detail. Here, with `S` and `V` of the hexcone HSV in [0, 1]
    and hue as an angle:

    - `hue_0` to `hue_330`: mean over the pixels of `S · V` where the hue lies within 15° of that angle, else 0; a grey
      picture has zeros, since it has no hue.
    - `hue_cos`, `hue_sin`: mean of `S · V` times cosine and sine of the hue.
    - mean and standard deviation of `S` and of `V`; `brightness_range`: the 95th less the 5th percentile of `V`.
    - `centre_saturation`, `centre_brightness`: means in the middle ninth of the picture.
    - `colourfulness`: Hasler and Süsstrunk, "Measuring colorfulness in natural images", Human Vision and Electronic
      Imaging 2003, the measure M³, over 255.
    - `edge_energy`: mean length of the gradient of the luminance (Sobel over 8, so that a step of height 1 between two
      flat halves counts 1/2 in either of the columns beside it); `detail`: standard deviation of its Laplacian.

    These describe pictures, not what is in them: a floor to compare encoders with, and something that works offline.

    Args:
        frames_per_second: how many frames per second of media are looked at.
        max_side_pixels: pictures are scaled down to fit, so that edges mean the same in large and small ones.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> len(Colour().names)
        24
    """

    REGISTRY_NAME = "vision.colour"
    DEFINITION = 1
    rolling = True

    def __init__(self, *, frames_per_second: float = 2.0, max_side_pixels: int = 256) -> None:
        check_range("frames_per_second", frames_per_second, 0.1, 120.0)
        check_range("max_side_pixels", max_side_pixels, 16, 8192)
        self.frames_per_second, self.max_side_pixels = float(frames_per_second), int(max_side_pixels)
        self.names = _NAMES
        parameters = {"frames_per_second": frames_per_second, "max_side_pixels": max_side_pixels}
        self.spec = make_spec(self.REGISTRY_NAME, "opencv-contrib-python", self.DEFINITION, parameters)

    def stream(self) -> VisionStream:
        """A fresh stream."""
        return PerFrameStream(self, describe)


def describe(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """`(H, W, 3)` RGB images → `(N, 24)`; see `Colour`."""
    return np.stack([_describe(image) for image in images])


def _describe(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    rgb = image.astype(np.float32) / 255.0
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    hue, saturation, brightness = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    chroma = (saturation * brightness).astype(np.float64)
    angle = np.deg2rad(hue.astype(np.float64))
    width = 360 / HUE_BINS
    bins = np.floor((hue + width / 2) / width).astype(np.int64) % HUE_BINS
    hues = np.bincount(bins.ravel(), chroma.ravel(), HUE_BINS) / chroma.size
    low, high = np.percentile(brightness, [5, 95])
    luminance = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    across, down = cv2.Sobel(luminance, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(luminance, cv2.CV_32F, 0, 1) / 8
    rest = (
        (chroma * np.cos(angle)).mean(),
        (chroma * np.sin(angle)).mean(),
        saturation.mean(),
        saturation.std(),
        brightness.mean(),
        brightness.std(),
        high - low,
        _centre(saturation).mean(),
        _centre(brightness).mean(),
        colourfulness(rgb),
        np.hypot(across, down).mean(),
        cv2.Laplacian(luminance, cv2.CV_32F).std(),
    )
    return np.asarray(np.concatenate([hues, rest]), np.float32)


def _centre(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middle ninth; of pictures under three pixels, what is nearest to it."""
    height, width = channel.shape
    top, left = height // 3, width // 3
    return channel[top : max(top + 1, height - top), left : max(left + 1, width - left)]


def colourfulness(rgb: NDArray[np.float32]) -> float:
    """Hasler and Süsstrunk's M³ of an `(H, W, 3)` image, in the scale of its values."""
    red, green, blue = (rgb[..., k].astype(np.float64) for k in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
