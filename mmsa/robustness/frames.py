"""Frames dropped or blurred before a face is looked for in them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import extractors as ex
from extractors import ExtractorSpec, FeatureSequence, VisionExtractor, VisionStream

DEFINITION = 1
"""Raised by one whenever the arithmetic here changes."""


class WorseFrames(VisionExtractor):
    """Another vision extractor, looking at fewer or blurred frames.

    Each sampled frame is dropped with the same chance, whatever happened to the others; which ones are dropped follows
    from the seed and the frame itself, so that frames dropped at one chance are also dropped at every higher one. A
    dropped frame is a gap in the features, as one without a face is. What the inner extractor hears stays as it is.

    Args:
        inner: spec of the extractor that looks, without hints.
        drop: chance of a frame to be dropped, in [0, 1].
        blur_pixels: standard deviation of a Gaussian blur, in pixels of the sampled frame, which is scaled down to the
            inner extractor's `max_side_pixels`; 0 is none.
        seed: another seed drops other frames.
        inner_hints: the hints of `inner`.

    Raises:
        ValueError: the inner extractor does not look, or a number is out of range.
    """

    def __init__(
        self,
        *,
        inner: Mapping[str, Any],
        drop: float = 0.0,
        blur_pixels: float = 0.0,
        seed: int = 0,
        inner_hints: Mapping[str, Any] | None = None,
    ) -> None:
        watcher = ex.rebuild(ExtractorSpec.from_dict({**inner, "hints": dict(inner_hints or {})}))
        if not isinstance(watcher, VisionExtractor):
            raise ValueError(f"frames are what a vision extractor looks at, not {watcher.modality}")
        if not 0 <= drop <= 1 or blur_pixels < 0:
            raise ValueError(f"drop must lie in [0, 1] and blur_pixels not below 0, not {drop} and {blur_pixels}")
        self.inner, self.drop, self.blur_pixels, self.seed = watcher, float(drop), float(blur_pixels), seed
        self.names = watcher.names
        self.frames_per_second, self.max_side_pixels = watcher.frames_per_second, watcher.max_side_pixels
        self.listens_at_hz = watcher.listens_at_hz
        self.before_seconds, self.after_seconds = watcher.before_seconds, watcher.after_seconds
        self.spec = ExtractorSpec(
            f"{__name__}:{type(self).__name__}",
            watcher.spec.tool,
            f"{watcher.spec.version}+{DEFINITION}",
            {"inner": dict(inner), "drop": self.drop, "blur_pixels": self.blur_pixels, "seed": seed},
            {"inner_hints": dict(inner_hints or {})},
        )

    @classmethod
    def around(
        cls, watcher: VisionExtractor, *, drop: float = 0.0, blur_pixels: float = 0.0, seed: int = 0
    ) -> WorseFrames:
        """Worse frames for an extractor."""
        spec = watcher.spec.to_dict()
        hints = spec.pop("hints", {})
        return cls(inner=spec, inner_hints=hints, drop=drop, blur_pixels=blur_pixels, seed=seed)

    def stream(self) -> VisionStream:
        """See `VisionExtractor.stream`."""
        return _WorseStream(self, self.inner.stream())


class _WorseStream(VisionStream):
    def __init__(self, extractor: WorseFrames, inner: VisionStream) -> None:
        self._extractor, self._inner = extractor, inner
        self._seen = self._kept = 0

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        """See `VisionStream.expect_segment`."""
        self._inner.expect_segment(start_seconds, end_seconds)

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`."""
        own = self._extractor
        kept = list(indices)
        if own.drop:
            kept = [index for index in indices if frame_chance(image, index, own.seed) >= own.drop]
        self._seen += len(indices)
        self._kept += len(kept)
        if kept:
            self._inner.push(blurred(image, own.blur_pixels) if own.blur_pixels else image, kept)

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        self._inner.listen(samples, first_sample)

    def no_more_sound(self) -> None:
        """See `VisionStream.no_more_sound`."""
        self._inner.no_more_sound()

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        return self._inner.finish()

    def missing_reason(self) -> str:
        """See `VisionStream.missing_reason`."""
        return "every frame was dropped" if self._seen and not self._kept else self._inner.missing_reason()

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """See `VisionStream.notes`."""
        return self._inner.notes(start_seconds, end_seconds)

    def close(self) -> None:
        """See `VisionStream.close`."""
        self._inner.close()


def frame_chance(image: NDArray[np.uint8], index: int, seed: int) -> float:
    """A number in [0, 1), uniform over seeds, indices and images."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8, key=f"{seed}/{index}".encode())
    return (int.from_bytes(digest.digest(), "big") >> 11) / 2**53


def blurred(image: NDArray[np.uint8], sigma_pixels: float) -> NDArray[np.uint8]:
    """A Gaussian blur of the picture; its border is mirrored."""
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_pixels), np.uint8)
