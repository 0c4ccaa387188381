"""How a file is cut along time: sliding windows, subtitles, or turns of speakers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError, unknown

if TYPE_CHECKING:
    from extractors import Sliding, Transcript

SEGMENTS = ("subtitles", "speech", "speakers")
PAUSE_SECONDS = 2.0
"""A speaker who goes on after a longer silence begins a new turn."""


@dataclass(frozen=True)
class Timeline:
    """What stretches of a file are scored.

    Attributes:
        window_seconds: length of sliding windows; None for none.
        hop_seconds: from one window's start to the next; None is half the window.
        segments: `"subtitles"` or `"speech"` (each timed segment of the transcript: as it lies beside the media, or as
            it was recognised or aligned), `"speakers"` (each turn), or None.
        smooth_seconds: width of the smoothing; None is half the windows' median length, 0 is none.

    Raises:
        UsageError: a length that is none, a hop without windows, or windows and segments at once.
    """

    window_seconds: float | None = None
    hop_seconds: float | None = None
    segments: str | None = None
    smooth_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("window_seconds", "hop_seconds", "smooth_seconds"):
            value = getattr(self, name)
            least = 0.0 if name == "smooth_seconds" else 1e-3
            if value is not None and not (math.isfinite(value) and value >= least):
                raise UsageError(f"{name} must be a number of seconds of at least {least:g}, not {value}")
        if self.segments is not None and self.segments not in SEGMENTS:
            raise unknown("kind of segments", self.segments, SEGMENTS)
        if self.segments is not None and self.window_seconds is not None:
            raise UsageError("windows and segments are two ways to cut a file: give window_seconds or segments")
        if self.hop_seconds is not None and self.window_seconds is None:
            raise UsageError("hop_seconds is the distance of windows: give window_seconds, too")
        if self.smooth_seconds is not None and self.whole:
            raise UsageError("smooth_seconds smooths a timeline: give window_seconds or segments, too")
        if self.window_seconds is not None and self.hop_seconds is None:
            object.__setattr__(self, "hop_seconds", self.window_seconds / 2)

    @property
    def whole(self) -> bool:
        """Whether a file is one clip."""
        return self.window_seconds is None and self.segments is None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Turn:
    """A stretch and who speaks in it.

    Attributes:
        start_seconds: on the media's clock.
        end_seconds: on the media's clock.
        speaker: None where the transcript names none.
    """

    start_seconds: float
    end_seconds: float
    speaker: str | None = None


def find_turns(transcript: Transcript, segments: str) -> list[Turn]:
    """The stretches that a transcript marks, by start.

    Turns of speakers are runs of segments of one speaker, cut at pauses of more than `PAUSE_SECONDS`. A segment
    without a name belongs to whoever spoke before it within that time.

    Args:
        transcript: with times.
        segments: one of `SEGMENTS`.

    Raises:
        UsageError: no times, or no names where speakers are asked for.
    """
    timed = sorted(_timed(transcript), key=lambda turn: (turn.start_seconds, turn.end_seconds))
    if not timed:
        what = "its transcript has no times" if transcript else "there is no transcript"
        raise UsageError(
            f"segments of {segments} are asked for, but {what}: put a .srt or .vtt file beside the media, give "
            "--transcribe MODEL (or --align MODEL where there is a text), or use sliding windows"
        )
    if segments != "speakers":
        return timed
    if all(turn.speaker is None for turn in timed):
        raise UsageError(
            "turns of speakers are asked for, but the transcript names no speaker: WebVTT does as <v Name>words, SRT "
            "as 'Name: words'; use segments=subtitles for it as it is"
        )
    turns: list[Turn] = []
    for turn in timed:
        last = turns[-1] if turns else None
        close = last is not None and turn.start_seconds - last.end_seconds <= PAUSE_SECONDS
        if last is not None and close and turn.speaker in (None, last.speaker):
            turns[-1] = replace(last, end_seconds=max(last.end_seconds, turn.end_seconds))
        else:
            turns.append(turn)
    return turns


def _timed(transcript: Transcript) -> Iterator[Turn]:
    for segment in transcript.segments:
        if segment.start_seconds is None or segment.end_seconds is None or not segment.text.strip():
            continue
        if segment.end_seconds > segment.start_seconds:
            yield Turn(segment.start_seconds, segment.end_seconds, segment.speaker)


def sliding(timeline: Timeline) -> Sliding:
    """The windows of a timeline that slides."""
    from extractors import Sliding

    assert timeline.window_seconds is not None
    assert timeline.hop_seconds is not None
    return Sliding(timeline.window_seconds, timeline.hop_seconds)
