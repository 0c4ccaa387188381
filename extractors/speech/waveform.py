"""`Waveform`: the samples that a pretrained speech encoder hears, for one that is trained along."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioExtractor, AudioStream, check_range, make_spec
from extractors.sequence import FeatureSequence, first_step

SAMPLE_RATE_HZ = 16000
STEP_SAMPLES = 320
"""20 ms: what wav2vec 2.0 and its kin make one step of."""


class Waveform(AudioExtractor):
    """Each step holds 20 ms of samples at 16 kHz, mono, full scale ±1, one step behind the other.

    These are what an encoder such as wav2vec 2.0, HuBERT or WavLM reads, not features; they are for encoders that are
    trained together with the head. Pauses stay in, since an encoder hears what is around them; only a clip in which no
    step reaches the floor is silent, and then there is no step at all. A rest shorter than a step is left out.

    Args:
        silence_db: a step quieter than this, in dB relative to a full-scale root mean square of 1, counts as silent.

    Raises:
        ValueError: a parameter is out of its range.
    """

    REGISTRY_NAME = "speech.waveform"
    DEFINITION = 2  # since then, a segment has its last step where it ends within that step
    raw = True
    rolling = True

    def __init__(self, *, silence_db: float = -60.0) -> None:
        check_range("silence_db", silence_db, -120.0, 0.0)
        self.sample_rate_hz, self.hop_samples = SAMPLE_RATE_HZ, STEP_SAMPLES
        self.context_seconds = STEP_SAMPLES / 2 / SAMPLE_RATE_HZ  # a step whose middle lies in a segment is whole
        self.floor = 10.0 ** (silence_db / 20.0)
        self.names = tuple(f"sample_{i}" for i in range(STEP_SAMPLES))
        self.spec = make_spec(self.REGISTRY_NAME, "av", self.DEFINITION, {"silence_db": silence_db})

    def stream(self, first_sample: int = 0) -> AudioStream:
        """See `AudioExtractor.stream`.

        Raises:
            ValueError: the first sample does not begin a step.
        """
        return _WaveformStream(self, first_sample)


class _WaveformStream(AudioStream):
    """Samples cut into steps as they come."""

    def __init__(self, extractor: Waveform, first_sample: int) -> None:
        if first_sample % STEP_SAMPLES:
            raise ValueError(f"first_sample must be a multiple of {STEP_SAMPLES}, not {first_sample}")
        self._extractor = extractor
        self._first = first_sample // STEP_SAMPLES
        self._rows: list[NDArray[np.float32]] = []
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> None:
        """See `AudioStream.push`."""
        signal = np.concatenate([self._rest, samples])
        whole = len(signal) // STEP_SAMPLES * STEP_SAMPLES
        if whole:
            self._rows.append(signal[:whole].reshape(-1, STEP_SAMPLES))
        self._rest = signal[whole:].copy()

    def finish(self) -> FeatureSequence:
        """See `AudioStream.finish`."""
        return self._sequence(self._first, math.inf)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        rate = SAMPLE_RATE_HZ / STEP_SAMPLES
        found = self._sequence(first_step(start_seconds, rate), first_step(min(end_seconds, 1e9), rate))
        return found, "" if len(found) else self.missing_reason()

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        keep_from = math.floor(before_seconds * SAMPLE_RATE_HZ / STEP_SAMPLES)
        while self._rows and self._first + len(self._rows[0]) <= keep_from:
            self._first += len(self._rows.pop(0))

    def missing_reason(self) -> str:
        """Too short for one step, or silent."""
        if not self._rows:
            return f"only {len(self._rest) / SAMPLE_RATE_HZ:.3f} s of sound, less than one step"
        return "silent"

    def _sequence(self, first: int, after: float) -> FeatureSequence:
        """The steps of these numbers, counted from the media's beginning; none where all are silent."""
        parts: list[NDArray[np.float32]] = []
        begin = self._first
        low = max(first, begin)
        for rows in self._rows:
            part = rows[max(0, low - begin) : max(0, int(min(after, begin + len(rows))) - begin)]
            parts.append(part)
            begin += len(rows)
        values = np.concatenate(parts) if parts else np.zeros((0, STEP_SAMPLES), np.float32)
        level = np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=1)) if len(values) else np.zeros(0)
        if not (level >= self._extractor.floor).any():
            return self._extractor.empty()
        start = (low + np.arange(len(values))) * STEP_SAMPLES
        times = np.stack([start, start + STEP_SAMPLES], axis=1) / SAMPLE_RATE_HZ
        return FeatureSequence(np.ascontiguousarray(values), times, self._extractor.names)
