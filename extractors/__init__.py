"""Media in, feature sequences out: speech, face and text, each step with its time.

Example:
    >>> import extractors
    >>> reader = extractors.build("text.lexical")
    >>> extraction = extractors.extract(None, {"text": reader}, transcript="I love it!")
    >>> len(extraction.sequences["text"])
    3
"""

from __future__ import annotations

from extractors.base import AudioExtractor, AudioStream, Extractor, TextExtractor, VisionExtractor, VisionStream
from extractors.errors import MediaError, ToolError
from extractors.extraction import Extraction, extract, extract_texts
from extractors.live import LiveCounts, LiveReader, warm_up, watch
from extractors.live_source import LiveSource
from extractors.registry import available, build, rebuild
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.transcript import Segment, TimedWord, Transcript, read_transcript, write_vtt
from extractors.transcription.transcribe import transcribe
from extractors.transcription.whisper import Whisper
from extractors.windows import Sliding, Window, WindowReader, extract_windows

__all__ = [
    "AudioExtractor",
    "AudioStream",
    "Extraction",
    "Extractor",
    "ExtractorSpec",
    "FeatureSequence",
    "LiveCounts",
    "LiveReader",
    "LiveSource",
    "MediaError",
    "Segment",
    "Sliding",
    "TextExtractor",
    "TimedWord",
    "ToolError",
    "Transcript",
    "VisionExtractor",
    "VisionStream",
    "Whisper",
    "Window",
    "WindowReader",
    "available",
    "build",
    "extract",
    "extract_texts",
    "extract_windows",
    "read_transcript",
    "rebuild",
    "transcribe",
    "warm_up",
    "watch",
    "write_vtt",
]
