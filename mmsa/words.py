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
    from extractors.transcription.whisper import Whisper

T = TypeVar("T")
Span = tuple[float | None, float | None]


@dataclass(frozen=True)
class WordOptions:
    """What is done for files without a transcript, and for transcripts without times.

    Attributes:
        transcribe: a Whisper, by hub id or local folder, that recognises what is said where there is no transcript.
        language: what is spoken, as a code or an English name; None lets the model hear it.
        align: a CTC model, by hub id or local folder, that finds when the words of a transcript without times are said.
        save: a folder that transcripts made here are written to, as WebVTT; changes no number.

    Raises:
        UsageError: a folder to save to, and nothing that would make a transcript.
    """

    transcribe: str | None = None
    language: str | None = None
    align: str | None = None
    save: Path | None = None

    @property
    def listens(self) -> bool:
        """Whether a speech model may be run."""
        return self.transcribe is not None or self.align is not None

    def __post_init__(self) -> None:
        if self.save is not None and not self.listens:
            raise UsageError("--save-transcripts keeps what --transcribe or --align makes: give one of them, too")


class WordSource:
    """Makes transcripts; models are found when it is made and loaded when they are needed.

    Args:
        options: what is asked for.

    Raises:
        UsageError: a model cannot be had or does not fit; the message says what to place where.
    """

    def __init__(self, options: WordOptions) -> None:
        self.options = options
        self._code = None if options.language is None else self._built(self._language_code)
        self._whisper = None if options.transcribe is None else self._built(self._make_whisper)
        self._aligner = None if options.align is None else self._built(self._make_aligner)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the words depend on, as plain JSON values; empty where nothing is made."""
        made = {"transcribe": self._whisper, "align": self._aligner}
        parts: dict[str, Any] = {
            key: {"model": Path(str(getattr(self.options, key))).name, "fingerprint": one.spec.fingerprint}
            for key, one in made.items()
            if one is not None
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
        said = f"the words were recognised by {Path(str(self.options.transcribe)).name}"
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

    def _make_whisper(self) -> Whisper:
        from extractors.transcription.whisper import Whisper

        return Whisper(model=str(self.options.transcribe), language=self.options.language)

    def _make_aligner(self) -> CtcAligner:
        from extractors.alignment.ctc import CtcAligner

        return CtcAligner(model=str(self.options.align))

    @staticmethod
    def _built(make: Callable[[], T]) -> T:
        import extractors as ex

        try:
            return make()
        except ex.MediaError:
            raise
        except (ValueError, ImportError, ex.ToolError) as error:
            raise UsageError(str(error)) from error


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
