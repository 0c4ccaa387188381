from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mmsa.scoring.lines import Line
from mmsa.scoring.overlay.painter import CARD, OverlayPainter
from mmsa.scoring.results import Score

MakeScore = Callable[..., Score]
GREEN = (20, 160, 40)


def _picture(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GREEN, np.uint8)


def _box(painter: OverlayPainter, canvas: np.ndarray) -> np.ndarray:
    left, top, right, bottom = painter.picture_box
    return canvas[top:bottom, left:right]


@pytest.mark.parametrize(("width", "height"), [(320, 320), (1280, 720), (101, 57), (360, 640), (1280, 100), (64, 2)])
def test_the_picture_is_whole_above_the_panel(make_score: MakeScore, width: int, height: int) -> None:
    painter = OverlayPainter(make_score("a.mp4"), [])
    size = painter.size(width, height)
    assert size[0] % 2 == size[1] % 2 == 0
    assert size[0] >= 640
    canvas = painter.paint(_picture(width, height), 1.0, None)
    assert canvas.shape == (size[1], size[0], 3)
    box = _box(painter, canvas)
    assert (box == GREEN).all()
    assert box.shape[1] / box.shape[0] == pytest.approx(width / height, rel=0.1)
    assert not (canvas[painter.picture_box[3] :] == GREEN).all(axis=2).any()


def test_pictures_of_another_shape_get_bars(make_score: MakeScore) -> None:
    painter = OverlayPainter(make_score("a.mp4"), [])
    painter.size(640, 360)
    box = _box(painter, painter.paint(_picture(360, 360), 0.0, None))
    assert (box[:, 150:490] == GREEN).all()
    assert not box[:, :139].any()


def test_subtitles_are_there_while_they_are_said(make_score: MakeScore) -> None:
    painter = OverlayPainter(make_score("a.mp4"), [Line(2.0, 4.0, "hello", "Ann"), Line(6.0, 8.0, "x " * 300)])
    painter.size(640, 360)
    pictures = {at: _box(painter, painter.paint(_picture(640, 360), at, None)) for at in (1.9, 2.1, 3.9, 4.1, 7.0)}
    changed = {at: (picture != GREEN).any(axis=2) for at, picture in pictures.items()}
    assert [bool(one.any()) for one in changed.values()] == [False, True, True, False, True]
    assert np.flatnonzero(changed[2.1].any(axis=1)).min() > 250
    assert (pictures[2.1] == pictures[3.9]).all()
    assert np.flatnonzero(changed[7.0].any(axis=1)).min() > 250  # a long one is cut, not grown


def test_the_face_is_drawn_on_the_picture_alone(make_score: MakeScore) -> None:
    painter = OverlayPainter(make_score("a.mp4"), [])
    painter.size(640, 360)
    turn = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    face = 0.5 + 0.2 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    picture = _picture(640, 360)
    without, drawn = painter.paint(picture, 1.0, None), painter.paint(picture, 1.0, face)
    rows, columns = np.nonzero((without != drawn).any(axis=2))
    assert rows.min() > 0.28 * 360
    assert rows.max() < 0.72 * 360
    assert columns.min() > 0.28 * 640
    assert columns.max() < 0.72 * 640
    assert len(rows) > 1000
    assert (picture == GREEN).all()


def test_sound_has_a_card(make_score: MakeScore) -> None:
    painter = OverlayPainter(make_score("in/voice.wav"), [])
    assert painter.size(0, 0)[0] == CARD[0]
    canvas = painter.paint(None, 1.0, None)
    assert (canvas[: painter.picture_box[3]] > 200).any()  # its name
    assert painter.notes == ()


def test_letters_without_a_font_are_told(make_score: MakeScore) -> None:
    painter = OverlayPainter(make_score("a.mp4"), [Line(0.0, 1.0, "\U0001f9ff\U00012000")])
    assert "boxes stand for them" in painter.notes[0]
