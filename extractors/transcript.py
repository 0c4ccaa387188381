"""What is said in a clip: `Transcript`, and reading it from subtitle or text files."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SUBTITLES = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
TRANSCRIPT_SUFFIXES = (*_SUBTITLES, ".txt")
"""What `read_transcript` reads, in the order in which files beside media are looked for."""

_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
# The reader of subtitles drops WebVTT's voices: they travel through it between two characters that no text has.
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^<>]+)>")
_CARRIED = re.compile("\ue000([^\ue001]*)\ue001")
# So do the times of words that some WebVTT carries: 00:01.800 before the word that then begins.
_INSTANT = re.compile(r"<((?:\d+:)?\d\d:\d\d\.\d{3})>")
_INSTANT_SECONDS = 0.001
_CARRIED_INSTANT = re.compile("\ue002([^\ue003]*)\ue003")
_NAMED = re.compile(r"\s*([^\W\d_][\w .'’-]{0,39}?)\s?:\s+\S")


@dataclass(frozen=True)
class TimedWord:
    """When a stretch of a segment's text is said.

    Attributes:
        first: its first character in the segment's text.
        after: the character after its last.
        start_seconds: when it starts on the media's clock.
        end_seconds: when it ends.
    """

    first: int
    after: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech.

    Attributes:
        text: the words.
        start_seconds: when it starts on the media's clock; None where unknown.
        end_seconds: when it ends; None where unknown.
        speaker: who speaks, as subtitles name them (see `read_transcript`); None where unknown.
        words: when its words are said, in order, where that is known; every character but spaces is in one of them.

    Raises:
        ValueError: only one of the two times is given, the end lies before the start, or words overlap, run backwards
            or leave out a part of the text.
    """

    text: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    speaker: str | None = None
    words: tuple[TimedWord, ...] = ()

    def __post_init__(self) -> None:
        if self.words:
            self._check_words()
        if (self.start_seconds is None) != (self.end_seconds is None):
            raise ValueError(f"segment {self.text[:30]!r}: give both start_seconds and end_seconds, or neither")
        if self.start_seconds is None or self.end_seconds is None:
            return
        if not 0 <= self.start_seconds <= self.end_seconds < float("inf"):
            raise ValueError(
                f"segment {self.text[:30]!r}: needs 0 <= start <= end, not {self.start_seconds} to {self.end_seconds} s"
            )

    def _check_words(self) -> None:
        if self.start_seconds is None:
            raise ValueError(f"segment {self.text[:30]!r}: its words have times, so it needs some, too")
        at, before = 0, 0.0
        for word in self.words:
            skipped = self.text[at : word.first]
            if word.first < at or word.after <= word.first or skipped.strip():
                raise ValueError(f"segment {self.text[:30]!r}: its words must cover the text in order, not {word}")
            if not before <= word.start_seconds <= word.end_seconds < float("inf"):
                raise ValueError(f"segment {self.text[:30]!r}: its words must follow each other in time, not {word}")
            at, before = word.after, word.start_seconds
        if at > len(self.text) or self.text[at:].strip():
            raise ValueError(f"segment {self.text[:30]!r}: its words end at character {at} of {len(self.text)}")


@dataclass(frozen=True)
class Transcript:
    """What is said in a clip, in order.

    Attributes:
        segments: stretches of speech.
        language: its ISO 639-1 code, where a speech recogniser or the user said it; None where unknown.

    Example:
        >>> Transcript.of("It was great.").text
        'It was great.'
    """

    segments: tuple[Segment, ...] = ()
    language: str | None = None

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

    def said(self, start_seconds: float, end_seconds: float | None) -> str:
        """The text of the segments that overlap a span; of those whose words have times, the words that begin in it."""
        end = float("inf") if end_seconds is None else end_seconds
        parts = []
        for segment in self.placed(start_seconds, end_seconds):
            inside = [word for word in segment.words if start_seconds <= word.start_seconds < end]
            if inside:
                parts.append(segment.text[inside[0].first : inside[-1].after].strip())
            elif not segment.words:
                parts.append(segment.text.strip())
        return " ".join(parts)


def read_transcript(path: str | Path) -> Transcript:
    """Read a transcript file.

    Args:
        path: `.srt`, `.vtt`, `.ass` or `.ssa` subtitles (markup is stripped, times are kept), or `.txt` (plain text in
            UTF-8, no times). Speakers are read from WebVTT's `<v Name>` (of a cue with several, the first), from the
            name column of ASS, and from a beginning such as `Name: ` in SRT, which stays in the text. WebVTT's times
            of words (`one <00:01.800>two`) are kept.

    Raises:
        ValueError: another suffix, a missing file, text that is not UTF-8, or subtitles that cannot be read.
    """
    path = Path(path)
    allowed = "a transcript is a .srt, .vtt, .ass, .ssa or .txt file in UTF-8"
    if path.suffix.lower() not in TRANSCRIPT_SUFFIXES:
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

    kind = _SUBTITLES[path.suffix.lower()]
    if kind == "vtt":
        # As plain seconds: a line with two instants would be taken for the times of a cue.
        text = _INSTANT.sub(lambda found: f"\ue002{_seconds(found[1])}\ue003", _VOICE.sub("\ue000\\1\ue001", text))
    try:
        events = pysubs2.SSAFile.from_string(text, format_=kind).events
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise ValueError(f"{path}: not readable as {path.suffix} subtitles ({error}); check the file") from error
    segments = []
    for event in sorted(events, key=lambda e: e.start):
        if event.is_comment or not event.end >= event.start >= 0:
            continue
        spoken, start, end = event.plaintext, event.start / 1000, event.end / 1000
        voice = _CARRIED.search(spoken)
        words, timed = _words(_CARRIED.sub("", spoken), start, end)
        if words:
            speaker = voice[1] if voice else event.name
            named = _NAMED.match(words) if kind == "srt" else None
            speaker = html.unescape(speaker).strip() or (named[1].strip() if named else "")
            segments.append(Segment(words, start, end, speaker or None, timed))
    return Transcript(tuple(segments))


def _words(spoken: str, start: float, end: float) -> tuple[str, tuple[TimedWord, ...]]:
    """A cue's text without markup, and when its parts are said where instants stand between them."""
    parts = _CARRIED_INSTANT.split(spoken)  # text, instant, text, instant, …, text
    instants = [start, *map(float, parts[1::2])]
    texts = [" ".join(html.unescape(_MARKUP.sub("", part)).split()) for part in parts[::2]]
    joined, timed = "", []
    for number, (text, raw, begins) in enumerate(zip(texts, parts[::2], instants, strict=True)):
        if not text:
            continue
        # Parts of one word, as in languages without spaces, are joined as they stand.
        spaced = joined and (raw[:1].isspace() or parts[::2][number - 1][-1:].isspace())
        joined += (" " if spaced else "") + text
        ends = min(instants[number + 1] if number + 1 < len(instants) else end, end)
        timed.append(TimedWord(len(joined) - len(text), len(joined), begins, max(begins, ends)))
    in_order = all(start <= a <= b <= end for a, b in zip(instants, [*instants[1:], end], strict=True))
    return joined, tuple(timed) if len(instants) > 1 and in_order else ()


def _seconds(instant: str) -> float:
    """`1:00:01.800` as seconds."""
    value = 0.0
    for part in instant.split(":"):
        value = value * 60 + float(part)
    return value


def write_vtt(transcript: Transcript, path: str | Path) -> None:
    """Write a transcript as WebVTT that `read_transcript` reads back, times of words included.

    Args:
        transcript: all of its segments must have times.
        path: the file; its folder must be there.

    Raises:
        ValueError: a segment has no times.
    """
    lines = ["WEBVTT", ""]
    for segment in transcript.segments:
        if segment.start_seconds is None or segment.end_seconds is None:
            raise ValueError(f"segment {segment.text[:30]!r} has no times: WebVTT needs some")
        voice = f"<v {html.escape(segment.speaker, quote=False)}>" if segment.speaker else ""
        lines += [f"{_clock(segment.start_seconds)} --> {_clock(segment.end_seconds)}", voice + _marked(segment), ""]
    partial = Path(path).with_name(f".{Path(path).name}.part")
    partial.write_text("\n".join(lines), encoding="utf-8")
    partial.replace(path)


def _marked(segment: Segment) -> str:
    """A segment's text with the instants at which words begin and, before a pause, end.

    Line breaks would end a cue.
    """
    at, text, reached = 0, "", segment.start_seconds or 0.0
    for number, word in enumerate(segment.words):
        pause = word.start_seconds - reached > _INSTANT_SECONDS / 2
        if number and pause:
            text += f"<{_clock(reached)}>"
        text += html.escape(segment.text[at : word.first], quote=False)
        text += f"<{_clock(word.start_seconds)}>" if number or pause else ""
        text += html.escape(segment.text[word.first : word.after], quote=False)
        at, reached = word.after, word.end_seconds
    rest = (segment.end_seconds or 0.0) - reached > _INSTANT_SECONDS / 2
    if segment.words and (
        rest or len(segment.words) == 1
    ):  # without any instant, a single word would not be told from an untimed one
        text += f"<{_clock(reached)}>"
    return re.sub(r"\s+", " ", text + html.escape(segment.text[at:], quote=False)).strip()


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"
