"""Decoded sound put on one timeline: resampled, mono, gaps filled, cut to the clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from extractors.decode_pass import Feed

BLOCK_SECONDS = 5.0
"""How much sound is gathered before it is pushed."""

# Containers round timestamps to milliseconds and recorders' clocks drift; only a jump beyond this is a real gap.
_JITTER_SECONDS = 0.05
# Sound before the first wanted sample that the resampler's filter and lossy codecs need to settle.
PREROLL_SECONDS = 0.2

Push = Callable[[NDArray[np.float32]], None]


class AudioTrack:
    """Feeds mono float32 samples at one rate to `push`, sample `i` being at `i / rate` on the media's clock.

    Where the container's timestamps leave a gap, or the sound starts later than the picture, zeros stand in for the
    missing time; where they overlap, what was there first is kept. `gap_seconds` says how much was missing in between.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        push: Push,
        *,
        first_sample: int = 0,
        end_sample: int | None = None,
        latest_seconds: float = math.inf,
        block_seconds: float = BLOCK_SECONDS,
    ) -> None:
        """Prepare for one clip.

        Args:
            sample_rate_hz: rate of the samples pushed.
            push: takes blocks of at most `block_seconds` and a frame.
            first_sample: index of the first sample wanted.
            end_sample: index after the last sample wanted; None is the end of the stream.
            latest_seconds: a timestamp beyond this is a mistake in the file and is not followed.
            block_seconds: how much is gathered before it is pushed.
        """
        self._rate, self._push = sample_rate_hz, push
        self._first, self._end = first_sample, end_sample
        self._latest_seconds = latest_seconds
        self._block_samples = int(block_seconds * sample_rate_hz)
        self._cursor = first_sample
        self._blocks: list[NDArray[np.float32]] = []
        self._blocked = 0
        self._resampler: Any = None
        self._format: tuple[Any, ...] = ()
        self._next_input: int | None = None
        self._next_output = 0
        self.frames = self.lost = 0
        self.end_seconds = self.gap_seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether every wanted sample has been delivered."""
        return self._end is not None and self._cursor >= self._end

    def feed(self, frame: Any, seconds: float | None) -> None:
        """Take a decoded `av.AudioFrame` that starts at `seconds` on the media's clock (None where unknown)."""
        if self.done or not frame.samples:
            return
        rate = frame.sample_rate
        start = self._place(_exact(frame, seconds), rate)
        self.frames += 1
        self.end_seconds = max(self.end_seconds, (start + frame.samples) / rate)
        wanted = self._first / self._rate - PREROLL_SECONDS
        if (start + frame.samples) / rate < wanted:
            self._next_input = start + frame.samples
            return
        if self._resampler is None or start != self._next_input or self._format != _format_of(frame):
            self._restart(frame, start)
        self._next_input = start + frame.samples
        self._resample(frame)

    def lose(self, end_seconds: float | None) -> None:
        """Count a packet that could not be decoded, if it would have been heard in what is wanted."""
        if not self.done and (end_seconds is None or end_seconds >= self._first / self._rate):
            self.lost += 1

    def finish(self) -> None:
        """Deliver what is still held."""
        self._drain()
        self._deliver()

    def _place(self, seconds: float | None, rate: int) -> int:
        """Index of the frame's first sample, at its own rate; follows the timestamps only where they really jump."""
        if self._format and self._format[0] != rate and self._next_input is not None:
            self._next_input = round(self._next_input * rate / self._format[0])
        if seconds is None or not math.isfinite(seconds):
            return self._next_input or 0
        stamped = round(seconds * rate)
        if self._next_input is None:
            return stamped if seconds <= self._latest_seconds else 0
        if abs(stamped - self._next_input) <= _JITTER_SECONDS * rate:
            return self._next_input
        if not 0 <= seconds <= self._latest_seconds:
            return self._next_input
        first, end = self._first / self._rate, math.inf if self._end is None else self._end / self._rate
        self.gap_seconds += max(0.0, min(stamped / rate, end) - max(self.end_seconds, first))
        return stamped

    def _restart(self, frame: Any, start: int) -> None:
        """Begin a new run of the resampler at an input sample that falls exactly on an output sample."""
        import av

        self._drain()
        self._format = _format_of(frame)
        # Without the limit, FFmpeg mixes to mono at 3 dB above the mean of the channels, and beyond full scale.
        options = {"rematrix_maxval": "1.0"}
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate, options=options)
        step = frame.sample_rate // math.gcd(frame.sample_rate, self._rate)
        aligned = math.floor(start / step) * step
        self._next_output = aligned * self._rate // frame.sample_rate
        if start > aligned:
            self._resample(_silence_like(frame, start - aligned))

    def _resample(self, frame: Any | None) -> None:
        if frame is not None:
            frame.pts = None
        for out in self._resampler.resample(frame):
            samples = out.to_ndarray()[0].astype(np.float32, copy=False)
            self._emit(samples, self._next_output)
            self._next_output += len(samples)

    def _drain(self) -> None:
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _emit(self, samples: NDArray[np.float32], index: int) -> None:
        """Deliver samples that belong at an index: fill what is missing before, drop what is already there."""
        limit = math.inf if self._end is None else self._end
        block = self._block_samples
        while self._cursor < min(index, limit):
            self._hold(np.zeros(int(min(index - self._cursor, limit - self._cursor, block)), np.float32))
        keep = samples[max(0, self._cursor - index) : max(0, int(min(limit - index, len(samples))))]
        if len(keep):
            self._hold(keep)

    def _hold(self, samples: NDArray[np.float32]) -> None:
        self._blocks.append(samples)
        self._blocked += len(samples)
        self._cursor += len(samples)
        if self._blocked >= self._block_samples:
            self._deliver()

    def _deliver(self) -> None:
        if self._blocked:
            block = np.concatenate(self._blocks)
            # A broken float stream may hold NaN or infinity; they would poison every window they touch.
            self._push(np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0))
        self._blocks, self._blocked = [], 0


class AudioTracks:
    """Feeds the same decoded sound to several, such as `AudioTrack`s, each at its own rate and over its own part.

    Args:
        tracks: at least one.

    Attributes:
        frames: how many decoded frames with sound in them were given.
        end_seconds: where the sound ended, as far as one wanted it.
    """

    def __init__(self, tracks: Sequence[Feed]) -> None:
        self._tracks = tracks
        self.frames = 0
        self.end_seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether none wants more."""
        return all(track.done for track in self._tracks)

    def feed(self, frame: Any, seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`."""
        for track in self._tracks:
            track.feed(frame, seconds)
        self.frames += frame.samples > 0
        self.end_seconds = max(track.end_seconds for track in self._tracks)

    def lose(self, end_seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`."""
        for track in self._tracks:
            track.lose(end_seconds)

    def finish(self) -> None:
        """See `extractors.decode_pass.Feed`."""
        for track in self._tracks:
            track.finish()


def _exact(frame: Any, seconds: float | None) -> float | None:
    """A timestamp that the container rounded, moved onto the grid of the codec's frames if it lies that close to it."""
    tick = float(frame.time_base) if frame.time_base else 0.0
    length = frame.samples / frame.sample_rate
    if seconds is None or tick * frame.sample_rate <= 1.0 or length <= 4 * tick:
        return seconds
    on_grid = round(seconds / length) * length
    return on_grid if abs(on_grid - seconds) <= 0.51 * tick else seconds


def _format_of(frame: Any) -> tuple[Any, ...]:
    return (frame.sample_rate, frame.format.name, frame.layout.name)


def _silence_like(frame: Any, samples: int) -> Any:
    import av

    silence = av.AudioFrame(format=frame.format.name, layout=frame.layout.name, samples=samples)
    silence.sample_rate = frame.sample_rate
    for plane in silence.planes:
        plane.update((b"\x80" if frame.format.name.startswith("u8") else b"\x00") * plane.buffer_size)
    return silence
