"""`FacesStream`: the speaker's steps, or everybody's, from frames with several faces."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor, VisionStream
from extractors.facial.face_tracks import FaceTracks, SeenFace, see
from extractors.facial.several_faces import SeveralFaces
from extractors.facial.speaker import AROUND_SECONDS, LAG_SECONDS, SpeakerChoice, synchrony
from extractors.facial.speech_energy import SpeechEnergy
from extractors.sequence import FeatureSequence

TRACK = "track"
"""Name of the feature that says whose step it is, where every face gives one."""

# How far pictures may run ahead of the sound before a speaker is chosen without it.
_WAITING_SECONDS = 8.0

Look = Callable[[NDArray[np.uint8], NDArray[np.float64]], Any]
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


@dataclass(frozen=True, eq=False)
class _Frame:
    """The faces of one instant: what tracking saw of each, and what is kept, by track."""

    index: int
    faces: dict[int, tuple[SeenFace, Any]]


@dataclass(frozen=True)
class _Step:
    """Whose face, when, and how far to the left."""

    index: int
    track: int
    left: float


class FacesStream(VisionStream):
    """Follows all faces of a clip and gives the steps of some.

    With `speaking`, one step per instant: the face that `SpeakerChoice` takes, by the frames and the sound around it.
    Instants wait until both are there; in memory are the faces of a few seconds.

    Without, one step per face and instant, ordered by time, then by track. The feature `TRACK`, which comes last, is a
    track's rank by its first step in the sequence, from 0: those who come first have the smaller ranks, of those who
    come together the one further left. So the ranks are those of the sequence, a clip's or a window's, and say nothing
    beyond it.

    Args:
        extractor: whose stream this is; its `frames_per_second` is the rate of the frames pushed.
        source: finds the faces.
        looks: what is made of a face.
        speaking: whether only the speaker counts.
        every: a step for each so many frames.
    """

    def __init__(
        self, extractor: VisionExtractor, source: SeveralFaces, looks: Looks, *, speaking: bool, every: int = 1
    ) -> None:
        self._extractor, self._looks, self._every = extractor, looks, every
        self._rate = extractor.frames_per_second
        self._source: SeveralFaces | None = source
        self._tracks = FaceTracks()
        self._speaking = _Speaking(self._rate) if speaking else None
        self._undescribed: list[tuple[Any, _Step]] = []
        self._rows: list[NDArray[np.float32]] = []
        self._steps: list[_Step] = []
        self._seen: list[int] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`; a frame is looked at once, however long it is shown."""
        if self._source is None:
            raise RuntimeError("this stream is finished: ask the extractor for a fresh one")
        found = self._source.find_all(image)
        seen = [see(points) for points in found]
        wanted = any(index % self._every == 0 for index in indices)
        kept = [self._looks.keep(image, points) if wanted else None for points in found]
        chosen: list[tuple[_Frame, int]] = []
        for index in indices:
            if index % self._every == 0:
                self._seen.append(index // self._every)
            tracks = self._tracks.assign(seen, index / self._rate)
            faces = dict(sorted(zip(tracks, zip(seen, kept, strict=True), strict=True)))
            chosen += self._take(_Frame(index, faces))
        self._add(chosen)

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """See `VisionStream.listen`."""
        if self._speaking is not None:
            self._speaking.energy.push(samples, first_sample)
            self._add(self._speaking.ready())

    def no_more_sound(self) -> None:
        """See `VisionStream.no_more_sound`."""
        if self._speaking is not None:
            self._speaking.silent = True
            self._add(self._speaking.ready())

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`; step `k` lasts one period of the steps from `k` periods on."""
        self.close()
        if self._speaking is not None:
            self._add(self._speaking.ready(math.inf))
        return self._sequence(-math.inf, math.inf)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`."""
        first, after = self._step(start_seconds), self._step(min(end_seconds, 1e9))
        if self._speaking is not None:
            self._add(self._speaking.ready(after * self._every))
        found = self._sequence(first, after)
        return found, "" if len(found) else _reason(sum(first <= index < after for index in self._seen))

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        first = self._step(before_seconds)
        self._flush()
        kept = [i for i, step in enumerate(self._steps) if step.index >= first]
        self._rows, self._steps = [self._rows[i] for i in kept], [self._steps[i] for i in kept]
        self._seen = [index for index in self._seen if index >= first]
        if self._speaking is not None:
            self._speaking.forget(first * self._every)

    def missing_reason(self) -> str:
        """No frame or no face."""
        return _reason(len(self._seen))

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """How often the speaker could not be told."""
        if self._speaking is None:
            return ()
        first, after = (self._step(min(at, 1e9)) * self._every for at in (start_seconds, end_seconds))
        return self._speaking.notes(first, after)

    def close(self) -> None:
        """Free the tools."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _take(self, frame: _Frame) -> list[tuple[_Frame, int]]:
        """The faces that count from now on, each with its frame."""
        if self._speaking is None:
            return [(frame, track) for track in frame.faces]
        self._speaking.push(frame)
        return list(self._speaking.ready())

    def _add(self, chosen: Iterable[tuple[_Frame, int]]) -> None:
        for frame, track in chosen:
            if frame.index % self._every == 0:
                face, kept = frame.faces[track]
                self._undescribed.append((kept, _Step(frame.index // self._every, track, float(face.middle[0]))))
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
        met = sorted((step.index, step.left, step.track) for step, _ in mine)
        ranks = {track: rank for rank, track in enumerate(dict.fromkeys(track for _, _, track in met))}
        mine.sort(key=lambda one: (one[0].index, ranks[one[0].track]))
        start = np.array([step.index for step, _ in mine], np.float64)
        times = np.stack([start, start + 1.0], axis=1) * (self._every / self._rate)
        values = np.stack([row for _, row in mine])
        if self._speaking is None:
            rank = np.array([[ranks[step.track]] for step, _ in mine], np.float32)
            values = np.concatenate([values, rank], axis=1)
        return FeatureSequence(values, times, self._extractor.names)

    def _step(self, seconds: float) -> int:
        """The first step whose middle is at or after this time."""
        return math.ceil(seconds * self._rate / self._every - 0.5)


class _Speaking:
    """Frames that wait for what comes around them, and the choice of a face in each."""

    def __init__(self, frames_per_second: float) -> None:
        self._rate = frames_per_second
        self._around = round(AROUND_SECONDS * frames_per_second)
        self._lags = round(LAG_SECONDS * frames_per_second)
        self._most = round(_WAITING_SECONDS * frames_per_second)
        self._choice = SpeakerChoice(frames_per_second)
        self._frames: deque[_Frame] = deque()
        self._waiting: deque[_Frame] = deque()
        self._doubts: deque[tuple[int, bool]] = deque()
        self._several = self._unsure = 0
        self.energy = SpeechEnergy(frames_per_second)
        self.silent = False

    def push(self, frame: _Frame) -> None:
        self._frames.append(frame)
        self._waiting.append(frame)

    def ready(self, before: float = -math.inf) -> Iterator[tuple[_Frame, int]]:
        """The frames that can be decided, and those before this index whatever is missing, each with its track."""
        while self._waiting and (self._waiting[0].index < before or self._complete(self._waiting[0].index)):
            frame = self._waiting.popleft()
            track = self._decide(frame)
            if track is not None:
                yield frame, track

    def forget(self, before: int) -> None:
        self.energy.forget(min(before, self._waiting[0].index if self._waiting else before) - self._around)
        while self._doubts and self._doubts[0][0] < before:
            self._several += 1
            self._unsure += self._doubts.popleft()[1]

    def notes(self, first: int, after: int) -> tuple[str, ...]:
        mine = [doubt for index, doubt in self._doubts if first <= index < after]
        several, unsure = self._several + len(mine), self._unsure + sum(mine)
        if not unsure:
            return ()
        if not self.energy.heard:
            return ("without sound nobody can tell which of several faces speaks: the largest stands in",)
        doubtful = f"in {unsure / self._rate:.1f} of {several / self._rate:.1f} s with several faces"
        return (f"nobody's lips go with the sound {doubtful}: there the largest stands in",)

    def _complete(self, index: int) -> bool:
        newest = self._frames[-1].index
        if newest - index >= self._most:
            return True
        heard = self.silent or self.energy.known > index + self._around + self._lags
        return heard and newest >= index + self._around

    def _decide(self, frame: _Frame) -> int | None:
        first, after = frame.index - self._around, frame.index + self._around + 1
        while self._frames[0].index < first:
            self._frames.popleft()
        self.energy.forget(first)
        levels = self.energy.levels(first, after + self._lags)
        openings: dict[int, NDArray[np.float64]] = {}
        sizes: dict[int, list[float]] = {}
        for one in self._frames:
            if one.index >= after:
                break
            for track, (face, _) in one.faces.items():
                openings.setdefault(track, np.full(after - first, np.nan))[one.index - first] = face.opening
                sizes.setdefault(track, []).append(face.size)
        scores = {track: synchrony(opening, levels, self._lags) for track, opening in openings.items()}
        means = {track: float(np.mean(own)) for track, own in sizes.items()}
        chosen, sure = self._choice.choose(frame.index, scores, means, frozenset(frame.faces))
        if len(frame.faces) > 1:
            self._doubts.append((frame.index, not sure))
        return chosen


def _reason(seen: int) -> str:
    return f"no face found in {seen} sampled frame{'' if seen == 1 else 's'}" if seen else "no frame could be sampled"
