"""Words with times, joined to phrases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from extractors.transcript import Segment, TimedWord

PAUSE_SECONDS = 1.0
"""A longer silence between two words ends a phrase."""

LONGEST_SECONDS = 15.0
"""A phrase that gets longer than this ends at its next word."""

_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")


@dataclass(frozen=True)
class Word:
    """A word as a recogniser gives it.

    Attributes:
        text: with the space before it, where there is one.
        start_seconds: on the media's clock.
        end_seconds: on the media's clock.
    """

    text: str
    start_seconds: float
    end_seconds: float


def phrases(words: Iterable[Word]) -> Iterator[Segment]:
    """Join words to segments that end with a sentence, at a pause, or when they get long.

    Args:
        words: in order; times that run backwards are put right.
    """
    held: list[Word] = []
    latest = 0.0
    for word in words:
        if not word.text.strip():
            continue
        start = max(word.start_seconds, latest)
        end, latest = max(start, word.end_seconds), start
        if held and (
            start - held[-1].end_seconds > PAUSE_SECONDS
            or _SENTENCE_END.search(held[-1].text.strip())
            or end - held[0].start_seconds > LONGEST_SECONDS
        ):
            yield _joined(held)
            held = []
        held.append(Word(word.text, start, end))
    if held:
        yield _joined(held)


def _joined(words: list[Word]) -> Segment:
    text, timed = "", []
    for word in words:
        bare = word.text.strip()
        text += " " if text and word.text[0].isspace() else ""
        timed.append(TimedWord(len(text), len(text) + len(bare), word.start_seconds, word.end_seconds))
        text += bare
    end = max(word.end_seconds for word in words)
    return Segment(text, words[0].start_seconds, end, words=tuple(timed))
