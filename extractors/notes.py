"""What the user should know of how a stream of a file was read for a clip."""

from __future__ import annotations

import math
from collections.abc import Iterator

from extractors.audio_track import AudioTrack
from extractors.decode_pass import DecodeReport
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaInfo

_BREAK_SECONDS = 0.5
"""A stream may end so much early before that is worth a word."""


def reading_notes(
    feed: AudioTrack | FrameSampler, info: MediaInfo, report: DecodeReport, clip_end_seconds: float
) -> Iterator[str]:
    """The notes on one stream for one listener or watcher.

    They say what concerns it alone, so that they are the same whatever else was read in the pass.

    Args:
        feed: what was given the stream, after the pass.
        info: what the file announces.
        report: how the pass went.
        clip_end_seconds: where the clip ends; infinity is the end of the media.
    """
    heard = isinstance(feed, AudioTrack)
    kind, stream = ("audio", info.audio) if heard else ("video", info.video)
    if not feed.done and report.complete:  # it wanted more than there was
        announced = (stream and stream.duration_seconds) or info.duration_seconds
        if feed.frames and announced and feed.end_seconds < announced - _BREAK_SECONDS:
            yield f"the {kind} stream ends after {feed.end_seconds:.1f} s, though {announced:.1f} s are announced"
        elif feed.frames and math.isfinite(clip_end_seconds) and feed.end_seconds < clip_end_seconds - _BREAK_SECONDS:
            yield f"the clip ends at {clip_end_seconds:g} s, but its {kind} stream at {feed.end_seconds:.2f} s"
        if report.broke_off:
            yield f"reading the {kind} stream broke off after {feed.end_seconds:.1f} s: {report.broke_off}"
    if feed.lost:
        yield left_out(feed.lost, "packet", f" of the {kind} stream could not be decoded and")
    if isinstance(feed, AudioTrack):
        if feed.gap_seconds:
            yield f"{feed.gap_seconds:.1f} s of sound are missing in between and count as silence"
        return
    if feed.corrupt:
        yield left_out(feed.corrupt, "damaged frame")
    if feed.misplaced:
        yield left_out(feed.misplaced, "frame", " with impossible timestamps")


def left_out(count: int, what: str, which: str = "") -> str:
    """In words.

    Example:
        >>> left_out(2, "frame", " without a face")
        '2 frames without a face were left out'
    """
    return f"1 {what}{which} was left out" if count == 1 else f"{count} {what}s{which} were left out"
