"""What is said in a scored file, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmsa.errors import UsageError
from mmsa.scoring.remote import is_address
from mmsa.scoring.results import Score


@dataclass(frozen=True)
class Line:
    """A stretch of speech.

    Attributes:
        start_seconds: on the media's clock.
        end_seconds: on the media's clock.
        text: the words.
        speaker: None where nobody is named.
    """

    start_seconds: float
    end_seconds: float
    text: str
    speaker: str | None = None


def read_lines(score: Score) -> list[Line]:
    """The lines of a result, by start.

    Where a transcript with times lies beside the media, its lines (of the scored segment). Otherwise the words that
    the windows hold; of windows that overlap, those that repeat words of the one before are left out.
    """
    return _beside(score) or _of_windows(score)


def _beside(score: Score) -> list[Line]:
    from mmsa.sidecars import read_sidecar

    if is_address(score.path):
        return []
    try:
        transcript = read_sidecar(Path(score.path))
    except UsageError:  # gone or changed since; the windows hold what was said in them
        return []
    return [
        Line(one.start_seconds, one.end_seconds, one.text.strip(), one.speaker)
        for one in transcript.placed(score.start_seconds or 0.0, score.end_seconds)
        if one.start_seconds is not None and one.end_seconds is not None
    ]


def _of_windows(score: Score) -> list[Line]:
    lines: list[Line] = []
    for window in score.windows:
        if not window.text:
            continue
        if lines and lines[-1].end_seconds > window.start_seconds:
            continue
        lines.append(Line(window.start_seconds, window.end_seconds, window.text, window.speaker))
    return lines
