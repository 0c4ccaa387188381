"""A transcript as one text in which every character has a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.transcript import Transcript

_UNTIMED_STEP_SECONDS = 1.0


@dataclass(frozen=True)
class _Piece:
    first: int
    after: int
    start_seconds: float | None
    end_seconds: float | None


class TimedText:
    """The part of a transcript that lies in a clip, joined to one text so that sentences may run across segments.

    A stretch of text takes its share of its segment's time by characters, the spaces between words included. Segments
    without times share the clip's time in the same way; if the clip's end is unknown (a corpus of texts
    without media), each word or word piece takes one second, which keeps order and count and claims nothing else.
    """

    def __init__(self, transcript: Transcript, start_seconds: float, end_seconds: float | None) -> None:
        self._start, self._end = start_seconds, end_seconds
        self._pieces: list[_Piece] = []
        parts: list[str] = []
        at = 0
        for segment in transcript.placed(start_seconds, end_seconds):
            text = segment.text.strip()
            self._pieces.append(_Piece(at, at + len(text), segment.start_seconds, segment.end_seconds))
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
