"""What is said in a clip: `Transcript`, and reading it from subtitle or text files."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SUBTITLES = {".srt", ".vtt"}
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
# The reader of subtitles drops WebVTT's voices: they travel through it between two characters that no text has.
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^<>]+)>")
_CARRIED = re.compile("\ue000([^\ue001]*)\ue001")
_NAMED = re.compile(r"\s*([^\W\d_][\w .'’-]{0,39}?)\s?:\s+\S")


@dataclass(frozen=True)
class Segment:
    """A stretch of speech.

    Attributes:
        text: the words.
        start_seconds: when it starts on the media's clock; None where unknown.
        end_seconds: when it ends; None where unknown.
        speaker: who speaks, as subtitles name them (see `read_transcript`); None where unknown.

    Raises:
        ValueError: only one of the two times is given, or the end lies before the start.
    """

    text: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    speaker: str | None = None

    def __post_init__(self) -> None:
        if (self.start_seconds is None) != (self.end_seconds is None):
            raise ValueError(f"segment {self.text[:30]!r}: give both start_seconds and end_seconds, or neither")
        if self.start_seconds is None or self.end_seconds is None:
            return
        if not 0 <= self.start_seconds <= self.end_seconds < float("inf"):
            raise ValueError(
                f"segment {self.text[:30]!r}: needs 0 <= start <= end, not {self.start_seconds} to {self.end_seconds} s"
            )


@dataclass(frozen=True)
class Transcript:
    """What is said in a clip, in order.

    Example:
        >>> Transcript.of("It was great.").text
        'It was great.'
    """

    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, source: Transcript | str | None) -> Transcript:
        """A transcript from what callers have at hand: one, a plain text, or nothing."""
        if isinstance(source, Transcript):
            return source
        return cls((Segment(source),)) if source and source.strip() else cls()

    @property
    def text(self) -> str:
        """All segments, joined by spaces."""
        return " ".join(segment.text.strip() for segment in self.segments if segment.text.strip())

    def __bool__(self) -> bool:
        return bool(self.text)

    def placed(self, start_seconds: float, end_seconds: float | None) -> Iterator[Segment]:
        """The segments that overlap `[start_seconds, end_seconds)`, each with the times it has or None.

        Untimed segments always belong to the clip.
        """
        end = float("inf") if end_seconds is None else end_seconds
        for segment in self.segments:
            if not segment.text.strip():
                continue
            first = 0.0 if segment.start_seconds is None else segment.start_seconds
            last = float("inf") if segment.end_seconds is None else segment.end_seconds
            if segment.start_seconds is None or (first < end and last > start_seconds):
                yield segment


def read_transcript(path: str | Path) -> Transcript:
    """Read a transcript file.

    Args:
        path: `.srt` or `.vtt` subtitles (markup is stripped, times are kept), or `.txt` (plain text in UTF-8, no
            times). Speakers are read from WebVTT's `<v Name>` (of a cue with several, the first) and from a beginning
            such as `Name: ` in SRT, which stays in the text.

    Raises:
        ValueError: another suffix, a missing file, text that is not UTF-8, or subtitles that cannot be read.
    """
    path = Path(path)
    allowed = "a transcript is a .srt, .vtt or .txt file in UTF-8"
    if path.suffix.lower() not in {*_SUBTITLES, ".txt"}:
        raise ValueError(
            f"{path}: {allowed}, not {path.suffix or 'without a suffix'}; convert it, or pass the text itself"
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {allowed}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {allowed}; byte {error.start} is not UTF-8: save the file as UTF-8") from error
    if path.suffix.lower() == ".txt":
        return Transcript.of(text.strip())
    return _read_subtitles(path, text)


def _read_subtitles(path: Path, text: str) -> Transcript:
    import pysubs2

    kind = path.suffix.lower()[1:]
    if kind == "vtt":
        text = _VOICE.sub("\ue000\\1\ue001", text)
    try:
        events = pysubs2.SSAFile.from_string(text, format_=kind).events
    except pysubs2.exceptions.Pysubs2Error as error:
        raise ValueError(f"{path}: not readable as {path.suffix} subtitles ({error}); check the file") from error
    segments = []
    for event in sorted(events, key=lambda e: e.start):
        carried = _CARRIED.search(event.plaintext)
        words = " ".join(html.unescape(_MARKUP.sub("", _CARRIED.sub("", event.plaintext))).split())
        if words and event.end >= event.start >= 0:
            named = _NAMED.match(words) if kind == "srt" else None
            speaker = html.unescape(carried[1]).strip() if carried else named[1].strip() if named else None
            segments.append(Segment(words, event.start / 1000, event.end / 1000, speaker or None))
    return Transcript(tuple(segments))
