"""Following the face as the model's own extractor did, for every frame of a video."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from extractors.decode_pass import Feed
    from extractors.facial.facemesh import FaceMesh

Points = NDArray[np.float64]

_WAIT_SECONDS = 1.0
_CUT = 0.1


class FaceTrack:
    """Landmarks at every instant, from those that the extractor finds in the frames it samples.

    The frames are sampled, scaled and tracked as in scoring. Between two of them the landmarks go straight from one
    place to the other; where they are far apart (a cut) or one frame has no face, the nearer frame holds.

    Args:
        extractor: the model's.
        aspect: width of a pixel over its height.

    Attributes:
        sound: None: nothing is listened to.
    """

    def __init__(self, extractor: FaceMesh, aspect: float = 1.0) -> None:
        from extractors.frame_sampler import FrameSampler

        self._source = extractor.open_source()
        self._sampler = FrameSampler(extractor.frames_per_second, extractor.max_side_pixels, self._look, aspect=aspect)
        self._samples: deque[tuple[float, Points | None]] = deque()
        self._shown = 0.0
        self._latest = float("-inf")
        self._finished = False
        self.sound: Feed | None = None

    @property
    def known_seconds(self) -> float:
        """See `mmsa.scoring.encode.Track`; frames wait a second at most."""
        if self._finished:
            return float("inf")
        sampled = self._samples[-1][0] if self._samples else float("-inf")
        return max(sampled, self._latest - _WAIT_SECONDS)

    def feed(self, frame: Any, seconds: float) -> None:
        """See `mmsa.scoring.encode.Track`."""
        self._sampler.feed(frame, seconds)
        self._shown = self._latest = seconds

    def finish(self) -> None:
        """See `mmsa.scoring.encode.Track`."""
        self._sampler.finish()
        self._finished = True
        self._source.close()

    def at(self, seconds: float) -> Points | None:
        """`(478, 2)` shares of width and height."""
        while len(self._samples) > 1 and self._samples[1][0] <= seconds:
            self._samples.popleft()
        if not self._samples:
            return None
        before, one = self._samples[0]
        if before > seconds or len(self._samples) == 1:
            return one if abs(seconds - before) <= _WAIT_SECONDS else None
        after, other = self._samples[1]
        return between(one, other, (seconds - before) / (after - before)) if after - before <= _WAIT_SECONDS else one

    def _look(self, image: NDArray[np.uint8], _: Sequence[int]) -> None:
        """The sampler hands over the frame before the one it is fed, which is what is on screen."""
        points = self._source.find(image)
        height, width = image.shape[:2]
        found = None if points is None or not np.isfinite(points).all() else points[:, :2] / (width, height)
        if self._samples and self._samples[-1][0] >= self._shown:
            self._samples[-1] = (self._shown, found)
        else:
            self._samples.append((self._shown, found))


def between(one: Points | None, other: Points | None, share: float) -> Points | None:
    """Landmarks between two samples, `share` of the way from the first to the second."""
    if one is None or other is None or float(np.abs(one - other).mean()) > _CUT:
        return one if share < 0.5 else other
    mixed: Points = one + share * (other - one)
    return mixed
