"""`EGeMAPS`: the extended Geneva minimalistic acoustic parameter set, by openSMILE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioExtractor, AudioStream, check_range, make_spec
from extractors.errors import ToolError
from extractors.speech.chunks import ChunkedStream, Chunks, Frames, context_seconds

_LEVELS = ("lld", "functionals")
_RATE = 16000
_HOP, _SHORT, _LONG = 160, 320, 960  # steps of 10 ms; windows of 20 ms, and of 60 ms for what hangs on F0
_CHUNK_SECONDS, _CONTEXT_SECONDS = 10.0, 1.0


class EGeMAPS(AudioExtractor):
    """eGeMAPS v02 (Eyben et al. 2016) as openSMILE computes it: 25 descriptors over time, or 88 functionals.

    openSMILE's licence (audEERING's, see its repository) allows private use, research and education, and no commercial
    use: it is no part of mmsa and comes with the extra `egemaps`.

    - `level="lld"`: one step of 20 ms every 10 ms with the 25 low-level descriptors. What hangs on F0 is computed from
      60 ms, and everything is smoothed over three steps. openSMILE wants a whole recording; here it is given chunks of
      10 s that overlap by 2 s, on a grid counted from the media's beginning, so that memory is flat and a segment gets
      the numbers that the whole file has there. All of them but jitter and shimmer are those of one pass over the whole
      recording; these two follow the periods of the voice from the beginning of a chunk.
    - `level="functionals"`: one step every `hop_seconds` with the 88 functionals of the `window_seconds` from there:
      means, percentiles, slopes, rates of peaks and of voiced stretches. Windows lie on a grid counted from the media's
      beginning; one that runs over the end is kept if a quarter of it is sound.

    Args:
        level: `"lld"` or `"functionals"`.
        window_seconds: length of a window of functionals.
        hop_seconds: from one window of functionals to the next.
        silence_db: steps with a root mean square below this, in dB relative to full scale, are left out.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: opensmile is not installed.

    Example:
        >>> len(EGeMAPS().names), len(EGeMAPS(level="functionals").names)
        (25, 88)
    """

    REGISTRY_NAME = "speech.egemaps"
    DEFINITION = 1
    rolling = True

    def __init__(
        self,
        *,
        level: str = "lld",
        window_seconds: float = 2.0,
        hop_seconds: float = 1.0,
        silence_db: float = -60.0,
    ) -> None:
        check_range("window_seconds", window_seconds, 0.2, 30.0)
        check_range("hop_seconds", hop_seconds, 0.05, window_seconds)
        check_range("silence_db", silence_db, -120.0, 0.0)
        if level not in _LEVELS:
            raise ValueError(f"level must be one of {_LEVELS}, not {level!r}")
        self._level, self._silence_db = level, float(silence_db)
        self._smile = _open(level)
        self.names = tuple(self._smile.feature_names)
        self.sample_rate_hz = _RATE
        self._frames, self._chunks = self._grid(window_seconds, hop_seconds)
        self.hop_samples = self._frames.hop
        self.context_seconds = context_seconds(self._chunks, _RATE)
        parameters: dict[str, Any] = {"level": level, "silence_db": silence_db}
        if level == "functionals":
            parameters |= {"window_seconds": window_seconds, "hop_seconds": hop_seconds}
        self.spec = make_spec(self.REGISTRY_NAME, "opensmile", self.DEFINITION, parameters)

    def stream(self, first_sample: int = 0) -> AudioStream:
        """A fresh stream; see `AudioExtractor.stream`."""
        return ChunkedStream(
            self,
            first_sample,
            frames=self._frames,
            chunks=self._chunks,
            encode=self._descriptors if self._level == "lld" else self._functionals,
            silence_db=self._silence_db,
        )

    def _grid(self, window_seconds: float, hop_seconds: float) -> tuple[Frames, Chunks]:
        if self._level == "lld":
            frames = Frames(_HOP, width=_SHORT, needs=_LONG)
            return frames, Chunks(round(_CHUNK_SECONDS * _RATE), round(_CONTEXT_SECONDS * _RATE))
        hop, window = round(hop_seconds * _RATE), round(window_seconds * _RATE)
        context = -(-window // hop) * hop
        return Frames(hop, width=window, needs=window // 4), Chunks(2 * context + 8 * hop, context)

    def _descriptors(self, chunks: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Chunks → `(T, 25)` each. openSMILE's last row, which it smooths over the end, is left out."""
        rows = [np.asarray(self._smile.process_signal(chunk, _RATE), np.float32) for chunk in chunks]
        return [one[: self._frames.count(len(chunk))] for one, chunk in zip(rows, chunks, strict=True)]

    def _functionals(self, chunks: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Chunks → `(T, 88)` each."""
        return [np.stack(list(self._windows(chunk))) for chunk in chunks]

    def _windows(self, chunk: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        frames = self._frames
        for step in range(frames.count(len(chunk))):
            window = chunk[step * frames.hop : step * frames.hop + frames.width]
            yield np.asarray(self._smile.process_signal(window, _RATE), np.float32)[0]


def _open(level: str) -> Any:
    try:
        import opensmile
    except (ImportError, OSError) as error:
        raise ToolError(
            f"opensmile cannot be imported ({error}): install it with pip install 'mmsa-framework[egemaps]'. Its "
            "licence (audEERING) allows research and private use, and no commercial use"
        ) from error
    levels = opensmile.FeatureLevel
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=levels.LowLevelDescriptors if level == "lld" else levels.Functionals,
    )
