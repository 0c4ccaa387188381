"""`FacesStream`: the speaker's steps, or everybody's, from frames with several faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream
from extractors.facial.face_choice import FaceChoice, Instant, Look
from extractors.sequence import FeatureSequence

TRACK = "track"
"""Name of the feature that says whose step it is, where every face gives one."""

Describe = Callable[[Sequence[Any]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Looks:
    """What is made of each face.

    Attributes:
        keep: a frame and a face's landmarks → what must be kept of it, such as its crop.
        describe: what was kept of several faces → `(N, D)`, each row a function of its own face.
        batch_size: faces per call of `describe`.
    """

    keep: Look
    describe: Describe
    batch_size: int


@dataclass(frozen=True)
class _Step:
    """Whose face, when, and how far to the left."""

    index: int
    track: int
    left: float


def track_ranks(steps: Iterable[tuple[int, float, int]]) -> dict[int, int]:
    """A track's rank by its first step, from 0.

    Those who come first have the smaller ranks, of those who come together the one further left.

    Args:
        steps: for each when it is, how far to the left, and whose.

    Example:
        >>> track_ranks([(0, 500.0, 7), (1, 500.0, 7), (1, 300.0, 2), (1, 100.0, 5)])
        {7: 0, 5: 1, 2: 2}
    """
    met = dict.fromkeys(track for _, _, track in sorted(steps))
    return {track: rank for rank, track in enumerate(met)}


class FacesStream(VisionStream):
    """Follows all faces of a clip and gives the steps of those that count, see `FaceChoice`.

    With `speaking`, at most one step per instant. Without, one step per face and instant, ordered by time, then by
    track. The feature `TRACK`, which comes last, is a track's rank in the sequence (`track_ranks`): so the ranks are
    those of a clip or a window, and say nothing beyond it.

    Args:
        extractor: whose stream this is.
        choice: says who counts; it keeps what `looks` says.
        looks: what is made of a face.
    """

    def __init__(self, extractor: VisionExtractor, choice: FaceChoice, looks: Looks) -> None:
        self._extractor, self._choice, self._looks = extractor, choice, looks
        self._rate, self._every = choice.frames_per_second, choice.every
        self._undescribed: list[tuple[Any, _Step]] = []
        self._rows: list[NDArray[np.float32]] = []
        self._steps: list[_Step] = []
        self._seen: list[int] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`; a frame is looked at once, however long it is shown."""
        decided = self._choice.push(image, indices)
        self._seen.extend(index // self._every for index in indices if index % self._every == 0)
        self._add(decided)

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        self._add(self._choice.listen(samples, first_sample))

    def no_more_sound(self) -> None:
        """See `VisionStream.no_more_sound`."""
        self._add(self._choice.no_more_sound())

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`; step `k` lasts one period of the steps from `k` periods on."""
        self.close()
        self._add(self._choice.decide())
        return self._sequence(-math.inf, math.inf)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        first, after = self._step(start_seconds), self._step(min(end_seconds, 1e9))
        self._add(self._choice.decide(after))
        found = self._sequence(first, after)
        return found, "" if len(found) else _reason(sum(first <= index < after for index in self._seen))

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        first = self._step(before_seconds)
        self._flush()
        kept = [i for i, step in enumerate(self._steps) if step.index >= first]
        self._rows, self._steps = [self._rows[i] for i in kept], [self._steps[i] for i in kept]
        self._seen = [index for index in self._seen if index >= first]
        self._choice.forget(first)

    def missing_reason(self) -> str:
        """No frame or no face."""
        return _reason(len(self._seen))

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """How often the speaker could not be told."""
        return self._choice.notes(self._step(start_seconds), self._step(min(end_seconds, 1e9)))

    def close(self) -> None:
        """Free the tools."""
        self._choice.close()

    def _add(self, decided: Iterable[Instant]) -> None:
        for instant in decided:
            for face in instant.faces:
                self._undescribed.append((face.kept, _Step(instant.step, face.track, face.left)))
        if len(self._undescribed) >= self._looks.batch_size:
            self._flush()

    def _flush(self) -> None:
        """Describe what waits; a face that is shown for several instants once."""
        faces = {id(kept): kept for kept, _ in self._undescribed}
        described: dict[int, NDArray[np.float32]] = {}
        keys, size = list(faces), self._looks.batch_size
        for start in range(0, len(keys), size):
            batch = keys[start : start + size]
            described.update(zip(batch, self._looks.describe([faces[key] for key in batch]), strict=True))
        for kept, step in self._undescribed:
            self._rows.append(described[id(kept)])
            self._steps.append(step)
        self._undescribed = []

    def _sequence(self, first: float, after: float) -> FeatureSequence:
        self._flush()
        mine = [(step, row) for step, row in zip(self._steps, self._rows, strict=True) if first <= step.index < after]
        if not mine:
            return self._extractor.empty()
        ranks = track_ranks((step.index, step.left, step.track) for step, _ in mine)
        mine.sort(key=lambda one: (one[0].index, ranks[one[0].track]))
        start = np.array([step.index for step, _ in mine], np.float64)
        times = np.stack([start, start + 1.0], axis=1) * (self._every / self._rate)
        values = np.stack([row for _, row in mine])
        if not self._choice.speaking:
            rank = np.array([[ranks[step.track]] for step, _ in mine], np.float32)
            values = np.concatenate([values, rank], axis=1)
        return FeatureSequence(values, times, self._extractor.names)

    def _step(self, seconds: float) -> int:
        """The first step whose middle is at or after this time."""
        return math.ceil(seconds * self._rate / self._every - 0.5)


def _reason(seen: int) -> str:
    return f"no face found in {seen} sampled frame{'' if seen == 1 else 's'}" if seen else "no frame could be sampled"
