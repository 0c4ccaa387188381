"""`Whisper`: what is said in a recording, and when, by any Whisper model of `transformers`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import check_range, make_spec
from extractors.errors import ToolError
from extractors.transcript import Segment, Transcript
from extractors.transcription.phrases import Word, phrases
from extractors.transcription.stretches import Stretch, StretchCutter


class Whisper:
    """Speech recognition with times of words (Radford et al. 2022).

    Sound is cut at pauses into stretches of at most the model's 30 s (`StretchCutter`); silence is left out and never
    given to the model, which would make words up for it. Each stretch is decoded on its own and greedily, so the same
    sound gives the same words; there is no fallback to sampling and no memory of the stretch before. Times of words
    come from the cross-attention of the heads that the checkpoint's `generation_config.json` names (`alignment_heads`),
    by dynamic time warping; a checkpoint that names none gives times of phrases only, and a warning says so.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `generation_config.json`,
            `model.safetensors`, `preprocessor_config.json` and the tokenizer's files; or `"package:NAME/FOLDER"`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
        language: what is spoken, as a code (`"en"`) or an English name (`"english"`); None lets a multilingual model
            hear it in the first stretch of each file.
        silence_db: what is quieter than this, in dB relative to full scale, is silence.
        batch_size: stretches that are decoded together; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range, or the model does not know the language.
        ToolError: transformers is missing, the model cannot be had or is no Whisper, or the folder is not the one the
            hash names.
    """

    NAME = "transcription.whisper"
    DEFINITION = 1

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        language: str | None = None,
        silence_db: float = -50.0,
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        check_range("silence_db", silence_db, -120.0, 0.0)
        check_range("batch_size", batch_size, 1, 4096)
        found = pretrained.find(model, revision, weights_sha256)
        if found.config.model_type != "whisper":
            raise ToolError(f"{found.source.name}: a model of the type {found.config.model_type!r}, not a Whisper")
        self._source, self._device, self._batch_size = found.source, device, int(batch_size)
        self._silence_db = float(silence_db)
        self._prepare = pretrained.load("feature extractor", "AutoFeatureExtractor", self._source)
        self.sample_rate_hz = int(self._prepare.sampling_rate)
        self.longest_seconds = self._prepare.n_samples / self.sample_rate_hz
        self.language = None if language is None else language_code(language)
        self._pipeline: Any = None
        parameters = {**found.identity, "language": self.language, "silence_db": silence_db}
        self.spec = make_spec(self.NAME, "transformers", self.DEFINITION, parameters, found.hints)

    def stream(self, start_seconds: float = 0.0) -> WhisperStream:
        """A fresh recognition of sound that begins at `start_seconds`; the first one loads the model.

        Raises:
            ToolError: a part of the model cannot be had.
            ValueError: the model does not know the language.
        """
        if self._pipeline is None:
            self._pipeline = self._load()
        return WhisperStream(self, start_seconds)

    def transcribe_samples(self, samples: NDArray[np.float32]) -> Transcript:
        """What is said in a whole signal in memory: `(N,)`, mono, at `sample_rate_hz`."""
        stream = self.stream()
        stream.push(np.asarray(samples, np.float32))
        return stream.finish()

    def cutter(self) -> StretchCutter:
        """A fresh cutter for the sound of one recording."""
        return StretchCutter(self.sample_rate_hz, self.longest_seconds, silence_db=self._silence_db)

    @property
    def batch_size(self) -> int:
        """Stretches that are decoded together."""
        return self._batch_size

    def hear_language(self, stretch: Stretch) -> str | None:
        """The code of the language spoken in a stretch; None where the model knows but one."""
        config = self._pipeline.model.generation_config
        if not getattr(config, "is_multilingual", False) or not getattr(config, "lang_to_id", None):
            return None
        features = self._prepare(stretch.samples, sampling_rate=self.sample_rate_hz, return_tensors="pt")
        chosen = self._pipeline.model.detect_language(features["input_features"].to(self._pipeline.model.device))
        names = {number: name for name, number in config.lang_to_id.items()}
        return str(names[int(chosen.flatten()[0])]).strip("<|>")

    def recognise(self, stretches: Sequence[Stretch], language: str | None) -> Iterator[list[Segment | Word]]:
        """What is said in each stretch: words, or segments where the model has no times of words."""
        config = self._pipeline.model.generation_config
        by_word = bool(getattr(config, "alignment_heads", None))
        options: dict[str, Any] = {}
        if getattr(config, "is_multilingual", False):
            options = {"task": "transcribe"} | ({"language": language} if language else {})
        sounds = [{"raw": stretch.samples, "sampling_rate": self.sample_rate_hz} for stretch in stretches]
        with pretrained.without_load_report():  # it tells of options that transformers gives to itself
            found = self._pipeline(
                sounds,
                batch_size=self._batch_size,
                return_timestamps="word" if by_word else True,
                generate_kwargs=options,
            )
        for stretch, one in zip(stretches, found, strict=True):
            yield [self._placed(piece, stretch, by_word) for piece in one["chunks"] if piece["text"].strip()]

    def _placed(self, piece: dict[str, Any], stretch: Stretch, by_word: bool) -> Segment | Word:
        """A piece of the result on the clock of the sound pushed, within its stretch."""
        first = stretch.first_sample / self.sample_rate_hz
        length = len(stretch.samples) / self.sample_rate_hz
        start, end = piece["timestamp"]
        start = min(max(0.0, start or 0.0), length)
        end = length if end is None else min(max(start, end), length)
        kind = Word if by_word else Segment
        text = piece["text"] if by_word else piece["text"].strip()
        return kind(text, first + float(start), first + float(end))

    def _load(self) -> Any:
        import transformers

        tokenizer = pretrained.load("tokenizer", "AutoTokenizer", self._source)
        model = pretrained.load_weights(
            "AutoModelForSpeechSeq2Seq",
            self._source,
            advice="give a Whisper that was trained to transcribe",
            attn_implementation="eager",  # times of words are read from the attention
        )
        self._check_language(model.generation_config)
        if not getattr(model.generation_config, "alignment_heads", None):
            warnings.warn(
                f"{self._source.name}: its generation_config.json names no alignment_heads, so only phrases have "
                "times and their words share them",
                stacklevel=4,
            )
        return transformers.pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=tokenizer,
            feature_extractor=self._prepare,
            device=pretrained.chosen_device(self._device),
        )

    def _check_language(self, config: Any) -> None:
        if self.language is None:
            return
        if not getattr(config, "is_multilingual", False):
            if self.language != "en":
                raise ValueError(f"{self._source.name} knows English only, not {self.language!r}: give another model")
            return
        known = sorted(name.strip("<|>") for name in config.lang_to_id)
        if self.language not in known:
            raise ValueError(f"{self._source.name} knows the languages {', '.join(known)}, not {self.language!r}")


class WhisperStream:
    """One recording, fed in blocks of any size."""

    def __init__(self, whisper: Whisper, start_seconds: float) -> None:
        self._whisper, self._start = whisper, start_seconds
        self._cutter = whisper.cutter()
        self._waiting: list[Stretch] = []
        self._segments: list[Segment] = []
        self._language = whisper.language

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples: `(N,)`, mono."""
        for stretch in self._cutter.push(samples):
            self._take(stretch)

    def finish(self) -> Transcript:
        """The transcript of all samples pushed; called once."""
        for stretch in self._cutter.finish():
            self._take(stretch)
        self._decode()
        return Transcript(tuple(self._segments), self._language)

    def _take(self, stretch: Stretch) -> None:
        self._waiting.append(stretch)
        if len(self._waiting) >= self._whisper.batch_size:
            self._decode()

    def _decode(self) -> None:
        if not self._waiting:
            return
        if self._language is None:
            self._language = self._whisper.hear_language(self._waiting[0])
        for pieces in self._whisper.recognise(self._waiting, self._language):
            whole = [one for one in pieces if isinstance(one, Segment)]
            found = [*whole, *phrases(one for one in pieces if isinstance(one, Word))]
            self._segments += [_later(segment, self._start) for segment in found]
        self._waiting = []


def _later(segment: Segment, seconds: float) -> Segment:
    """The segment, moved from the clock of the sound pushed to the media's."""
    if not seconds or segment.start_seconds is None or segment.end_seconds is None:
        return segment
    words = tuple(
        replace(word, start_seconds=word.start_seconds + seconds, end_seconds=word.end_seconds + seconds)
        for word in segment.words
    )
    return replace(
        segment,
        start_seconds=segment.start_seconds + seconds,
        end_seconds=segment.end_seconds + seconds,
        words=words,
    )


def language_code(language: str) -> str:
    """The ISO 639-1 code of a language given by code or English name, as Whisper knows them.

    Raises:
        ValueError: no such language.

    Example:
        >>> language_code("German")
        'de'
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    known = language.lower()
    if known in LANGUAGES:
        return known
    if known in TO_LANGUAGE_CODE:
        return str(TO_LANGUAGE_CODE[known])
    raise ValueError(f"language must be a code such as 'en' or an English name such as 'english', not {language!r}")
