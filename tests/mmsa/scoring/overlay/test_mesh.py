from __future__ import annotations

import numpy as np

from mmsa.scoring.overlay.mesh import _lines, draw_mesh


def _face(left: float, top: float, size: float) -> np.ndarray:
    """Landmarks on a circle: enough to see where lines come to lie."""
    turn = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    return np.stack([left + size * (1 + np.cos(turn)) / 2, top + size * (1 + np.sin(turn)) / 2], axis=1)


def test_lines_lie_on_the_landmarks_and_nowhere_else() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    face = _face(0.25, 0.3, 0.4)
    draw_mesh(picture, face)
    rows, columns = np.nonzero(picture.any(axis=2))
    assert rows.min() >= 0.3 * 200 - 3
    assert rows.max() <= 0.7 * 200 + 3
    assert columns.min() >= 0.25 * 300 - 3
    assert columns.max() <= 0.65 * 300 + 3
    _, contours, _ = _lines()
    for point in face[np.unique(contours)] * (300, 200):
        x, y = np.round(point).astype(int)
        assert picture[y, x].max() > 80, (x, y)


def test_a_face_that_leaves_the_picture_is_cut() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    draw_mesh(picture, _face(0.8, -0.2, 0.5))
    assert picture[:, 80:].any()
    assert not picture[:, :75].any()
    draw_mesh(picture, _face(3.0, 3.0, 0.5))


def test_the_tables_name_landmarks() -> None:
    for pairs in _lines():
        assert pairs.shape[1] == 2
        assert pairs.min() >= 0
        assert pairs.max() < 478
