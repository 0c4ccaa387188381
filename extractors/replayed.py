"""Windows from extractors that cannot roll: what a window covers is kept, and played to a fresh stream."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioExtractor, AudioStream, Extractor, VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence, first_step


def rolling(extractor: Extractor) -> Extractor:
    """The extractor itself where it rolls or reads text, else one around it that does.

    Each window gives what the extractor makes of a segment with the window's times. In memory is as much sound, or as
    many frames, as the window and the extractor's context cover; an instant in two windows is computed twice.
    """
    if extractor.rolling:
        return extractor
    if isinstance(extractor, AudioExtractor):
        return ReplayedAudio(extractor)
    return ReplayedVision(extractor) if isinstance(extractor, VisionExtractor) else extractor


class ReplayedAudio(AudioExtractor):
    """An audio extractor that rolls by replaying.

    Args:
        extractor: one that does not roll.
    """

    rolling = True

    def __init__(self, extractor: AudioExtractor) -> None:
        self.extractor = extractor
        self.spec, self.names = extractor.spec, extractor.names
        self.sample_rate_hz, self.hop_samples = extractor.sample_rate_hz, extractor.hop_samples
        self.context_seconds = extractor.context_seconds

    def stream(self, first_sample: int = 0) -> AudioStream:
        """See `AudioExtractor.stream`."""
        return _SoundStream(self.extractor, first_sample)


class _SoundStream(AudioStream):
    def __init__(self, extractor: AudioExtractor, first_sample: int) -> None:
        self._extractor, self._first = extractor, first_sample
        self._blocks: list[NDArray[np.float32]] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        self._blocks.append(np.array(samples, np.float32))

    def finish(self) -> FeatureSequence:
        return self._play(self._first, None)[0]

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; the samples are those that `extract` gives for a segment."""
        rate, context = self._extractor.sample_rate_hz, self._extractor.context_seconds
        first = max(self._first, self._on_grid((start_seconds - context) * rate))
        end = None if math.isinf(end_seconds) else math.ceil((end_seconds + context) * rate)
        sequence, reason = self._play(first, end)
        sequence = sequence.between(start_seconds, end_seconds)
        return sequence, "" if len(sequence) else reason

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        keep_from = self._on_grid(before_seconds * self._extractor.sample_rate_hz)
        while self._blocks and self._first + len(self._blocks[0]) <= keep_from:
            self._first += len(self._blocks.pop(0))

    def _on_grid(self, sample: float) -> int:
        hop = self._extractor.hop_samples
        return max(0, math.floor(sample / hop) * hop)

    def _play(self, first: int, end: int | None) -> tuple[FeatureSequence, str]:
        held = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        stream = self._extractor.stream(first)
        stream.push(held[first - self._first : None if end is None else max(0, end - self._first)])
        sequence = stream.finish()
        return sequence, "" if len(sequence) else stream.missing_reason()


class ReplayedVision(VisionExtractor):
    """A vision extractor that rolls by replaying.

    Args:
        extractor: one that does not roll.
    """

    rolling = True

    def __init__(self, extractor: VisionExtractor) -> None:
        self.extractor = extractor
        self.spec, self.names = extractor.spec, extractor.names
        self.frames_per_second, self.max_side_pixels = extractor.frames_per_second, extractor.max_side_pixels
        self.listens_at_hz = extractor.listens_at_hz
        self.before_seconds, self.after_seconds = extractor.before_seconds, extractor.after_seconds

    def stream(self) -> VisionStream:
        """See `VisionExtractor.stream`."""
        return _PictureStream(self.extractor)


class _PictureStream(VisionStream):
    def __init__(self, extractor: VisionExtractor) -> None:
        self._extractor = extractor
        self._frames: list[tuple[NDArray[np.uint8], tuple[int, ...]]] = []
        self._sound: list[tuple[NDArray[np.float32], int]] = []
        self._notes: dict[str, None] = {}

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        self._frames.append((image, tuple(indices)))

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        self._sound.append((np.array(samples, np.float32), first_sample))

    def finish(self) -> FeatureSequence:
        return self._play(-math.inf, math.inf)[0]

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; the frames are those that `extract` gives for a segment."""
        own = self._extractor
        around = max(0.0, start_seconds - own.before_seconds), min(end_seconds, 1e9) + own.after_seconds
        first, after = (first_step(at, own.frames_per_second) for at in around)
        sequence, reason = self._play(first, after, (start_seconds, end_seconds))
        sequence = sequence.between(start_seconds, end_seconds)
        return sequence, "" if len(sequence) else reason

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        first = first_step(before_seconds, self._extractor.frames_per_second)
        self._frames = [(image, indices) for image, indices in self._frames if indices[-1] >= first]
        if self._extractor.listens_at_hz is not None:
            keep_from = before_seconds * self._extractor.listens_at_hz
            self._sound = [one for one in self._sound if one[1] + len(one[0]) > keep_from]

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """Those of all windows, each once."""
        return tuple(self._notes)

    def _play(
        self, first: float, after: float, span: tuple[float, float] = (0.0, math.inf)
    ) -> tuple[FeatureSequence, str]:
        stream = self._extractor.stream()
        try:
            stream.expect_segment(*span)
            for samples, first_sample in self._sound:
                stream.listen(samples, first_sample)
            if self._extractor.listens_at_hz is not None:
                stream.no_more_sound()
            for image, indices in self._frames:
                mine = [index for index in indices if first <= index < after]
                if mine:
                    stream.push(image, mine)
            sequence = stream.finish()
            self._notes.update(dict.fromkeys(stream.notes(*span)))
            return sequence, "" if len(sequence) else stream.missing_reason()
        finally:
            stream.close()
