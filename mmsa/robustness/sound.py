"""Noise added to the sound of a clip before its features are extracted."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import extractors as ex
from extractors import AudioExtractor, AudioStream, ExtractorSpec, FeatureSequence

Colour = Literal["white", "pink", "babble"]
COLOURS: tuple[Colour, ...] = get_args(Colour)

DEFINITION = 1
"""Raised by one whenever the arithmetic here changes."""

_BLOCK_SAMPLES = 1 << 16
_SPOOL_BYTES = 1 << 24
# Poles and zeros alternate along the frequency axis so that the response falls by 3 dB per octave; J. O. Smith,
# "Spectral Audio Signal Processing", W3K Publishing 2011, "Example: Synthesis of 1/F Noise (Pink Noise)".
_PINK_B = (0.049922035, -0.095993537, 0.050612699, -0.004408786)
_PINK_A = (1.0, -2.494956002, 2.017265875, -0.522189400)
_PINK_SETTLES_SAMPLES = 4096


class NoisyAudio(AudioExtractor):
    """Another audio extractor, listening to the clip with noise over it.

    The noise is scaled to the signal-to-noise ratio asked for exactly: both powers are means over everything that is
    decoded for the clip (a segment's surroundings that the extractor needs are part of it, pauses too). Samples may
    exceed full scale; they are not clipped. A clip that is silent throughout has no such ratio and is left as it is.
    The noise follows from the seed and the clip's own samples alone.

    Args:
        inner: spec of the extractor that listens, without hints.
        colour: `"white"`, `"pink"` (power falls by 3 dB per octave) or `"babble"` (other voices).
        snr_db: 10 · log10 of the clip's mean power over the noise's.
        seed: another seed is other noise.
        babble_digest: of the voices' samples.
        inner_hints: the hints of `inner`.
        babble: `.npy` file of the voices, `(N,)` float32 at the inner extractor's sample rate.

    Raises:
        ValueError: the inner extractor does not listen, an unknown colour, or babble without its file.
    """

    def __init__(
        self,
        *,
        inner: Mapping[str, Any],
        colour: str,
        snr_db: float,
        seed: int = 0,
        babble_digest: str | None = None,
        inner_hints: Mapping[str, Any] | None = None,
        babble: str | None = None,
    ) -> None:
        listener = ex.rebuild(ExtractorSpec.from_dict({**inner, "hints": dict(inner_hints or {})}))
        if not isinstance(listener, AudioExtractor):
            raise ValueError(f"noise is added to what an audio extractor hears, not to {listener.modality}")
        if colour not in COLOURS:
            raise ValueError(f"colour must be one of {', '.join(COLOURS)}, not {colour!r}")
        if (colour == "babble") != (babble is not None and babble_digest is not None):
            raise ValueError("babble noise, and no other, comes with a file of voices and its digest")
        self.inner, self.colour, self.snr_db, self.seed = listener, colour, float(snr_db), seed
        self.names = listener.names
        self.sample_rate_hz, self.hop_samples = listener.sample_rate_hz, listener.hop_samples
        self.context_seconds = listener.context_seconds
        self.voices: NDArray[np.float32] | None = (
            None if babble is None else np.load(babble, mmap_mode="r", allow_pickle=False)
        )
        parameters = {"inner": dict(inner), "colour": colour, "snr_db": self.snr_db, "seed": seed}
        self.spec = ExtractorSpec(
            f"{__name__}:{type(self).__name__}",
            listener.spec.tool,
            f"{listener.spec.version}+{DEFINITION}",
            {**parameters, **({"babble_digest": babble_digest} if babble_digest is not None else {})},
            {"inner_hints": dict(inner_hints or {}), **({"babble": babble} if babble is not None else {})},
        )

    @classmethod
    def around(
        cls, listener: AudioExtractor, colour: Colour, snr_db: float, *, seed: int = 0, babble: Path | None = None
    ) -> NoisyAudio:
        """Noise over what an extractor hears; `babble` is a file as `mmsa.robustness.babble` makes it."""
        spec = listener.spec.to_dict()
        hints = spec.pop("hints", {})
        voices = {} if babble is None else {"babble": str(babble), "babble_digest": _file_digest(babble)}
        return cls(inner=spec, inner_hints=hints, colour=colour, snr_db=snr_db, seed=seed, **voices)

    def stream(self, first_sample: int = 0) -> AudioStream:
        """See `AudioExtractor.stream`."""
        return _NoisyStream(self, self.inner.stream(first_sample))


class _NoisyStream(AudioStream):
    """Keeps the clip, on the disk where it is long, since its power is only known at its end."""

    def __init__(self, extractor: NoisyAudio, inner: AudioStream) -> None:
        self._extractor, self._inner = extractor, inner
        self._kept: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - closed in finish
        self._energy = 0.0
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def push(self, samples: NDArray[np.float32]) -> None:
        """See `AudioStream.push`."""
        data = np.ascontiguousarray(samples, np.float32)
        self._energy += float(np.square(data, dtype=np.float64).sum())
        self._count += len(data)
        self._digest.update(data.tobytes())
        self._kept.write(data.tobytes())

    def finish(self) -> FeatureSequence:
        """See `AudioStream.finish`."""
        try:
            for block in self._noisy():
                self._inner.push(block)
        finally:
            self._kept.close()
        return self._inner.finish()

    def missing_reason(self) -> str:
        """See `AudioStream.missing_reason`."""
        return self._inner.missing_reason()

    def _noisy(self) -> Iterator[NDArray[np.float32]]:
        loud = sum(float(np.square(block).sum()) for block in self._noise()) if self._energy else 0.0
        gain = math.sqrt(self._energy / loud / 10 ** (self._extractor.snr_db / 10)) if loud else 0.0
        self._kept.seek(0)
        for block in self._noise():
            clean = np.frombuffer(self._kept.read(4 * len(block)), np.float32)
            yield (clean + gain * block).astype(np.float32)

    def _noise(self) -> Iterator[NDArray[np.float64]]:
        """The same noise at every call, as long as the clip."""
        words = np.frombuffer(self._digest.digest(), np.uint32)
        generator = np.random.default_rng([self._extractor.seed, *(int(word) for word in words)])
        return noise_blocks(self._extractor.colour, self._count, generator, self._extractor.voices)


def noise_blocks(
    colour: str, count: int, generator: np.random.Generator, voices: NDArray[np.float32] | None = None
) -> Iterator[NDArray[np.float64]]:
    """Noise of any loudness, `count` samples in blocks.

    Args:
        colour: one of `COLOURS`.
        count: how many samples.
        generator: decides the noise; for babble, where in the recording it begins.
        voices: `(N,)`, repeated as often as needed; for babble alone.
    """
    from scipy.signal import lfilter

    state = np.zeros(len(_PINK_A) - 1)
    if colour == "pink":
        _, state = lfilter(_PINK_B, _PINK_A, generator.standard_normal(_PINK_SETTLES_SAMPLES), zi=state)
    at = int(generator.integers(len(voices))) if voices is not None else 0
    for start in range(0, count, _BLOCK_SAMPLES):
        size = min(_BLOCK_SAMPLES, count - start)
        if colour == "babble" and voices is not None:
            yield np.take(voices, np.arange(at + start, at + start + size), mode="wrap").astype(np.float64)
        elif colour == "pink":
            block, state = lfilter(_PINK_B, _PINK_A, generator.standard_normal(size), zi=state)
            yield block
        else:
            yield generator.standard_normal(size)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
