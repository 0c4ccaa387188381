"""Who counts, step by step: everybody at once, or the speaker once picture and sound around are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from extractors.facial.face_choice import FaceChoice, Instant
from extractors.facial.speech_energy import RATE_HZ

View = Callable[..., np.ndarray]
IMAGE = np.zeros((480, 640, 3), np.uint8)


class Places:
    """A source that finds faces where it is told, frame by frame."""

    def __init__(self, view: View, script: Sequence[Sequence[float]]) -> None:
        self._view, self._script, self.closed = view, iter(script), 0

    def find_all(self, image: np.ndarray) -> list[np.ndarray]:
        return [self._view(centre=(x, 240.0), scale=50.0) for x in next(self._script)]

    def close(self) -> None:
        self.closed += 1


def keep(image: np.ndarray, points: np.ndarray) -> int:
    """Where the face is, in hundreds of pixels."""
    return round(float(points[[10, 152], 0].mean()) / 100)


def choice(view: View, script: Sequence[Sequence[float]], **options: Any) -> FaceChoice:
    return FaceChoice(10.0, Places(view, script), keep, **{"speaking": False, **options})  # type: ignore[arg-type]


def told(instants: Sequence[Instant]) -> list[tuple[int, list[int]]]:
    return [(instant.step, [face.kept for face in instant.faces]) for instant in instants]


def test_everybody_counts_at_once_by_track(view: View) -> None:
    every = choice(view, [[400], [100, 400], []])
    assert told(every.push(IMAGE, [0, 1])) == [(0, [4]), (1, [4])]
    (both,) = every.push(IMAGE, [2])
    assert [(face.track, face.kept) for face in both.faces] == [(both.faces[0].track, 4), (both.faces[1].track, 1)]
    assert both.faces[0].track < both.faces[1].track
    assert both.faces[1].left == pytest.approx(100, abs=1)
    assert told(every.push(IMAGE, [3])) == [(3, [])]
    assert every.decide() == []
    assert every.notes(0, 4) == ()


def test_only_some_frames_are_steps(view: View) -> None:
    """Three frames to a step; a frame that is shown for several counts once for each step."""
    every = choice(view, [[100]] * 4, every=3)
    assert told(every.push(IMAGE, [0])) == [(0, [1])]
    assert told(every.push(IMAGE, [1, 2])) == []
    assert told(every.push(IMAGE, [3, 4, 5, 6])) == [(1, [1]), (2, [1])]


def test_a_speaker_waits_for_what_comes_around(view: View) -> None:
    """A second of picture after it, and as much sound and .2 s more; then in order, with nobody where nobody is."""
    one = choice(view, [[100, 400], [], *[[100, 400]] * 28], speaking=True)
    second = np.zeros(RATE_HZ, np.float32)
    assert one.listen(second, 0) == []
    decided = [instant for index in range(30) for instant in one.push(IMAGE, [index])]
    assert decided == []
    early = one.listen(second, RATE_HZ)
    assert [instant.step for instant in early] == list(range(8))
    assert [len(instant.faces) for instant in early] == [1, 0, *[1] * 6]
    assert [instant.step for instant in one.decide(12)] == [8, 9, 10, 11]
    assert [instant.step for instant in one.no_more_sound()] == list(range(12, 20))
    assert [instant.step for instant in one.decide()] == list(range(20, 30))
    assert one.notes(10, 25) == (
        "nobody's lips go with the sound in 1.5 of 1.5 s with several faces: there the largest stands in",
    )


def test_a_closed_choice_takes_no_frames(view: View) -> None:
    source = Places(view, [[100]])
    closed = FaceChoice(10.0, source, keep, speaking=False)  # type: ignore[arg-type]
    closed.close()
    closed.close()
    assert source.closed == 1
    with pytest.raises(RuntimeError, match="this stream is finished: ask the extractor for a fresh one"):
        closed.push(IMAGE, [0])
