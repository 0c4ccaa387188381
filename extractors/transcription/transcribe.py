"""`transcribe`: the words of a file by speech recognition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extractors.listening import listen
from extractors.transcript import Transcript
from extractors.transcription.whisper import Whisper


def transcribe(
    path: str | Path,
    model: str | Whisper,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    **options: Any,
) -> Transcript:
    """Recognise what is said in a file, in memory that does not grow with it.

    Args:
        path: the media file.
        model: a Whisper by hub id or local folder, or one that was built and serves many files.
        start_seconds: listen only to what comes after; None is the beginning.
        end_seconds: listen only to what comes before; None is the end.
        options: of `Whisper`, where `model` is a name: `language`, `device` and others.

    Returns:
        Phrases with the times of their words, on the media's clock; empty where there is no sound or nobody speaks.

    Raises:
        MediaError: the file cannot be used.
        ToolError: transformers is missing or the model cannot be had.
        ValueError: an option that does not fit; or options beside a model that is built already.

    Example:
        >>> transcribe("talk.mp4", "openai/whisper-small", language="en").text  # doctest: +SKIP
        'I could not be happier.'
    """
    if isinstance(model, Whisper) and options:
        raise ValueError(f"{', '.join(options)}: give options to Whisper, which is built already, or its name as model")
    whisper = model if isinstance(model, Whisper) else Whisper(model=model, **options)
    stream = whisper.stream(start_seconds or 0.0)
    listen(path, whisper.sample_rate_hz, stream.push, start_seconds=start_seconds, end_seconds=end_seconds)
    return stream.finish()
