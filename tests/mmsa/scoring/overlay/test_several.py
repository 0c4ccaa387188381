"""The mesh on the faces that count: on drawn conversations through the whole rewriting, and by numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import extractors
from mmsa.scoring.encode import Plain, rewrite
from mmsa.scoring.overlay.several import _between, faces_of
from mmsa.scoring.overlay.track import FaceTrack
from mmsa.scoring.overlay.writer import _track
from tests.extractors.conftest import write_media
from tests.extractors.facial.conftest import Stage

STAGE = Stage()
LEFT, RIGHT = 250.0, 650.0


class Recorder(Plain):
    """Keeps where each face is, left to right, in pixels of the stage, by the time of the picture."""

    def __init__(self) -> None:
        self.places: dict[float, list[int]] = {}

    def paint(self, picture: Any, seconds: float, face: Any) -> Any:
        faces = [] if face is None else face
        self.places[round(seconds, 2)] = sorted(round(float(one[1, 0]) * 900) for one in faces)
        return super().paint(picture, seconds, face)


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The left one speaks for 2.5 s, then the right one; the right one moves a little to the right after that."""
    first, second = STAGE.syllables(31, 0.0, 2.5), STAGE.syllables(32, 2.5, 5.0)
    right: Callable[[float], float] = lambda t: RIGHT + 20 * max(0.0, t - 3.0)  # noqa: E731
    actors = [STAGE.actor("s15", lambda t: LEFT, first), STAGE.actor("s16", right, second)]
    path = tmp_path_factory.mktemp("overlay") / "talk.mp4"
    voice = STAGE.voice([first, second], 5.0)
    return write_media(path, frames=STAGE.draw(actors, 5.0), fps=STAGE.rate, samples=voice, rate=16000)


def drawn(path: Path, target: Path, faces: str) -> dict[float, list[int]]:
    mesh = extractors.build("facial.facemesh", landmarks="none", faces=faces, frames_per_second=5.0)
    painter = Recorder()
    written = rewrite(path, target, painter, track=_track(path, mesh))  # type: ignore[arg-type]
    assert written.frames == len(painter.places) == 50
    return painter.places


def test_the_speakers_mesh_changes_with_the_turn(conversation: Path, tmp_path: Path) -> None:
    """In every picture one face; the choice is that of the extractor itself."""
    places = drawn(conversation, tmp_path / "speaking.mp4", "speaking")
    for seconds, found in places.items():
        assert len(found) == 1
        if seconds <= 1.7:
            assert found == pytest.approx([LEFT], abs=12)
        if seconds >= 3.3:
            assert found == pytest.approx([RIGHT + 20 * (seconds - 3.0)], abs=12)


def test_everybodys_meshes_follow_everybody(conversation: Path, tmp_path: Path) -> None:
    """Half of the pictures lie between two that are looked at."""
    places = drawn(conversation, tmp_path / "all.mp4", "all")
    for seconds, found in places.items():
        assert found == pytest.approx([LEFT, RIGHT + 20 * max(0.0, seconds - 3.0)], abs=12)


def test_other_choices_keep_the_tracker_of_one_face(conversation: Path) -> None:
    for faces in ("first", "largest"):
        mesh = extractors.build("facial.facemesh", faces=faces)
        track = _track(conversation, mesh)  # type: ignore[arg-type]
        assert isinstance(track, FaceTrack)
        assert track.sound is None
        track.finish()


def test_the_faces_of_a_picture(conversation: Path) -> None:
    picture = STAGE.draw(
        [STAGE.actor("s16", lambda t: LEFT, lambda t: 0.0), STAGE.actor("s15", lambda t: RIGHT, lambda t: 0.0)], 0.1
    )[0]
    for faces, expected in (("all", [LEFT, RIGHT]), ("speaking", [RIGHT])):
        found = faces_of(extractors.build("facial.facemesh", faces=faces), picture)  # type: ignore[arg-type]
        assert found is not None
        assert found.shape == (len(expected), 478, 2)
        assert found[:, 1, 0] * 900 == pytest.approx(expected, abs=12)
        assert faces_of(extractors.build("facial.facemesh", faces=faces), np.zeros_like(picture)) is None  # type: ignore[arg-type]


def faces_at(*places: float) -> np.ndarray:
    return np.array([np.full((478, 2), place) for place in places]).reshape(-1, 478, 2)


def test_between_two_samples_each_face_moves_and_nobody_turns_into_another() -> None:
    one, other = faces_at(0.2, 0.8), faces_at(0.85, 0.22)
    assert _between(one, other, 0.25)[:, 0, 0] == pytest.approx([0.205, 0.8125])
    assert _between(one, other, 0.75)[:, 0, 0] == pytest.approx([0.8375, 0.215])
    assert _between(one, faces_at(), 0.4)[:, 0, 0] == pytest.approx([0.2, 0.8])
    assert len(_between(one, faces_at(), 0.6)) == 0
    assert _between(one, faces_at(0.5), 0.4)[:, 0, 0] == pytest.approx([0.2, 0.8])
