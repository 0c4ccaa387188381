"""A transcript as one text in which every character has a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.transcript import Segment, TimedWord, Transcript

_UNTIMED_STEP_SECONDS = 1.0


@dataclass(frozen=True)
class _Piece:
    first: int
    after: int
    start_seconds: float | None
    end_seconds: float | None
    words: tuple[TimedWord, ...] = ()


class TimedText:
    """The part of a transcript that lies in a clip, joined to one text so that sentences may run across segments.

    A stretch of text takes its share of its segment's time by characters, the spaces between words included; where the
    times of the segment's words are known, its share of theirs. Segments without times share the clip's time in the
    same way; if the clip's end is unknown (a corpus of texts without media), each word or word piece takes one second,
    which keeps order and count and claims nothing else.
    """

    def __init__(self, transcript: Transcript, start_seconds: float, end_seconds: float | None) -> None:
        self._start, self._end = start_seconds, end_seconds
        self._pieces: list[_Piece] = []
        parts: list[str] = []
        at = 0
        for segment in transcript.placed(start_seconds, end_seconds):
            text = segment.text.strip()
            self._pieces.append(_Piece(at, at + len(text), segment.start_seconds, segment.end_seconds, _moved(segment)))
            parts.append(text)
            at += len(text) + 1
        self.text = " ".join(parts)

    def times(self, spans: NDArray[np.int64]) -> NDArray[np.float64]:
        """Times of stretches of the text: `(N, 2)` first and after-last character → `(N, 2)` seconds.

        No stretch may run across segments.
        """
        times = np.zeros(spans.shape, np.float64)
        untimed = [piece for piece in self._pieces if piece.start_seconds is None]
        length = sum(piece.after - piece.first for piece in untimed) + max(0, len(untimed) - 1)
        before = 0
        for piece in self._pieces:
            mine = (spans[:, 0] >= piece.first) & (spans[:, 0] < piece.after)
            inside = (spans[mine] - piece.first).astype(np.float64)
            if piece.words:
                times[mine] = _within(piece.words, inside)
                continue
            if piece.start_seconds is not None and piece.end_seconds is not None:
                share = inside / (piece.after - piece.first)
                times[mine] = piece.start_seconds + share * (piece.end_seconds - piece.start_seconds)
                continue
            if self._end is None:
                order = np.cumsum(mine)[mine] - 1 + before
                times[mine] = self._start + np.stack([order, order + 1], axis=1) * _UNTIMED_STEP_SECONDS
                before += int(mine.sum())
            else:
                times[mine] = self._start + (before + inside) / length * (self._end - self._start)
                before += piece.after - piece.first + 1
        return times

    def sequence(
        self, values: NDArray[np.float32], spans: NDArray[np.int64], names: tuple[str, ...]
    ) -> FeatureSequence:
        """A feature sequence in order of time, without the words of a segment that lie outside the clip."""
        times = self.times(spans)
        order = np.argsort(times[:, 0], kind="stable")
        whole = FeatureSequence(values[order], times[order], names)
        if all(piece.start_seconds is None for piece in self._pieces):
            return whole
        return whole.between(self._start, float("inf") if self._end is None else self._end)


def _moved(segment: Segment) -> tuple[TimedWord, ...]:
    """The segment's words, counted from its first character that is no space."""
    gone = len(segment.text) - len(segment.text.lstrip())
    return tuple(replace(word, first=word.first - gone, after=word.after - gone) for word in segment.words)


def _within(words: tuple[TimedWord, ...], spans: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times of stretches of a segment's text, `(N, 2)`, from those of the words that they begin and end in."""
    first, after, start, end = (
        np.array([getattr(word, name) for word in words], np.float64)
        for name in ("first", "after", "start_seconds", "end_seconds")
    )
    own = np.maximum(np.searchsorted(first, spans[:, 0], side="right") - 1, 0)
    last = np.maximum(np.searchsorted(first, spans[:, 1], side="left") - 1, 0)
    length = after - first
    begins = start[own] + np.clip((spans[:, 0] - first[own]) / length[own], 0.0, 1.0) * (end - start)[own]
    ends = start[last] + np.clip((spans[:, 1] - first[last]) / length[last], 0.0, 1.0) * (end - start)[last]
    return np.stack([begins, np.maximum(begins, ends)], axis=1)
