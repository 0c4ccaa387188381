"""What `--noise` takes: kinds of damage done to media before features are extracted, and their levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mmsa.errors import UsageError, unknown

if TYPE_CHECKING:
    from extractors.base import AudioExtractor, Extractor
    from mmsa.corpora.clip import Clip, Corpus, Split
    from mmsa.robustness.words import Vocabulary


@dataclass(frozen=True)
class Noise:
    """A kind of damage.

    Attributes:
        name: as `--noise` takes it.
        modality: which one it hits.
        axis: what its levels measure, with the unit.
        low: smallest level.
        high: largest level.
        falling: whether smaller levels are worse.
        steps_per_unit: levels times this are MLflow's steps, which are whole numbers.
    """

    name: str
    modality: str
    axis: str
    low: float
    high: float
    falling: bool = False
    steps_per_unit: int = 100

    def step(self, level: float) -> int:
        """MLflow's step for a level."""
        return round(level * self.steps_per_unit)

    def mild_first(self, levels: Sequence[float]) -> tuple[float, ...]:
        """Each level once, the mildest first.

        Raises:
            UsageError: a level is out of range.
        """
        for level in levels:
            if not self.low <= level <= self.high:
                raise UsageError(
                    f"--noise {self.name} takes levels from {self.low:g} to {self.high:g} ({self.axis}), not {level:g}"
                )
        return tuple(sorted(set(map(float, levels)), reverse=self.falling))


_SNR = "signal-to-noise ratio, dB"
NOISES = {
    noise.name: noise
    for noise in (
        Noise("audio", "audio", f"white noise: {_SNR}", -40, 100, falling=True, steps_per_unit=1),
        Noise("audio-pink", "audio", f"pink noise: {_SNR}", -40, 100, falling=True, steps_per_unit=1),
        Noise("audio-babble", "audio", f"other voices: {_SNR}", -40, 100, falling=True, steps_per_unit=1),
        Noise("vision-blur", "vision", "Gaussian blur: standard deviation, pixels", 0.1, 100),
        Noise("vision-drop", "vision", "frames dropped, share", 0, 1),
        Noise("text", "text", "words misheard: word error rate", 0, 1),
    )
}
"""Every kind, by name."""


def parse_noise(given: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """`["audio=20,10", "text=0.1"]` → levels by kind.

    Raises:
        UsageError: an unknown kind, one given twice, no levels, or one that is no number.

    Example:
        >>> parse_noise(["audio=20,10", "text=0.1"])
        {'audio': (20.0, 10.0), 'text': (0.1,)}
    """
    found: dict[str, tuple[float, ...]] = {}
    for part in given:
        name, sign, levels = part.partition("=")
        if name not in NOISES:
            raise unknown("noise", name, NOISES)
        try:
            numbers = tuple(float(level) for level in levels.split(","))
        except ValueError:
            numbers = ()
        if not sign or not numbers:
            raise UsageError(
                f"--noise takes KIND=LEVEL,LEVEL,… such as audio=20,10,0 or text=0.1,0.3, not {part!r}; levels of "
                f"{name} are its {NOISES[name].axis}"
            )
        if name in found:
            raise UsageError(f"--noise {name} is given twice: give all its levels at once, with commas between")
        found[name] = numbers
    return found


def checked_noise(wanted: Mapping[str, Sequence[float]]) -> list[tuple[Noise, tuple[float, ...]]]:
    """Kinds with their levels, the mildest first.

    Raises:
        UsageError: an unknown kind, no levels, or one out of range.
    """
    found = []
    for name, levels in wanted.items():
        if name not in NOISES:
            raise unknown("noise", name, NOISES)
        if not levels:
            raise UsageError(f"no levels are given for the noise {name!r}: they are its {NOISES[name].axis}")
        found.append((NOISES[name], NOISES[name].mild_first(levels)))
    return found


@dataclass(frozen=True)
class Damage:
    """Applies noise to a corpus under test.

    Args:
        corpus: whole, since its other splits lend voices and words.
        split: the one under test.
        seed: of all draws.
    """

    corpus: Corpus
    split: Split
    seed: int

    def apply(self, noise: Noise, level: float, corpus: Corpus, extractor: Extractor) -> tuple[Corpus, Extractor]:
        """The clips and the extractor with which the damaged features are made.

        Args:
            noise: which kind.
            level: how much.
            corpus: the clips to damage.
            extractor: of the noise's modality.

        Raises:
            UsageError: the extractor is not of the kind that this noise can stand before.
        """
        from extractors import AudioExtractor, VisionExtractor

        if noise.modality == "text":
            return self._misheard(corpus, level), extractor
        if noise.modality == "audio" and isinstance(extractor, AudioExtractor):
            return corpus, self._noisy(noise, level, extractor)
        if isinstance(extractor, VisionExtractor):
            from mmsa.robustness.frames import WorseFrames

            amount = {"drop": level} if noise.name == "vision-drop" else {"blur_pixels": level}
            return corpus, WorseFrames.around(extractor, seed=self.seed, **amount)
        raise UsageError(f"--noise {noise.name} cannot be laid under {extractor.spec.name}, which is no such extractor")

    def realised(self, noise: Noise, before: Corpus, after: Corpus) -> float | None:
        """The word error rate between transcripts; None for noise whose level holds by construction."""
        if noise.modality != "text":
            return None
        from mmsa.robustness.words import word_error_rate

        pairs = [
            (a.transcript, b.transcript) for a, b in zip(before.split(self.split), after.split(self.split), strict=True)
        ]
        return word_error_rate([said or "" for said, _ in pairs], [heard or "" for _, heard in pairs])

    def _noisy(self, noise: Noise, level: float, extractor: AudioExtractor) -> Extractor:
        from mmsa.robustness.babble import make_babble
        from mmsa.robustness.sound import NoisyAudio

        if noise.name == "audio-babble":
            voices = make_babble(self.corpus, self.split, extractor.sample_rate_hz, seed=self.seed)
            return NoisyAudio.around(extractor, "babble", level, seed=self.seed, babble=voices)
        return NoisyAudio.around(extractor, "pink" if noise.name == "audio-pink" else "white", level, seed=self.seed)

    def _misheard(self, corpus: Corpus, level: float) -> Corpus:
        """Misheard per clip, not behind the extractor: two people who say the same are not misheard alike."""
        clips = tuple(self._misheard_clip(clip, level) if clip.transcript else clip for clip in corpus.clips)
        return replace(corpus, clips=clips)

    def _misheard_clip(self, clip: Clip, level: float) -> Clip:
        """Where words have times, each phrase keeps its own; its words are spread over it."""
        from extractors.transcript import Segment, Transcript
        from mmsa.robustness.words import mishear

        def heard(said: str) -> str:
            return mishear(said, level, self._vocabulary, seed=self.seed, key=clip.id)

        if clip.timed is None:
            return replace(clip, transcript=heard(clip.transcript or ""))
        if level == 0:
            return clip
        phrases = tuple(Segment(heard(s.text), s.start_seconds, s.end_seconds, s.speaker) for s in clip.timed.segments)
        timed = Transcript(phrases, clip.timed.language)
        return replace(clip, transcript=timed.text, timed=timed)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        from mmsa.robustness.words import Vocabulary

        return Vocabulary(clip.transcript or "" for clip in self.corpus.clips)
