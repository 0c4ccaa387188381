"""Following the faces that count, where the model follows several: the speaker's, or everybody's."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extractors import VisionExtractor, VisionStream
from mmsa.scoring.overlay.track import between

if TYPE_CHECKING:
    from extractors.decode_pass import Feed
    from extractors.facial.facemesh import FaceMesh

Points = NDArray[np.float64]

_LANDMARKS = 478
_WAIT_SECONDS = 1.0
_SAME = 0.1


class SeveralTrack:
    """Landmarks at every instant of the faces that the model's extractor takes.

    Frames and sound are sampled and judged as in scoring, by the same stream, but from where the overlay begins.
    Between two samples each face's landmarks go straight from one place to the other; one that only the nearer sample
    has, or that jumps, is where that sample has it.

    Args:
        extractor: the model's, which follows several faces.
        aspect: width of a pixel over its height.
        sound: whether the media has any.
        latest_seconds: a timestamp beyond this is a mistake in the file.

    Attributes:
        sound: takes the decoded sound; None where the extractor does not listen, or there is none.
    """

    def __init__(self, extractor: FaceMesh, aspect: float = 1.0, *, sound: bool, latest_seconds: float) -> None:
        from extractors.audio_track import AudioTrack
        from extractors.frame_sampler import FrameSampler

        self._stream: VisionStream = _Landmarks(extractor).stream()
        self._stream.expect_windows()
        self._sampler = FrameSampler(extractor.frames_per_second, extractor.max_side_pixels, self._look, aspect=aspect)
        self._rate = extractor.frames_per_second
        self._after = extractor.after_seconds
        self._samples: deque[tuple[float, Points]] = deque()
        self._shown_at: dict[int, float] = {}
        self._shown = self._latest = self._heard = 0.0
        self._taken = 0.0
        self._finished = False
        self.sound: Feed | None = None
        rate = extractor.listens_at_hz
        if rate is not None and sound:
            self.sound = AudioTrack(rate, self._hear, latest_seconds=latest_seconds, block_seconds=0.1)
        elif rate is not None:
            self._stream.no_more_sound()
        self._listen_rate = rate or 1

    @property
    def known_seconds(self) -> float:
        """See `mmsa.scoring.encode.Track`; frames wait a second longer than the extractor needs at most."""
        if self._finished:
            return float("inf")
        return max(self._taken - 1.0 / self._rate, self._latest - self._after - _WAIT_SECONDS)

    def feed(self, frame: Any, seconds: float) -> None:
        """See `mmsa.scoring.encode.Track`."""
        self._sampler.feed(frame, seconds)
        self._shown = self._latest = seconds
        watched = (max(self._shown_at, default=-1) + 1) / self._rate
        heard = watched if self.sound is None else self._heard / self._listen_rate
        late = self._latest - self._after - _WAIT_SECONDS
        self._take(max(min(watched, heard) - self._after, late))

    def finish(self) -> None:
        """See `mmsa.scoring.encode.Track`."""
        if self.sound is not None:
            self.sound.finish()
        self._sampler.finish()
        self._take(float("inf"))
        self._finished = True
        self._stream.close()

    def at(self, seconds: float) -> Points | None:
        """`(F, 478, 2)` shares of width and height of `F` faces; None where there is none."""
        while len(self._samples) > 1 and self._samples[1][0] <= seconds:
            self._samples.popleft()
        if not self._samples:
            return None
        before, found = self._samples[0]
        if before > seconds or len(self._samples) == 1:
            found = found if abs(seconds - before) <= _WAIT_SECONDS else found[:0]
        elif self._samples[1][0] - before <= _WAIT_SECONDS:
            after, other = self._samples[1]
            found = _between(found, other, (seconds - before) / (after - before))
        return found if len(found) else None

    def _look(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """The sampler hands over the frame before the one it is fed, which is what is on screen."""
        for index in indices:
            self._shown_at[index] = max(self._shown, index / self._rate - _WAIT_SECONDS)
        self._stream.push(image, indices)

    def _hear(self, samples: NDArray[np.float32]) -> None:
        self._stream.listen(samples, round(self._heard))
        self._heard += len(samples)

    def _take(self, until: float) -> None:
        """Ask for the faces of the frames before an instant, which are decided."""
        if until <= self._taken:
            return
        found, _ = self._stream.window(self._taken, until)
        which = np.round(found.times[:, 0] * self._rate).astype(int)
        for index in sorted(index for index in self._shown_at if (index + 0.5) / self._rate < until):
            shown = self._shown_at.pop(index)
            rows = found.values[which == index, : 2 * _LANDMARKS].astype(np.float64)
            if not self._samples or self._samples[-1][0] < shown:
                self._samples.append((shown, rows.reshape(-1, _LANDMARKS, 2)))
        if until < float("inf"):
            self._stream.forget(until)
            self._taken = until


class _Landmarks(VisionExtractor):
    """The landmarks of the faces that another extractor takes, at every frame that it samples."""

    rolling = True

    def __init__(self, extractor: FaceMesh) -> None:
        self._extractor = extractor
        self.frames_per_second, self.max_side_pixels = extractor.frames_per_second, extractor.max_side_pixels
        self.names = extractor.named(tuple(f"landmark_{i}_{axis}" for i in range(_LANDMARKS) for axis in "xy"))
        self.spec = extractor.spec

    def stream(self) -> VisionStream:
        """See `VisionExtractor.stream`."""
        from extractors.facial.faces_stream import Looks

        return self._extractor.stream_of_several(self, Looks(_keep, np.stack, 1), every=1)


def faces_of(extractor: FaceMesh, picture: NDArray[np.uint8]) -> Points | None:
    """The faces that count in a still image: `(F, 478, 2)` shares of width and height; None where there is none."""
    stream = _Landmarks(extractor).stream()
    try:
        if extractor.listens_at_hz is not None:
            stream.no_more_sound()
        stream.push(picture, [0])
        found = stream.finish()
    finally:
        stream.close()
    return found.values[:, : 2 * _LANDMARKS].astype(np.float64).reshape(-1, _LANDMARKS, 2) if len(found) else None


def _keep(image: NDArray[np.uint8], points: Points) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    return (points[:, :2] / (width, height)).ravel().astype(np.float32)


def _between(one: Points, other: Points, share: float) -> Points:
    """Faces between two samples: those of the nearer one, moved where the other one has them too."""
    near, far, share = (one, other, share) if share < 0.5 else (other, one, 1.0 - share)
    moved = []
    for face in near:
        apart = np.abs(far - face).mean(axis=(1, 2))
        match = far[int(apart.argmin())] if len(far) and apart.min() < _SAME else None
        mixed = None if match is None else between(face, match, share)
        moved.append(face if mixed is None else mixed)
    return np.array(moved).reshape(-1, _LANDMARKS, 2)
