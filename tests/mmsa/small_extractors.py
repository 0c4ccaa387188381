"""Extractors that compute what a test can compute by hand, and a corpus to go with them.

A module of its own, so that worker processes and the registries find it by name.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors import (
    AudioExtractor,
    AudioStream,
    ExtractorSpec,
    FeatureSequence,
    TextExtractor,
    Transcript,
    VisionExtractor,
    VisionStream,
)
from mmsa.corpora.clip import SPLITS, Clip, Corpus
from mmsa.tasks import Classification, Regression

CALLS: Counter[str] = Counter()
"""How many clips each modality was extracted from, in this process."""


class WordLengths(TextExtractor):
    """One step per word, in seconds from 0: its length times `factor`, and how many of its letters are upper case."""

    def __init__(self, *, factor: float = 1.0, fail_at: str = "") -> None:
        self.factor = factor
        self.fail_at = fail_at
        self.names = ("length", "capitals")
        self.spec = ExtractorSpec("small_extractors:WordLengths", "none", "1", {"factor": factor, "fail_at": fail_at})

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        CALLS["text"] += 1
        words = transcript.text.split()
        if self.fail_at.startswith("kill:") and self.fail_at.removeprefix("kill:") in words:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory is short
        if self.fail_at.startswith("gate:"):
            self._pass_gate(" ".join(one.text for one in transcript.placed(start_seconds, end_seconds)).split())
        if self.fail_at and self.fail_at in words:
            raise RuntimeError(f"met {self.fail_at}")
        values = [[len(word) * self.factor, sum(letter.isupper() for letter in word)] for word in words]
        steps = np.arange(len(words), dtype=np.float64)
        return FeatureSequence(
            np.array(values, np.float32).reshape(-1, 2), np.stack([steps, steps + 1], axis=1), self.names
        )

    def _pass_gate(self, words: list[str]) -> None:
        """Die at "crash"; at "wait" say so in a file beside the gate, and stand still until the gate is there."""
        if "crash" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        gate, end = Path(self.fail_at.removeprefix("gate:")), time.monotonic() + 300
        while "wait" in words and not gate.exists() and time.monotonic() < end:
            gate.with_suffix(".waiting").touch()
            time.sleep(0.02)


class Loudness(AudioExtractor):
    """Mean absolute amplitude of each tenth of a second; a last, shorter stretch is left out."""

    def __init__(self) -> None:
        self.names = ("loudness",)
        self.sample_rate_hz = 8000
        self.spec = ExtractorSpec("small_extractors:Loudness", "none", "1", {})

    def stream(self, first_sample: int = 0) -> AudioStream:
        CALLS["audio"] += 1
        return _LoudnessStream(self, first_sample)


class _LoudnessStream(AudioStream):
    def __init__(self, extractor: Loudness, first_sample: int) -> None:
        self._extractor, self._first = extractor, first_sample
        self._blocks: list[NDArray[np.float32]] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        self._blocks.append(samples.copy())

    def finish(self) -> FeatureSequence:
        samples = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        count = len(samples) // 800
        values = np.abs(samples[: count * 800].reshape(count, 800)).mean(axis=1, keepdims=True)
        starts = self._first / 8000 + np.arange(count) * 0.1
        return FeatureSequence(
            values.astype(np.float32), np.stack([starts, starts + 0.1], axis=1), self._extractor.names
        )


class Brightness(VisionExtractor):
    """Mean brightness of each sampled frame."""

    def __init__(self) -> None:
        self.names = ("brightness",)
        self.frames_per_second, self.max_side_pixels = 5.0, 64
        self.spec = ExtractorSpec("small_extractors:Brightness", "none", "1", {})

    def stream(self) -> VisionStream:
        CALLS["vision"] += 1
        return _BrightnessStream(self.names)


class _BrightnessStream(VisionStream):
    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._rows: list[tuple[int, float]] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        self._rows += [(index, float(image.mean())) for index in indices]

    def finish(self) -> FeatureSequence:
        values = np.array([[value] for _, value in self._rows], np.float32).reshape(-1, 1)
        starts = np.array([index / 5 for index, _ in self._rows])
        return FeatureSequence(values, np.stack([starts, starts + 0.2], axis=1), self._names)


TASKS = (Regression("sentiment", -1.0, 1.0), Classification("emotion", ("low", "high")))


def load_small(root: Path) -> Corpus:
    """`<split>-<number>-<emotion>.wav`, with the words in a `.words` file of the same name where anything is said."""
    clips = []
    for path in sorted(root.glob("*.wav")):
        split, _, emotion = path.stem.split("-")
        words = path.with_suffix(".words")
        clips.append(
            Clip(
                id=path.stem,
                split=next(name for name in SPLITS if name == split),
                labels={"sentiment": 0.5 if emotion == "high" else -0.5, "emotion": emotion},
                media=path,
                transcript=words.read_text(encoding="utf-8") if words.is_file() else None,
            )
        )
    return Corpus("small", tuple(clips), TASKS, note="A corpus of tones.")
