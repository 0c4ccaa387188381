"""From media to features in parts of bounded size: the first half of scoring, apart from the model.

A file is read once and comes as `Part`s, each a few stretches with their features, and one `Ending`. `Scorer` hands
each part to the model at once; on a cluster parts travel from the machine that decodes to the one with the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mmsa.scoring.predictor import TOGETHER
from mmsa.scoring.timeline import Timeline, Turn, find_turns, sliding

if TYPE_CHECKING:
    from extractors import Extraction, Extractor, Transcript, Window


@dataclass(frozen=True)
class Stretch:
    """One stretch of a file with its features, before the model.

    Attributes:
        number: from 0, in order of time.
        start_seconds: where it starts on the media's clock.
        end_seconds: where it ends.
        extraction: its features, and what is missing; its notes are about this stretch alone.
        text: what is said in it; None without a transcript.
        speaker: who speaks, where stretches are turns of speakers.
    """

    number: int
    start_seconds: float
    end_seconds: float
    extraction: Extraction
    text: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Part:
    """Stretches that follow each other, at most `mmsa.scoring.predictor.TOGETHER`.

    Attributes:
        stretches: in order of time.
        announced_seconds: what the file says its duration is; None where it does not.
    """

    stretches: tuple[Stretch, ...]
    announced_seconds: float | None = None


@dataclass(frozen=True)
class Ending:
    """What is known of a file when all of it was read.

    Attributes:
        duration_seconds: how much media there was.
        notes: oddities of the file as a whole.
        still: whether it is a still image.
    """

    duration_seconds: float | None
    notes: tuple[str, ...] = ()
    still: bool = False


def read_parts(
    path: Path,
    extractors: Mapping[str, Extractor],
    transcript: Transcript,
    timeline: Timeline,
    span: tuple[float | None, float | None] = (None, None),
    device: str = "auto",
) -> Iterator[Part | Ending]:
    """Read a file; the `Ending` comes last.

    Args:
        path: anything FFmpeg reads, or a still image, which is one stretch whatever the timeline.
        extractors: by modality.
        transcript: what is said.
        timeline: what stretches are cut.
        span: start and end, where the timeline is whole.
        device: where frames are decoded; see `extractors.extract`.

    Raises:
        extractors.MediaError: the file cannot be read; raised by the loop.
        UsageError: segments are asked for that the transcript does not mark.
    """
    from extractors.image_post import find_still_images

    still = bool(find_still_images(path))
    if timeline.whole or still:
        yield from _whole(path, extractors, transcript, span, still, device)
    else:
        yield from _along(path, extractors, transcript, timeline, device)


def _whole(
    path: Path,
    extractors: Mapping[str, Extractor],
    transcript: Transcript,
    span: tuple[float | None, float | None],
    still: bool,
    device: str,
) -> Iterator[Part | Ending]:
    import extractors as ex

    found = ex.extract(
        path, extractors, transcript=transcript, start_seconds=span[0], end_seconds=span[1], device=device
    )
    start = span[0] or 0.0
    end = start + found.duration_seconds
    said = transcript.said(start, span[1]) or None
    yield Part((Stretch(0, start, end, replace(found, notes=()), said),), found.duration_seconds)
    yield Ending(found.duration_seconds, tuple(found.notes), still)


def _along(
    path: Path, extractors: Mapping[str, Extractor], transcript: Transcript, timeline: Timeline, device: str
) -> Iterator[Part | Ending]:
    import extractors as ex

    timed = ex.Transcript(tuple(one for one in transcript.segments if one.start_seconds is not None))
    turns = find_turns(transcript, timeline.segments) if timeline.segments is not None else None
    spans = sliding(timeline) if turns is None else [(turn.start_seconds, turn.end_seconds) for turn in turns]
    reader = ex.extract_windows(path, extractors, spans, transcript=timed, device=device)
    reasons = {}
    if transcript and not timed:  # every window would read all of it
        texts = [key for key, extractor in extractors.items() if isinstance(extractor, ex.TextExtractor)]
        reasons = dict.fromkeys(texts, "the transcript has no times")
    source = iter(reader)
    while batch := list(islice(source, TOGETHER)):
        yield Part(tuple(_stretch(window, timed, turns, reasons) for window in batch), reader.announced_seconds)
    yield Ending(reader.duration_seconds, tuple(reader.notes))


def _stretch(window: Window, transcript: Transcript, turns: list[Turn] | None, reasons: Mapping[str, str]) -> Stretch:
    found = window.extraction
    better = {key: reason for key, reason in reasons.items() if key in found.missing}
    return Stretch(
        window.number,
        window.start_seconds,
        window.end_seconds,
        replace(found, missing={**found.missing, **better}) if better else found,
        transcript.said(window.start_seconds, window.end_seconds) or None,
        None if turns is None else turns[window.number].speaker,
    )
