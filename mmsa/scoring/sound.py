"""Writing a file's sound beside painted pictures: encoded as AAC, every sample at its time."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from extractors.media import StreamInfo

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates that are kept; all others become 48 kHz."""

# Containers round timestamps to milliseconds and clocks drift; only a jump beyond this is a real gap.
_JITTER_SECONDS = 0.05
_BLOCK = 48_000
_BITS_PER_CHANNEL = 80_000


class SoundWriter:
    """Takes decoded sound and encodes it, with silence where its timestamps leave a gap; mono stays mono.

    Args:
        container: open for writing; no packet is in it yet.
        mux: takes encoded packets.
        info: of the sound that comes.
        span: start and end in seconds of what is wanted.
        latest_seconds: a timestamp beyond this is a mistake in the file and is not followed.
        tick: called with the seconds that the sound has come to.
    """

    def __init__(
        self,
        container: Any,
        mux: Callable[[list[Any]], None],
        info: StreamInfo,
        span: tuple[float, float],
        latest_seconds: float,
        tick: Callable[[float], None] | None = None,
    ) -> None:
        self._mux, self._tick = mux, tick
        self._start, self._end = span
        self._latest_seconds = latest_seconds
        self.rate = info.sample_rate_hz if info.sample_rate_hz in RATES else RATES[-1]
        self._layout = "mono" if info.channels == 1 else "stereo"
        self._channels = 1 if info.channels == 1 else 2
        bits = _BITS_PER_CHANNEL * self._channels
        self._stream = container.add_stream("aac", rate=self.rate, layout=self._layout, bit_rate=bits)
        self._resampler: Any = None
        self._format: tuple[Any, ...] = ()
        self._expected = 0.0
        self._place = 0
        self._cursor = 0

    @property
    def end_seconds(self) -> float:
        """Where the sound written ends, on the media's clock."""
        return self._start + self._cursor / self.rate

    @property
    def done(self) -> bool:
        """See `extractors.decode_pass.Feed`."""
        return self.end_seconds >= self._end

    def feed(self, frame: Any, seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`."""
        if not frame.samples or self.done:
            return
        if seconds is None or not math.isfinite(seconds) or seconds > self._latest_seconds:
            seconds = self._expected
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or kind != self._format or abs(seconds - self._expected) > _JITTER_SECONDS:
            self._restart(kind, seconds)
        self._expected += frame.samples / frame.sample_rate
        frame.pts = None
        for piece in self._resampler.resample(frame):
            self._put(piece.to_ndarray())
        if self._tick is not None:
            self._tick(self.end_seconds)

    def lose(self, end_seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`; the report counts them."""

    def finish(self) -> None:
        """See `extractors.decode_pass.Feed`."""
        self._drain()

    def close(self) -> None:
        """What is still in the encoder."""
        self._mux(self._stream.encode(None))

    def _restart(self, kind: tuple[Any, ...], seconds: float) -> None:
        import av

        self._drain()
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self.rate)
        self._format, self._expected = kind, seconds
        self._place = round((seconds - self._start) * self.rate)

    def _drain(self) -> None:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                self._put(piece.to_ndarray())
            self._resampler = None

    def _put(self, samples: NDArray[np.float32]) -> None:
        """`(C, N)` at the current place; what was there first is kept, what lies before the start is left out."""
        import numpy as np

        first = self._place
        self._place += samples.shape[1]
        while first > self._cursor and not self.done:
            silence = min(first - self._cursor, _BLOCK)
            self._encode(np.zeros((self._channels, silence), np.float32))
        self._encode(samples[:, max(0, self._cursor - first) :])

    def _encode(self, samples: NDArray[np.float32]) -> None:
        import av
        import numpy as np

        if math.isfinite(self._end):
            samples = samples[:, : max(0, round((self._end - self._start) * self.rate) - self._cursor)]
        if not samples.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self._cursor, Fraction(1, self.rate)
        self._cursor += samples.shape[1]
        self._mux(self._stream.encode(frame))
