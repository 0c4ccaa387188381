"""Where the words of a file come from when nothing with times lies beside it: speech recognition, forced alignment."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmsa.errors import UsageError

if TYPE_CHECKING:
    from extractors import Transcript
    from extractors.alignment.ctc import CtcAligner
    from extractors.spec import ExtractorSpec
    from extractors.transcription.whisper import Whisper

T = TypeVar("T")
M = TypeVar("M", "Whisper", "CtcAligner")
Span = tuple[float | None, float | None]

NONE = "none"
"""In the place of a model: do not do that, although the trained model's own way would be to."""


@dataclass(frozen=True)
class KeptModel:
    """A speech model that a corpus was listened to with, as a bundle keeps it.

    Attributes:
        name: what people know it by.
        spec: canonical JSON of its `ExtractorSpec`, with hints that say where it lies.
    """

    name: str
    spec: str

    def arguments(self) -> dict[str, Any]:
        """What it is built again with."""
        from extractors.spec import ExtractorSpec

        spec = ExtractorSpec.from_json(self.spec)
        return {**spec.parameters, **spec.hints}


@dataclass(frozen=True)
class WordOptions:
    """What is done for files without a transcript, and for transcripts without times.

    Attributes:
        transcribe: a Whisper, by hub id or local folder, that recognises what is said where there is no transcript; or
            `"none"`.
        language: what is spoken, as a code or an English name; None lets the model hear it.
        align: a CTC model, by hub id or local folder, that finds when the words of a transcript without times are said;
            or `"none"`.
        save: a folder that transcripts made here are written to, as WebVTT; changes no number.
    """

    transcribe: str | KeptModel | None = None
    language: str | None = None
    align: str | KeptModel | None = None
    save: Path | None = None

    @property
    def models(self) -> dict[str, str | KeptModel]:
        """The speech models that may be run, by what they do."""
        chosen = {"transcribe": self.transcribe, "align": self.align}
        return {key: model for key, model in chosen.items() if model is not None and model != NONE}

    @property
    def listens(self) -> bool:
        """Whether a speech model may be run."""
        return bool(self.models)

    def over(self, own: WordOptions) -> WordOptions:
        """These options where they are given, and elsewhere those that a model was trained with.

        Raises:
            UsageError: a folder to save to, and nothing that would make a transcript.
        """
        chosen = {key: getattr(self, key) or getattr(own, key) for key in ("transcribe", "language", "align")}
        both = WordOptions(**chosen, save=self.save)
        if both.save is not None and not both.listens:
            raise UsageError("--save-transcripts keeps what --transcribe or --align makes: give one of them, too")
        return both


class WordSource:
    """Makes transcripts; models are found when it is made and loaded when they are needed.

    Args:
        options: what is asked for.

    Raises:
        UsageError: a model cannot be had or does not fit; the message says what to place where.
    """

    def __init__(self, options: WordOptions) -> None:
        self.options, models = options, options.models
        self._code = None if options.language is None else self._built(self._language_code)
        self._whisper = (
            self._built(lambda: self._make_whisper(models["transcribe"])) if "transcribe" in models else None
        )
        self._aligner = self._built(lambda: self._make_aligner(models["align"])) if "align" in models else None

    @cached_property
    def specs(self) -> dict[str, ExtractorSpec]:
        """Of the speech models, by what they do: `"transcribe"`, `"align"`."""
        made = {"transcribe": self._whisper, "align": self._aligner}
        return {key: one.spec for key, one in made.items() if one is not None}

    @cached_property
    def names(self) -> dict[str, str]:
        """What people know the speech models by, by what they do."""
        models = self.options.models
        return {key: own.name if isinstance(own, KeptModel) else Path(own).name for key, own in models.items()}

    def kept(self) -> WordOptions:
        """The options with which a model that was trained on these words makes them again."""
        models = {key: KeptModel(self.names[key], spec.to_json()) for key, spec in self.specs.items()}
        return WordOptions(models.get("transcribe"), self._code, models.get("align"))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the words depend on, as plain JSON values; empty where nothing is made."""
        parts: dict[str, Any] = {
            key: {"model": self.names[key], "fingerprint": spec.fingerprint} for key, spec in self.specs.items()
        }
        if self._code is not None:
            parts["language"] = self._code
        return {"words": parts} if parts else {}

    def find(self, path: Path, transcript: Transcript, span: Span) -> tuple[Transcript, tuple[str, ...]]:
        """The transcript of a file: as it is, aligned, or recognised; and what a user should know of it.

        Args:
            path: the media file.
            transcript: what was given or lies beside it; may be empty.
            span: the part of the file that is scored.

        Raises:
            UsageError: a model cannot be loaded.
            extractors.MediaError: the file cannot be read.
        """
        if self._code is not None and transcript.language is None:
            transcript = replace(transcript, language=self._code)
        if transcript and any(segment.start_seconds is not None for segment in transcript.segments):
            return transcript, ()
        if transcript:
            return self._aligned(path, transcript, span) if self._aligner is not None else (transcript, ())
        return self._recognised(path, span) if self._whisper is not None else (transcript, ())

    def _recognised(self, path: Path, span: Span) -> tuple[Transcript, tuple[str, ...]]:
        from extractors.transcription.transcribe import transcribe

        assert self._whisper is not None
        whisper = self._whisper
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            found = self._built(lambda: transcribe(path, whisper, start_seconds=span[0], end_seconds=span[1]))
        notes = [str(one.message) for one in caught if "alignment_heads" in str(one.message)]
        said = f"the words were recognised by {self.names['transcribe']}"
        notes.insert(0, f"{said} ({found.language})" if found.language else said)
        if not found:
            notes[0] = "no speech was recognised"
        self._save(path, found, span)
        return found, tuple(notes)

    def _aligned(self, path: Path, transcript: Transcript, span: Span) -> tuple[Transcript, tuple[str, ...]]:
        assert self._aligner is not None
        aligner = self._aligner
        found, notes = self._built(lambda: aligner.align(path, transcript, start_seconds=span[0], end_seconds=span[1]))
        if found is not transcript:
            self._save(path, found, span)
        return found, notes

    def _save(self, path: Path, transcript: Transcript, span: Span) -> None:
        if self.options.save is None or not transcript:
            return
        from extractors.transcript import write_vtt

        place = saved_path(self.options.save, path, span)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_vtt(transcript, place)
        except OSError as error:
            raise UsageError(f"the transcript cannot be saved to {place}: {error}") from error

    def _language_code(self) -> str:
        from extractors.transcription.whisper import language_code

        return language_code(str(self.options.language))

    def _make_whisper(self, model: str | KeptModel) -> Whisper:
        from extractors.transcription.whisper import Whisper

        own = {"model": model} if isinstance(model, str) else model.arguments()
        spoken = {"language": self.options.language} if self.options.language is not None else {}
        return _of_same_version(model, Whisper(**{**own, **spoken}))

    def _make_aligner(self, model: str | KeptModel) -> CtcAligner:
        from extractors.alignment.ctc import CtcAligner

        own = {"model": model} if isinstance(model, str) else model.arguments()
        return _of_same_version(model, CtcAligner(**own))

    @staticmethod
    def _built(make: Callable[[], T]) -> T:
        import extractors as ex

        try:
            return make()
        except ex.MediaError:
            raise
        except (ValueError, ImportError, ex.ToolError) as error:
            raise UsageError(str(error)) from error


def _of_same_version(model: str | KeptModel, built: M) -> M:
    """What was built, with a warning where the library that it runs in is another than the one of a bundle."""
    from extractors.spec import ExtractorSpec

    if isinstance(model, KeptModel) and (spec := ExtractorSpec.from_json(model.spec)).version != built.spec.version:
        warnings.warn(
            f"{model.name}: the model was trained on words that were made with {spec.tool} {spec.version}, here is "
            f"{built.spec.tool} {built.spec.version}; words may differ",
            stacklevel=2,
        )
    return built


@cache
def word_source(options: WordOptions) -> WordSource:
    """The source of some options, made once in each process.

    Raises:
        UsageError: see `WordSource`.
    """
    return WordSource(options)


def saved_path(folder: Path, path: Path, span: Span) -> Path:
    """Where the transcript of a file is saved: its name, and a few digits of where it lies, for two may have one name.

    Example:
        >>> saved_path(Path("out"), Path("/videos/talk.mp4"), (None, None)).name
        'talk-d45efaca.vtt'
    """
    where = f"{path.absolute()}{span if span != (None, None) else ''}"
    return folder / f"{path.stem}-{hashlib.sha256(where.encode()).hexdigest()[:8]}.vtt"
