"""`SpeechClassifier`: what a pretrained audio classifier says of the sound of a clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import AudioExtractor, AudioStream, check_range, make_spec
from extractors.classification import Classifier, labels_of
from extractors.sequence import FeatureSequence


class SpeechClassifier(AudioExtractor):
    """One step per piece of sound: the probability of each label of a classifier of `transformers`.

    A clip is cut from its start into pieces of `piece_seconds`, so that the memory of wav2vec 2.0, HuBERT, WavLM and
    their like is bounded; the last piece is what is left, if that is at least `shortest_seconds`. The sound has the
    model's own sampling rate and is prepared by its own feature extractor. Pieces of different length never share a
    batch, so nothing is averaged over padding. Pieces whose root mean square lies below `silence_db` give no step.

    Windows of a long file are cut each from its own start: they get what a clip of just that stretch gets.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and
            `preprocessor_config.json`; `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
        piece_seconds: the longest stretch that is classified at once.
        shortest_seconds: shorter stretches are left out.
        silence_db: pieces quieter than this, in dB relative to full scale, give no step.
        batch_size: pieces per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: the model cannot be had, names no labels or no sampling rate, or the folder is not the one the hash
            names.
    """

    REGISTRY_NAME = "speech.classifier"
    DEFINITION = 1
    uses_gpu = True
    rolling = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        piece_seconds: float = 10.0,
        shortest_seconds: float = 0.5,
        silence_db: float = -60.0,
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        check_range("piece_seconds", piece_seconds, 1.0, 60.0)
        check_range("shortest_seconds", shortest_seconds, 0.1, piece_seconds)
        check_range("silence_db", silence_db, -120.0, 0.0)
        check_range("batch_size", batch_size, 1, 4096)
        self._device, self.batch_size, self._silence_db = device, int(batch_size), float(silence_db)
        found = pretrained.find(model, revision, weights_sha256)
        self._source = found.source
        self.names = labels_of(found.config, model)
        self._prepare = pretrained.load("audio preprocessor", "AutoFeatureExtractor", found.source)
        self.sample_rate_hz = int(self._prepare.sampling_rate)
        self.shortest_seconds = float(shortest_seconds)
        self.piece_samples = round(piece_seconds * self.sample_rate_hz)
        self.shortest_samples = round(shortest_seconds * self.sample_rate_hz)
        parameters = {
            **found.identity,
            "piece_seconds": piece_seconds,
            "shortest_seconds": shortest_seconds,
            "silence_db": silence_db,
        }
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, parameters, found.hints)
        self._classifier: Classifier | None = None

    def load(self) -> None:
        """See `Extractor.load`."""
        if self._classifier is None:
            self._classifier = Classifier(self._source, "AutoModelForAudioClassification", self.names, self._device)

    def stream(self, first_sample: int = 0) -> AudioStream:
        """A fresh stream; the first one loads the model.

        Raises:
            ToolError: the weights cannot be had or used.
        """
        self.load()
        return _PieceStream(self, first_sample)

    def is_loud(self, piece: NDArray[np.float32]) -> bool:
        """Whether a piece of sound is no silence."""
        level = float(np.sqrt(np.mean(np.square(piece, dtype=np.float64))))
        return bool(level >= 10.0 ** (self._silence_db / 20.0))

    def classify(self, pieces: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Pieces of one length `(N,)` → `(P, L)` probabilities."""
        self.load()
        assert self._classifier is not None
        inputs: Any = self._prepare(list(pieces), sampling_rate=self.sample_rate_hz, return_tensors="pt")
        return self._classifier.probabilities(dict(inputs))


class _PieceStream(AudioStream):
    """Classifies pieces as soon as they are whole, or, where windows are asked for, keeps the sound that they need."""

    def __init__(self, extractor: SpeechClassifier, first_sample: int) -> None:
        self._extractor, self._first = extractor, first_sample
        self._held: list[NDArray[np.float32]] = []
        self._held_first = first_sample
        self._after = first_sample
        self._steps: list[tuple[int, int, NDArray[np.float32]]] = []
        self._windows = False

    def expect_windows(self) -> None:
        """See `RollingStream.expect_windows`."""
        self._windows = True

    def push(self, samples: NDArray[np.float32]) -> None:
        """See `AudioStream.push`."""
        self._held.append(samples)
        self._after += len(samples)
        together = self._extractor.piece_samples * self._extractor.batch_size
        while not self._windows and self._after - self._held_first >= together:
            self._take(self._held_first + together)

    def finish(self) -> FeatureSequence:
        """One step per loud piece."""
        self._take(self._after)
        return self._sequence(self._steps)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        rate = self._extractor.sample_rate_hz
        first = max(self._held_first, math.floor(start_seconds * rate))
        after = self._after if math.isinf(end_seconds) else min(self._after, math.ceil(end_seconds * rate))
        found = self._sequence(list(self._classified(first, after))).between(start_seconds, end_seconds)
        return found, "" if len(found) else self._reason(after - first)

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        self._drop(math.floor(before_seconds * self._extractor.sample_rate_hz))

    def missing_reason(self) -> str:
        """Too short, or silent."""
        return self._reason(self._after - self._first)

    def _reason(self, samples: int) -> str:
        if samples >= self._extractor.shortest_samples:
            return "silent"
        heard = max(0, samples) / self._extractor.sample_rate_hz
        return f"only {heard:.2f} s of sound, less than the {self._extractor.shortest_seconds:g} s that are classified"

    def _take(self, after: int) -> None:
        self._steps += self._classified(self._held_first, after)
        self._drop(after)

    def _drop(self, before: int) -> None:
        """Let go of all sound before a sample."""
        while self._held and self._held_first + len(self._held[0]) <= before:
            self._held_first += len(self._held.pop(0))
        if self._held and before > self._held_first:
            self._held[0] = self._held[0][before - self._held_first :]
            self._held_first = before

    def _classified(self, first: int, after: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """First and after-last sample and probabilities of each loud piece."""
        if after <= first:
            return
        sound = np.concatenate(self._held)[first - self._held_first : after - self._held_first]
        length, shortest = self._extractor.piece_samples, self._extractor.shortest_samples
        starts = [at for at in range(0, len(sound), length) if len(sound) - at >= shortest]
        loud = [at for at in starts if self._extractor.is_loud(sound[at : at + length])]
        whole = [at for at in loud if at + length <= len(sound)]
        for place in range(0, len(whole), self._extractor.batch_size):
            yield from self._batch(sound, first, whole[place : place + self._extractor.batch_size])
        yield from self._batch(sound, first, loud[len(whole) :])

    def _batch(
        self, sound: NDArray[np.float32], first: int, starts: Sequence[int]
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        if not starts:
            return
        pieces = [sound[at : at + self._extractor.piece_samples] for at in starts]
        for at, piece, row in zip(starts, pieces, self._extractor.classify(pieces), strict=True):
            yield first + at, first + at + len(piece), row

    def _sequence(self, steps: Sequence[tuple[int, int, NDArray[np.float32]]]) -> FeatureSequence:
        if not steps:
            return self._extractor.empty()
        times = np.array([step[:2] for step in steps], np.float64) / self._extractor.sample_rate_hz
        return FeatureSequence(np.stack([step[2] for step in steps]), times, self._extractor.names)
