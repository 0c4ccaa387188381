"""`FaceChoice`: which of a frame's faces count, the speaker's or everybody's."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.facial.face_tracks import FaceTracks, SeenFace, see
from extractors.facial.several_faces import SeveralFaces
from extractors.facial.speaker import AROUND_SECONDS, LAG_SECONDS, SpeakerChoice, synchrony
from extractors.facial.speech_energy import SpeechEnergy

# How far pictures may run ahead of the sound before a speaker is chosen without it.
_WAITING_SECONDS = 8.0

Look = Callable[[NDArray[np.uint8], NDArray[np.float64]], Any]
"""A frame and a face's landmarks → what must be kept of it, such as its crop."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face that counts.

    Attributes:
        track: whose it is.
        left: how far to the left its middle is, in pixels.
        kept: what was kept of it.
    """

    track: int
    left: float
    kept: Any


@dataclass(frozen=True, eq=False)
class Instant:
    """A step for which it is decided who counts.

    Attributes:
        step: which, from the beginning of the media.
        faces: those that count, by track; none where nobody does.
    """

    step: int
    faces: tuple[Face, ...]


@dataclass(frozen=True, eq=False)
class _Frame:
    """The faces of one instant: what tracking saw of each, and what is kept, by track."""

    index: int
    faces: dict[int, tuple[SeenFace, Any]]


class FaceChoice:
    """Follows all faces of a clip and says, step by step and in order, which of them count.

    With `speaking`, the face that `SpeakerChoice` takes, by the frames and the sound around it: steps wait until both
    are there, and in memory are the faces of a few seconds. Without, all of them, at once.

    Args:
        frames_per_second: of the frames pushed.
        source: finds the faces.
        keep: what is kept of a face.
        speaking: whether only the speaker counts.
        every: a step for each so many frames.

    Attributes:
        frames_per_second: as given.
        every: as given.
        speaking: as given.
    """

    def __init__(
        self, frames_per_second: float, source: SeveralFaces, keep: Look, *, speaking: bool, every: int = 1
    ) -> None:
        self.frames_per_second, self.every, self.speaking = frames_per_second, every, speaking
        self._keep = keep
        self._source: SeveralFaces | None = source
        self._tracks = FaceTracks()
        self._speaking = _Speaking(frames_per_second) if speaking else None

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> list[Instant]:
        """Take a frame; see `VisionStream.push`. It is looked at once, however long it is shown.

        Returns:
            What is decided by it, here as of the other methods.

        Raises:
            RuntimeError: this is closed.
        """
        if self._source is None:
            raise RuntimeError("this stream is finished: ask the extractor for a fresh one")
        found = self._source.find_all(image)
        seen = [see(points) for points in found]
        wanted = any(index % self.every == 0 for index in indices)
        kept = [self._keep(image, points) if wanted else None for points in found]
        decided: list[tuple[_Frame, Iterable[int]]] = []
        for index in indices:
            tracks = self._tracks.assign(seen, index / self.frames_per_second)
            frame = _Frame(index, dict(sorted(zip(tracks, zip(seen, kept, strict=True), strict=True))))
            if self._speaking is None:
                decided.append((frame, frame.faces))
            else:
                self._speaking.push(frame)
                decided += self._speaking.ready()
        return self._instants(decided)

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> list[Instant]:
        """Take sound; see `VisionStream.listen`."""
        if self._speaking is None:
            return []
        self._speaking.energy.push(samples, first_sample)
        return self._instants(self._speaking.ready())

    def no_more_sound(self) -> list[Instant]:
        """See `VisionStream.no_more_sound`."""
        if self._speaking is None:
            return []
        self._speaking.silent = True
        return self._instants(self._speaking.ready())

    def decide(self, before_step: float = math.inf) -> list[Instant]:
        """Decide all steps before this one, whatever is missing."""
        return [] if self._speaking is None else self._instants(self._speaking.ready(before_step * self.every))

    def forget(self, before_step: int) -> None:
        """Steps before this one will not be asked for in `notes`."""
        if self._speaking is not None:
            self._speaking.forget(before_step * self.every)

    def notes(self, first_step: int, after_step: int) -> tuple[str, ...]:
        """How often the speaker could not be told."""
        if self._speaking is None:
            return ()
        return self._speaking.notes(first_step * self.every, after_step * self.every)

    def close(self) -> None:
        """Free the tools."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _instants(self, decided: Iterable[tuple[_Frame, Iterable[int]]]) -> list[Instant]:
        found = []
        for frame, tracks in decided:
            if frame.index % self.every == 0:
                chosen = ((track, *frame.faces[track]) for track in tracks)
                faces = tuple(Face(track, float(seen.middle[0]), kept) for track, seen, kept in chosen)
                found.append(Instant(frame.index // self.every, faces))
        return found


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

    def ready(self, before: float = -math.inf) -> Iterator[tuple[_Frame, list[int]]]:
        """The frames that can be decided, and those before this index whatever is missing, with the track if any."""
        while self._waiting and (self._waiting[0].index < before or self._complete(self._waiting[0].index)):
            frame = self._waiting.popleft()
            track = self._decide(frame)
            yield frame, [] if track is None else [track]

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
